/** Schemas, expressions and lists that are short and expensive must end after a counted amount of work. */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { grammarOf, toolGrammarOf } from '../../gpu-origin/grammar/constraint-grammar.ts';
import { MAX_WORK, Work } from '../../gpu-origin/grammar/ebnf.ts';
import { FORMATS } from '../../gpu-origin/grammar/schema-rules.ts';
import { parseChatCompletion } from '../../protocol/completion.ts';
import type { Constraint, FunctionDefinition } from '../../protocol/request-fields.ts';
import { ANSWER_SCHEMAS } from '../fixtures/answer-schemas.ts';
import { startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';

const regex = (pattern: string): Constraint => ({ kind: 'regex', pattern });
const ofSchema = (schema: unknown): Constraint => ({ kind: 'json_schema', schema });
const ofGrammar = (grammar: string): Constraint => ({ kind: 'grammar', grammar });
const many = <T>(count: number, make: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, at) => make(at));
const properties = (count: number, make: (at: number) => object): object => ({
  type: 'object',
  properties: Object.fromEntries(many(count, (at) => [`p${at}`, make(at)])),
});
/** No two of them are one range. */
const apart = (count: number): string => many(count, (at) => String.fromCodePoint(0x4e00 + 3 * at)).join('');

const made = (constraint: Constraint) => {
  const work = new Work();
  return { result: grammarOf({ constraint, path: ['field'] }, work), work: work.spent };
};

/** What ends it is counted before it is done. */
const LIMIT = MAX_WORK + 1_000;

const TOO_MUCH = 'takes too long to turn into a grammar';
const STATES = 'has too many states';

describe('what is refused', () => {
  it.each<[string, Constraint, says: string, most: number]>([
    ['optional in optional', regex('((x?){100}){100}'), STATES, 6_000],
    ['fewer of them', regex('((x?){60}){60}'), STATES, 20_000],
    ['runs that may begin anywhere', regex('(\\w?){256}(\\d?){256}(\\s?){256}'), STATES, LIMIT],
    ['three repetitions in one another', regex('(([a-z]{0,250}){0,250}){0,25}'), STATES, 6_000],
    ['repetitions of nothing', regex('((((){256}){256}){256}){256}'), TOO_MUCH, LIMIT],
    [
      'a class of 600 characters',
      regex(`[${apart(600)}]{256}`),
      'a class of 600 separate character ranges',
      2_000,
    ],
    ['two choices of what was long ago', regex('[ab]*a[ab]{250}'), STATES, LIMIT],
    [
      'many of those',
      regex(`(${many(20, (at) => `.*${'ab'[at % 2]}.{${at + 10}}`).join('|')})`),
      TOO_MUCH,
      LIMIT,
    ],
    [
      'lists of lists',
      ofSchema(properties(400, (at) => ({ type: 'array', items: { const: at }, maxItems: 1_000 }))),
      'more than 65536 items',
      20_000,
    ],
    [
      'bounds without end',
      ofSchema(properties(900, (at) => ({ type: 'number', minimum: -at, maximum: 10 ** 14 + at }))),
      'has more than 500',
      1_000,
    ],
    [
      'bounds',
      ofSchema(properties(500, (at) => ({ type: 'number', minimum: -at, maximum: 10 ** 14 + at }))),
      TOO_MUCH,
      LIMIT,
    ],
    [
      'lengths',
      ofSchema(
        properties(500, (at) => ({ type: 'string', minLength: at % 128, maxLength: 256 - (at % 97) })),
      ),
      'is too large',
      LIMIT,
    ],
    [
      'repetitions of a grammar in one another',
      ofGrammar('root ::= (("a"{256}){256}){256}'),
      'more than 65536 parts',
      100,
    ],
    [
      'repetitions of a grammar in a row',
      ofGrammar(`root ::= ${'"a"{256} '.repeat(1_500)}`),
      'more than 65536 parts',
      10_000,
    ],
    [
      'groups of a grammar',
      ofGrammar(`root ::= ${'('.repeat(3_000)}"a"${')'.repeat(3_000)}`),
      'groups more than 64 deep',
      100,
    ],
    ['classes of a grammar', ofGrammar(`root ::= ${'[^é] '.repeat(3_000)}`), 'is too large', 70_000],
    [
      'different classes of a grammar',
      ofGrammar(`root ::= ${many(900, (at) => `[^${String.fromCodePoint(0x100 + at)}é]`).join(' ')}`),
      'is too large',
      LIMIT,
    ],
  ])('%s', (_name, constraint, says, most) => {
    const { result, work } = made(constraint);
    expect(result).toMatchObject({
      ok: false,
      error: {
        message: expect.stringContaining(says) as string,
        param: expect.stringMatching(/^field/) as string,
      },
    });
    expect(work).toBeLessThanOrEqual(most);
  });
});

