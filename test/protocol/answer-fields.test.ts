import { describe, expect, it } from 'vitest';
import type { ApiError, Result } from '../../protocol/api-error.ts';
import { parseChatCompletion, parseTextCompletion } from '../../protocol/completion.ts';
import { MAX_LOGIT_BIAS, MAX_VOCABULARY } from '../../protocol/limits.ts';
import { parseResponse } from '../../protocol/responses.ts';

type Parse = (fields: Record<string, unknown>) => Result<unknown, ApiError>;

const routes: [string, Parse][] = [
  [
    'chat completions',
    (fields) => parseChatCompletion({ model: 'm', messages: [{ role: 'user', content: 'hi' }], ...fields }),
  ],
  ['text completions', (fields) => parseTextCompletion({ model: 'm', prompt: 'hi', ...fields })],
  ['responses', (fields) => parseResponse({ model: 'm', input: 'hi', ...fields })],
];

const biases = (count: number): Record<string, number> =>
  Object.fromEntries(Array.from({ length: count }, (_, id) => [String(id), 1]));

/** What JSON can carry into a number's place, and what it cannot but a caller in this process can. */
const NO_NUMBERS: unknown[] = [NaN, Infinity, -Infinity, JSON.parse('1e309'), '1', true, [], {}, [1]];
const FAR: unknown[] = [2 ** 53, -(2 ** 53), 1e308, -1e308];

describe.each(routes)('%s', (_route, parse) => {
  it.each<[string, unknown[], unknown[]]>([
    ['temperature', [0, -0, 2, 5e-324], [-5e-324, 2.000001, ...FAR]],
    ['top_p', [0, -0, 5e-324, 1], [-5e-324, 1.000001, ...FAR]],
    ['top_k', [-1, 0, -0, 1, 1_000_000], [-2, 0.5, 1_000_001, ...FAR]],
    ['min_p', [0, -0, 5e-324, 1], [-5e-324, 1.000001, ...FAR]],
    ['frequency_penalty', [-2, -0, 0, 2], [-2.000001, 2.000001, ...FAR]],
    ['presence_penalty', [-2, -0, 0, 2], [-2.000001, 2.000001, ...FAR]],
    ['repetition_penalty', [5e-324, 1, 2], [0, -0, -1, 2.000001, ...FAR]],
    [
      'seed',
      [0, -0, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER],
      [0.5, 2 ** 53, -(2 ** 53), 1e308, -1e308],
    ],
  ])('%s at its boundaries', (field, good, bad) => {
    for (const value of good) expect(parse({ [field]: value }), String(value)).toMatchObject({ ok: true });
    for (const value of [...bad, ...NO_NUMBERS])
      expect(parse({ [field]: value }), String(value)).toMatchObject({
        ok: false,
        error: { code: 'invalid_request', param: field },
      });
    expect(parse({ [field]: null }).ok).toBe(true);
  });

  it.each<[string, unknown]>([
    ['nothing', {}],
    ['both bounds', { '0': -100, '7': 100, '8': -0 }],
    ['so many', biases(MAX_LOGIT_BIAS)],
    ['the last token there can be', { [String(MAX_VOCABULARY - 1)]: 1 }],
    ['null', null],
  ])('logit_bias: %s', (_what, map) => {
    expect(parse({ logit_bias: map }).ok).toBe(true);
  });

  it.each<[string, unknown, string]>([
    ['an array', [], 'logit_bias'],
    ['text', 'x', 'logit_bias'],
    ['one too many', biases(MAX_LOGIT_BIAS + 1), 'logit_bias'],
    ['a word', { hello: 1 }, 'logit_bias.hello'],
    ['an empty key', { '': 1 }, 'logit_bias.'],
    ['a negative id', { '-1': 1 }, 'logit_bias.-1'],
    ['a leading zero', { '01': 1 }, 'logit_bias.01'],
    ['a fraction', { '1.5': 1 }, 'logit_bias.1.5'],
    ['an exponent', { '1e3': 1 }, 'logit_bias.1e3'],
    ['2^53', { [String(2 ** 53)]: 1 }, `logit_bias.${2 ** 53}`],
    ['beyond every vocabulary', { [String(MAX_VOCABULARY)]: 1 }, `logit_bias.${MAX_VOCABULARY}`],
    ['__proto__', JSON.parse('{"__proto__": 1}'), 'logit_bias.__proto__'],
    ...[...NO_NUMBERS, ...FAR, 100.000001, -100.000001, null].map((bias): [string, unknown, string] => [
      String(bias),
      { '5': bias },
      'logit_bias.5',
    ]),
  ])('logit_bias that is refused: %s', (_what, map, param) => {
    expect(parse({ logit_bias: map })).toMatchObject({
      ok: false,
      error: { code: 'invalid_request', param },
    });
  });

  it.each<[string, unknown, boolean]>([
    ['one text', 'a', true],
    ['none', [], true],
    ['an empty one, which is none', '', true],
    ['empty ones', ['', ''], true],
    ['an empty one among others', ['a', ''], false],
    ['32', Array(32).fill('a'), true],
    ['33', Array(33).fill('a'), false],
    ['256 characters', 'a'.repeat(256), true],
    ['257 characters', 'a'.repeat(257), false],
    ['a number', 1, false],
  ])('stop: %s', (_what, stop, good) => {
    const parsed = parse({ stop });
    expect(parsed.ok).toBe(good);
    if (!parsed.ok) expect(parsed.error).toMatchObject({ param: expect.stringMatching(/^stop/) });
  });
});

describe('n', () => {
  it.each(routes.slice(0, 2))('%s', (_route, parse) => {
    for (const n of [1, 8, null]) expect(parse({ n }).ok).toBe(true);
    for (const n of [0, -0, -1, 9, 1.5, ...FAR, ...NO_NUMBERS])
      expect(parse({ n }), String(n)).toMatchObject({ error: { code: 'invalid_request', param: 'n' } });
  });

  it('is no field of responses', () => {
    expect(routes[2]![1]({ n: 1 })).toMatchObject({ value: { ignored: ['n'] } });
    expect(routes[2]![1]({ n: 2 })).toMatchObject({ error: { code: 'unsupported_parameter', param: 'n' } });
  });
});
