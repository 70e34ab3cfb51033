import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Automaton, automatonOf, both, butNot } from '../../../gpu-origin/grammar/automaton.ts';
import { GrammarError, MAX_WORK, Work } from '../../../gpu-origin/grammar/ebnf.ts';
import { readRegex } from '../../../gpu-origin/grammar/automaton-rules.ts';

const read = (pattern: string, work: Work, anywhere = false): Automaton =>
  automatonOf(readRegex(pattern, { anywhere, work }), work);

function accepts(automaton: Automaton, text: string): boolean {
  let state = automaton[0]!;
  for (const character of text) {
    const code = character.codePointAt(0)!;
    const edges = state.next.filter(({ ranges }) => ranges.some(([from, to]) => from <= code && code <= to));
    expect(edges.length).toBeLessThanOrEqual(1);
    if (edges[0] === undefined) return false;
    state = automaton[edges[0].to]!;
  }
  return state.accepts;
}

/** Ranges of an edge are sorted with something between them, and no two of a state overlap. */
function expectApart(automaton: Automaton): void {
  for (const { next } of automaton) {
    for (const { ranges } of next)
      for (const [at, [from, to]] of ranges.entries()) {
        expect(from).toBeLessThanOrEqual(to);
        if (at > 0) expect(from).toBeGreaterThan(ranges[at - 1]![1] + 1);
      }
    const all = next.flatMap(({ ranges }) => ranges).sort((a, b) => a[0] - b[0]);
    for (const [at, [from]] of all.entries()) if (at > 0) expect(from).toBeGreaterThan(all[at - 1]![1]);
  }
}

const atom = fc.constantFrom('a', 'b', '[ab]', '[^a]', '.', '\\d', 'é', '[è-ê]', '\\w', '\\S', '[^\\sé]', '');
const { pattern: anyPattern } = fc.letrec<{ pattern: string }>((tie) => ({
  pattern: fc.oneof(
    { maxDepth: 4 },
    atom,
    fc.tuple(tie('pattern'), tie('pattern')).map(([a, b]) => a + b),
    fc.array(tie('pattern'), { minLength: 2, maxLength: 3 }).map((parts) => `(${parts.join('|')})`),
    fc
      .tuple(tie('pattern'), fc.constantFrom('*', '+', '?', '{2}', '{0}', '{1,3}', '{0,2}', '{2,}', '{2,4}'))
      .map(([part, count]) => `(?:${part})${count}`),
  ),
}));
const anyText = fc
  .array(fc.constantFrom('a', 'b', 'é', 'è', '1', '日', '\n', '😀'), { maxLength: 8 })
  .map((all) => all.join(''));
const someTexts = fc.array(anyText, { minLength: 12, maxLength: 12 });

/** @returns null where nothing fits: there is no such automaton. */
function made(make: () => Automaton): Automaton | null {
  try {
    return make();
  } catch (error) {
    if (error instanceof GrammarError && error.message === 'matches no text') return null;
    throw error;
  }
}

describe('an automaton', () => {
  it.each([false, true])('accepts what the regular expression matches (anywhere: %s)', (anywhere) => {
    fc.assert(
      fc.property(anyPattern, someTexts, (pattern, texts) => {
        const work = new Work();
        const automaton = read(pattern, work, anywhere);
        const expression = new RegExp(anywhere ? pattern : `^(?:${pattern})$`, 'u');
        expectApart(automaton);
        expect(work.spent).toBeLessThanOrEqual(MAX_WORK);
        for (const text of texts)
          expect(accepts(automaton, text), `${pattern} on ${JSON.stringify(text)}`).toBe(
            expression.test(text),
          );
      }),
      { numRuns: 200, seed: 3 },
    );
  });

  it('of two accepts what both match', () => {
    fc.assert(
      fc.property(anyPattern, anyPattern, someTexts, (one, other, texts) => {
        const work = new Work();
        const automaton = made(() => both(read(one, work), read(other, work), work));
        const expressions = [one, other].map((pattern) => new RegExp(`^(?:${pattern})$`, 'u'));
        if (automaton !== null) expectApart(automaton);
        for (const text of texts)
          expect(automaton !== null && accepts(automaton, text), `${one} and ${other} on ${text}`).toBe(
            expressions.every((expression) => expression.test(text)),
          );
      }),
      { numRuns: 200, seed: 4 },
    );
  });

  it('without some texts accepts all others that match', () => {
    fc.assert(
      fc.property(
        anyPattern,
        fc.array(anyText, { minLength: 1, maxLength: 5 }),
        someTexts,
        (pattern, left, texts) => {
          const work = new Work();
          const automaton = made(() => butNot(read(pattern, work), left, work));
          const expression = new RegExp(`^(?:${pattern})$`, 'u');
          for (const text of [...texts, ...left])
            expect(
              automaton !== null && accepts(automaton, text),
              `${pattern} less ${left.join()} on ${text}`,
            ).toBe(expression.test(text) && !left.includes(text));
        },
      ),
      { numRuns: 200, seed: 5 },
    );
  });

  it.each<[what: string, pattern: string, states: number, most: number]>([
    // One run of them: three steps for each, not one for each pair.
    ['optional parts', '(x?){256}', 257, 3_000],
    ['optional parts in optional parts', '((x?){16}){16}', 257, 3_000],
    ['a bounded run', 'x{0,256}', 257, 3_000],
    ['bounded runs in one another', '((x{0,4}){4}){8}', 129, 2_000],
    // Lists of characters are compared once, not at each state.
    ['a wide class', `[${wide(256)}]{256}`, 257, 4_500],
    ['250 classes that share a character', `(${shared(250)}){2}`, 3, 10_000],
    ['runs of which one has the others', '\\w{0,20}\\d{0,20}\\s{0,20}', 441, 60_000],
    ['an address', 'https?://[\\w.-]{1,64}(/[\\w.-]{1,32}){0,5}', 238, 13_000],
  ])('of %s has its states for little work', (_what, pattern, states, most) => {
    const work = new Work();
    expect(read(pattern, work)).toHaveLength(states);
    expect(work.spent).toBeLessThanOrEqual(most);
  });

  it('is refused where its parts or states are too many', () => {
    const work = new Work();
    expect(() => read('(ab){250}'.repeat(12), work)).toThrow('too many states');
    expect(work.spent).toBeLessThanOrEqual(12_000);
    expect(() => read('(y?x{20}){250}', new Work())).toThrow('too many states');
    expect(() => read('[ab]*a[ab]{20}', new Work())).toThrow('too many states');
  });
});

function wide(count: number): string {
  return Array.from({ length: count }, (_, at) => String.fromCodePoint(0x4e00 + 3 * at)).join('');
}

function shared(count: number): string {
  return [...wide(count)].map((one) => `[${one}a]`).join('|');
}

describe('work', () => {
  it('ends at its limit, whatever it was spent on', () => {
    const work = new Work();
    work.spend(MAX_WORK);
    expect(work.isSpent).toBe(false);
    expect(() => work.spend(1)).toThrow(GrammarError);
    expect(work.isSpent).toBe(true);
    expect(() => read('a', work)).toThrow('takes too long');
  });
});