describe('what is accepted', () => {
  it.each<[string, Constraint, most: number]>([
    [
      'one of 10,000 constants in 100 lists',
      ofSchema({ oneOf: many(100, (i) => ({ enum: many(100, (j) => `v${i}_${j}`) })) }),
      60_000,
    ],
    ['3,000 constants apart', ofSchema({ oneOf: many(3_000, (at) => ({ const: at })) }), 50_000],
    [
      'a union of 500 objects',
      ofSchema({
        oneOf: many(500, (at) => ({ type: 'object', required: ['a'], properties: { a: { const: at } } })),
      }),
      50_000,
    ],
    [
      'names needed 12,000 times',
      ofSchema({ type: 'object', required: many(12_000, (at) => `k${at % 400}`) }),
      30_000,
    ],
    ['texts that begin alike', { kind: 'choice', choices: many(360, (at) => 'a'.repeat(at + 1)) }, 20_000],
    [
      '1,000 texts of 64 characters',
      { kind: 'choice', choices: many(1_000, (at) => String(at).padStart(64, 'ab')) },
      40_000,
    ],
    ['a class of 256 characters, 256 times', regex(`[${apart(256)}]{256}`), 20_000],
    ['any 256 characters', regex('[\\s\\S]{0,256}'), 10_000],
    [
      'a word of 254 characters, as a text',
      ofSchema({ type: 'string', maxLength: 254, pattern: '^[A-Za-z0-9 .,_-]+$' }),
      10_000,
    ],
    ['six long texts', ofSchema(properties(6, (at) => ({ type: 'string', maxLength: 200 + at }))), 60_000],
    [
      'an object of 500 properties and others',
      ofSchema({ ...properties(500, () => ({ type: 'string' })), additionalProperties: true }),
      40_000,
    ],
    [
      '100 numbers with bounds of their own',
      ofSchema(properties(100, (at) => ({ type: 'integer', minimum: at, maximum: 1_000 + 37 * at }))),
      100_000,
    ],
  ])('%s', (_name, constraint, most) => {
    const { result, work } = made(constraint);
    expect(result).toMatchObject({ ok: true });
    expect(work).toBeLessThanOrEqual(most);
  });

  it('what people ask for, for a twentieth of the work', () => {
    const asked = {
      ...ANSWER_SCHEMAS,
      ...Object.fromEntries([...FORMATS.keys()].map((format) => [format, { type: 'string', format }])),
    };
    for (const [name, schema] of Object.entries(asked)) {
      const { result, work } = made(ofSchema(schema));
      expect(result, name).toMatchObject({ ok: true });
      expect(work, name).toBeLessThanOrEqual(MAX_WORK / 20);
    }
  });

  it("OpenAI's own schemas, but for words that are not understood", () => {
    const file = new URL('../fixtures/openai-schema/openai.json', import.meta.url);
    const { $defs } = JSON.parse(readFileSync(file, 'utf8')) as { $defs: Record<string, unknown> };
    const results = Object.keys($defs).map((name) => made(ofSchema({ $defs, $ref: `#/$defs/${name}` })));
    expect(results.filter(({ result }) => result.ok)).toHaveLength(57);
    for (const { result, work } of results) {
      if (!result.ok) expect(result.error.message).toMatch(/not' is a keyword|allOf' is supported with one/);
      expect(work).toBeLessThanOrEqual(MAX_WORK / 60);
    }
  });
});

