import { stripVTControlCharacters } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  judgeByModel,
  judgeQuestion,
  readChoice,
  type Pairing,
  judgeByPerson,
  showsFirst,
} from '../../../cli/compare/judge.ts';
import { fakeCompletions } from './fake-completions.ts';

const answer = (name: string, text = name) =>
  ({ kind: 'answer', line: 1, name, adapter: `${name}@1`, text, ended: true }) as const;
const pairing = (line = 1, a = 'a', b = 'b'): Pairing => ({
  line,
  row: { user: 'u' },
  a: answer(a),
  b: answer(b),
});

describe('readChoice', () => {
  it.each([
    ['A', 'first'],
    [' b.', 'second'],
    ['**B**', 'second'],
    ['Answer A is better', 'first'],
    ['Answer: [B]', 'second'],
    ['T', 'tie'],
    ['Tie.', 'tie'],
    ['A tie', 'tie'],
    ['A or B', 'first'],
    ['Both are fine', null],
    ['An answer', null],
    ['The first', null],
    ['', null],
    ['42', null],
  ])('%j -> %s', (reply, choice) => {
    expect(readChoice(reply)).toBe(choice);
  });
});

describe('judgeByModel', () => {
  /** Says each in turn: first with a's answer first, then with b's. */
  const saying = (...replies: [string, string]) => {
    const fake = fakeCompletions(
      (body) => replies[body.messages![1]!.content.indexOf('[Answer A]\na') > 0 ? 0 : 1]!,
    );
    return judgeByModel({ asking: fake, judge: 'j', model: 'j@1', pairing: pairing() });
  };

  it.each([
    [['A', 'B'], 'a'],
    [['B', 'A'], 'b'],
    [['A', 'A'], null],
    [['B', 'B'], null],
    [['T', 'T'], null],
    [['A', 'T'], null],
    [['A', 'hm'], null],
  ] as const)('a win only when both orders agree: %j -> %s', async (replies, winner) => {
    expect(await saying(...(replies as [string, string]))).toMatchObject({ winner, skipped: false });
  });

  it('reports the preferred position, and keeps unreadable replies', async () => {
    const { asked } = await saying('A', 'who knows');
    expect(asked).toEqual([
      { first: 'a', chose: 'a' },
      { first: 'b', chose: null, unclear: 'who knows' },
    ]);
  });

  it('asks greedily, with the expected answer if there is one', async () => {
    const fake = fakeCompletions(() => 'T');
    await judgeByModel({
      asking: fake,
      judge: 'j',
      model: 'j',
      pairing: { ...pairing(), row: { prompt: 'p', expected: 'good' } },
    });
    expect(fake.asked[0]).toMatchObject({ path: '/v1/chat/completions', model: 'j', temperature: 0 });
    expect(judgeQuestion({ prompt: 'p', expected: 'good' }, 'x', 'y')).toContain('[A good answer]\ngood\n');
    expect(judgeQuestion({ user: 'u' }, 'x', 'y')).not.toContain('good');
  });
});

describe('showsFirst', () => {
  it('is a fair coin of the seed and the prompt', () => {
    const firsts = Array.from({ length: 4_000 }, (_, line) => showsFirst(1, pairing(line)));
    const share = firsts.filter((side) => side === 'a').length / firsts.length;
    expect(Math.abs(share - 0.5)).toBeLessThan(0.03);
    // Not the same or the opposite of its neighbour, or of another seed.
    const same = firsts.filter((side, i) => side === firsts[i + 1]).length / firsts.length;
    expect(Math.abs(same - 0.5)).toBeLessThan(0.03);
    const other = firsts.filter((side, line) => side === showsFirst(2, pairing(line))).length / firsts.length;
    expect(Math.abs(other - 0.5)).toBeLessThan(0.03);
  });

  it('shows the same name first whichever is called a', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.string(), fc.string(), (seed, line, x, y) => {
        fc.pre(x !== y);
        const one = pairing(line, x, y);
        const other = pairing(line, y, x);
        expect(one[showsFirst(seed, one)].name).toBe(other[showsFirst(seed, other)].name);
      }),
    );
  });
});

describe('judgeByPerson', () => {
  it('marks empty and truncated answers, and ignores other keys', async () => {
    let shown = '';
    const given = { ...pairing(), a: answer('a', ' \n'), b: { ...answer('b', 'Once'), ended: false } };
    const verdicts: unknown[] = [];
    const all = await judgeByPerson({
      pairings: [given],
      seed: 1,
      keys: (async function* () {
        yield* ['x', '\r', 'T'];
      })(),
      write: (text) => (shown += text),
      onVerdict: (verdict) => verdicts.push(verdict),
    });
    expect(all).toBe(true);
    expect(stripVTControlCharacters(shown)).toMatch(/^\(nothing\)$/m);
    expect(stripVTControlCharacters(shown)).toMatch(/^Once \(cut off at its length\)$/m);
    expect(shown).toMatch(/tie\n\n$/);
    expect(verdicts).toMatchObject([{ winner: null, skipped: false }]);
  });
});
