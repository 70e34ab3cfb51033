import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { GrammarCore } from '../../../gpu-origin/grammar/grammar-core.ts';
import { createByteCore, refusalOf, walkerOf } from './byte-core.ts';

let core: GrammarCore;
beforeAll(async () => {
  core = await createByteCore();
});

const atom = fc.constantFrom('a', 'b', '[ab]', '[^a]', '.', '\\d', 'é', '[è-ê]', '\\w');
const { pattern: anyPattern } = fc.letrec<{ pattern: string }>((tie) => ({
  pattern: fc.oneof(
    { maxDepth: 3 },
    atom,
    fc.tuple(tie('pattern'), tie('pattern')).map(([a, b]) => a + b),
    fc.array(tie('pattern'), { minLength: 2, maxLength: 3 }).map((parts) => `(${parts.join('|')})`),
    fc
      .tuple(tie('pattern'), fc.constantFrom('*', '+', '?', '{2}', '{1,3}', '{2,}'))
      .map(([part, count]) => `(?:${part})${count}`),
  ),
}));
const text = fc.array(fc.constantFrom('a', 'b', 'é', 'è', '1', '日', '\n'), { maxLength: 6 });

it('matches what a regular expression matches, and nothing else', async () => {
  await fc.assert(
    fc.asyncProperty(anyPattern, fc.array(text, { minLength: 8, maxLength: 8 }), async (pattern, texts) => {
      const walker = await walkerOf(core, { kind: 'regex', pattern });
      const expression = new RegExp(`^(?:${pattern})$`, 'u');
      for (const characters of texts) {
        const one = characters.join('');
        expect(await walker.accepts(one), `${pattern} on ${JSON.stringify(one)}`).toBe(expression.test(one));
      }
    }),
    { numRuns: 80, seed: 11 },
  );
});

it('matches each of some texts, and nothing else', async () => {
  const word = fc
    .array(fc.constantFrom('a', 'b', 'é', 'è'), { minLength: 1, maxLength: 6 })
    .map((all) => all.join(''));
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(word, { minLength: 1, maxLength: 5 }),
      fc.array(word),
      async (choices, others) => {
        const walker = await walkerOf(core, { kind: 'choice', choices });
        const joined = choices.flatMap((one) => choices.map((other) => one + other));
        for (const one of [...choices, ...others, ...joined])
          expect(await walker.accepts(one), `${choices.join()} on ${one}`).toBe(choices.includes(one));
      },
    ),
    { numRuns: 40, seed: 5 },
  );
});

describe("a client's grammar", () => {
  const accepts = async (grammar: string, good: string[], bad: string[]): Promise<void> => {
    const walker = await walkerOf(core, { kind: 'grammar', grammar });
    for (const one of good) expect(await walker.accepts(one), one).toBe(true);
    for (const one of bad) expect(await walker.accepts(one), one).toBe(false);
  };

  it('has all characters, in texts and in classes', async () => {
    await accepts('root ::= "é" [à-ü日] [^\\n"é]', ['éö"'.replace('"', 'x'), 'é日本'], ['éxx', 'éö"', 'éöé']);
    await accepts('root ::= "\\u00e9" # "é"\n', ['é'], ['è', 'é#']);
    await accepts(
      'root ::= "[" item ("," item){0,2} "]"\nitem ::= [0-9]+',
      ['[1]', '[12,3,4]'],
      ['[]', '[1,2,3,4]'],
    );
  });

  it.each([
    'root ::= "a',
    'root ::= [a',
    'root ::= [b-a]',
    'root ::= "\\q"',
    'root ::= "a"{1,100000}',
    'root ::= "\\uzzzz"',
  ])('is refused before it is compiled: %s', (grammar) => {
    expect(refusalOf({ kind: 'grammar', grammar })).toMatchObject({
      code: 'invalid_request',
      param: 'place',
    });
  });
});