describe('functions', () => {
  const toolsOf = (functions: readonly FunctionDefinition[]) => {
    const work = new Work();
    const result = toolGrammarOf(
      {
        ...{ use: { functions, choice: 'auto', parallel: true }, format: 'hermes', constraint: null },
        pathOf: (at) => ['tools', at],
      },
      work,
    );
    return { result, work: work.spent };
  };
  const named = (count: number, parameters: (at: number) => object, strict: boolean) =>
    many(count, (at) => ({ name: `f${at}`, strict, parameters: parameters(at) as Record<string, unknown> }));

  it('share one budget, which is theirs to spend once', () => {
    const schemas = Object.values(ANSWER_SCHEMAS);
    const ordinary = toolsOf(named(128, (at) => schemas[at % schemas.length]!, false));
    expect(ordinary.result.ok).toBe(true);
    expect(ordinary.work).toBeLessThanOrEqual(20_000);
    for (const strict of [true, false]) {
      const bounds = (at: number) =>
        properties(100, (i) => ({ type: 'integer', minimum: i, maximum: 10 ** 6 + 7 * at + i }));
      const { result, work } = toolsOf(named(128, bounds, strict));
      expect(result).toMatchObject({
        ok: false,
        error: { param: expect.stringMatching(/^tools\[\d+\]\.parameters/) as string },
      });
      expect(work).toBeLessThanOrEqual(LIMIT);
    }
  });

  it('that are not strict are held to JSON where their schema is not understood, and leave no rules behind', () => {
    const properties = { a: { type: 'string', format: 'uri' }, b: { not: {} } };
    const late = toolsOf([{ name: 'odd', parameters: { type: 'object', properties } }]);
    const early = toolsOf([{ name: 'odd', parameters: { not: {} } }]);
    if (!late.result.ok || !early.result.ok) throw new Error('refused');
    const rules = (text: string) => text.split('\n').length;
    expect(rules(late.result.value)).toBe(rules(early.result.value));
    expect(late.work).toBeGreaterThan(early.work + 1_000);
  });
});

describe('a request', () => {
  const asked = (fields: object) =>
    parseChatCompletion({ model: 'base', messages: [{ role: 'user', content: 'x' }], ...fields });

  it('has at most 65,536 bytes in the texts of a choice', () => {
    const choices = many(64, (at) => String(at).padStart(1_024, 'a'));
    expect(asked({ guided_choice: choices }).ok).toBe(true);
    expect(asked({ guided_choice: [...choices, 'a'] })).toMatchObject({
      ok: false,
      error: { param: 'guided_choice', message: expect.stringContaining('65536 bytes') as string },
    });
    expect(asked({ structured_outputs: { choice: many(64, () => 'é'.repeat(513)) } })).toMatchObject({
      ok: false,
      error: { param: 'structured_outputs.choice' },
    });
  });

  let origin: Origin;
  beforeEach(async () => {
    origin = await startTestOrigin();
  });
  afterEach(() => origin.stop());

  it.each<[object, string]>([
    [{ guided_regex: '((x?){100}){100}' }, 'guided_regex'],
    [{ structured_outputs: { regex: '(\\w?){256}(\\d?){256}(\\s?){256}' } }, 'structured_outputs.regex'],
    [
      {
        response_format: {
          type: 'json_schema',
          json_schema: {
            name: 'x',
            schema: { type: 'object', properties: { a: { type: 'string', pattern: '((x?){100}){100}' } } },
          },
        },
      },
      'response_format.json_schema.schema.properties.a.pattern',
    ],
    [
      {
        tools: [
          {
            type: 'function',
            function: {
              name: 'f',
              strict: true,
              parameters: {
                type: 'object',
                properties: { a: { type: 'string', pattern: '((x?){100}){100}' } },
              },
            },
          },
        ],
      },
      'tools[0].function.parameters.properties.a.pattern',
    ],
  ])('with %j is refused by its field', async (fields, param) => {
    const response = await fetch(`${origin.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({
        model: 'fake',
        messages: [{ role: 'user', content: 'x' }],
        max_tokens: 1,
        ...fields,
      }),
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { param, message: expect.stringContaining('shorten its repetitions') as string },
    });
  });
});
