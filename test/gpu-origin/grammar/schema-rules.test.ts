import { Ajv2020 } from 'ajv/dist/2020.js';
import { beforeAll, describe, expect, it } from 'vitest';
import type { GrammarCore } from '../../../gpu-origin/grammar/grammar-core.ts';
import { createByteCore, ofSchema, refusalOf, walkerOf } from './byte-core.ts';

let core: GrammarCore;
beforeAll(async () => {
  core = await createByteCore();
});

const ajv = new Ajv2020({ strict: false, validateFormats: false });
const node = {
  type: 'object',
  properties: { v: { type: 'integer' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
  required: ['v', 'next'],
};

/** Each schema with texts that it lets through and texts that it does not; `subset`: valid, and kept out all the same. */
const CASES: { schema: unknown; good: string[]; bad: string[]; subset?: string[] }[] = [
  { schema: {}, good: ['1', '{"a": [1, "ü", null]}'], bad: ['', 'x', '{"a":1'] },
  {
    schema: {
      type: 'object',
      properties: { a: { type: 'integer' }, b: { type: 'string' } },
      required: ['b'],
    },
    good: ['{"b":"x"}', '{"a": 1, "b": "x"}', '{\n  "a": 1,\n  "b": "x"\n}'],
    bad: ['{}', '{"a":1}', '{"a":"x","b":"x"}'],
    subset: ['{"b":"x","a":1}', '{"b":"x","c":1}'],
  },
  {
    schema: { type: 'object', properties: { a: { type: 'integer' }, b: { type: 'string' } } },
    good: ['{}', '{"a":1}', '{"b":"x"}', '{"a":1,"b":"x"}'],
    bad: ['{,}', '{"a":1,}', '{"a":1"b":"x"}'],
  },
  {
    schema: {
      type: 'object',
      properties: { a: { type: 'integer' }, ab: {} },
      additionalProperties: { type: 'string' },
    },
    good: ['{"a":1,"b":"x","abc":"y"}', '{"b":"x"}', '{"":"x"}', '{"ü":"x"}'],
    bad: ['{"a":"x"}', '{"b":1}', '{"a":1,"a":"x"}', '{"b":"x","ab":true}'],
    subset: ['{"\\u0062":"x"}'],
  },
  { schema: { type: 'object', properties: {} }, good: ['{}'], bad: [], subset: ['{"a":1}'] },
  { schema: { type: 'object' }, good: ['{}', '{"a":{"b":[]}}'], bad: ['[]'] },
  {
    schema: { type: 'object', additionalProperties: { type: 'integer' }, minProperties: 1, maxProperties: 2 },
    good: ['{"a":1}', '{"a":1,"b":2}'],
    bad: ['{}', '{"a":1,"b":2,"c":3}', '{"a":"x"}'],
  },
  { schema: { type: 'object', required: ['z'] }, good: ['{"z":1}'], bad: ['{}'], subset: ['{"z":1,"y":2}'] },
  { schema: { type: ['string', 'null'] }, good: ['"a"', 'null'], bad: ['1'] },
  {
    schema: { enum: ['a"\\ü', 1, null, { b: [1] }] },
    good: ['"a\\"\\\\ü"', '1', 'null', '{"b":[1]}'],
    bad: ['"a"', '2'],
    subset: ['{"b": [1]}'],
  },
  { schema: { type: 'string', enum: ['a', 1] }, good: ['"a"'], bad: ['1'] },
  { schema: { const: 'é' }, good: ['"é"'], bad: ['"e"'] },
  { schema: { type: 'string' }, good: ['""', '"😀\\n\\u00e9"'], bad: ['"\n"', '"\\x"', '"'] },
  {
    schema: { type: 'string', minLength: 2, maxLength: 3 },
    good: ['"ab"', '"a\\nb"', '"😀😀"', '"日本語"'],
    bad: ['"a"', '"abcd"'],
  },
  { schema: { type: 'string', minLength: 2 }, good: ['"ab"', '"abcdef"'], bad: ['"a"'] },
  { schema: { type: 'string', pattern: '^a+$' }, good: ['"a"', '"aaa"'], bad: ['"b"', '""', '"ab"'] },
  { schema: { type: 'string', pattern: 'a+' }, good: ['"a"', '"bab"', '"\\"a"'], bad: ['"b"'] },
  { schema: { type: 'string', pattern: '^a|b$' }, good: ['"ax"', '"xb"'], bad: ['"xa"', '"bx"'] },
  {
    schema: { type: 'string', pattern: '^[^a]$' },
    good: ['"b"', '"\\""', '"\\\\"', '"ü"', '"\\n"'],
    bad: ['"a"', '"\\"', '""'],
  },
  {
    schema: { type: 'string', pattern: '^[ä-ü日]{2}$' },
    good: ['"öü"', '"日ä"'],
    bad: ['"aä"', '"本本"', '"ÿÿ"'],
  },
  {
    schema: { type: 'string', pattern: '^\\S+@(\\w|-)+\\.[a-z]{2,3}$' },
    good: ['"ä@b-c.de"'],
    bad: ['"a @b.de"'],
  },
  {
    schema: { type: 'string', pattern: '^a+$', minLength: 2, maxLength: 3 },
    good: ['"aa"', '"aaa"'],
    bad: ['"a"', '"aaaa"', '"ab"'],
  },
  {
    schema: { enum: ['ababa', 'aba', 'é', 'è'] },
    good: ['"ababa"', '"é"', '"è"'],
    bad: ['"abababa"', '"ab"', '"ë"'],
  },
  {
    schema: { anyOf: [{ enum: ['ababa', 'x'] }, { const: 'aba' }] },
    good: ['"ababa"', '"aba"'],
    bad: ['"abababa"', '"ab"'],
  },
  {
    schema: {
      anyOf: [
        { type: 'string', format: 'date' },
        { type: 'string', format: 'date-time' },
      ],
    },
    good: ['"2024-02-28"', '"2024-02-28T10:00:00Z"'],
    bad: ['"2024-02-28T"', '"2024-02-28-02-28"'],
  },
  {
    schema: { type: 'string', pattern: '^(\\d{3}|\\d{5})$' },
    good: ['"123"', '"12345"'],
    bad: ['"1234"', '"1234567"'],
  },
  {
    schema: { type: 'integer' },
    good: ['0', '-5', '123'],
    bad: ['01', '1.5', '--1'],
    subset: ['1.0', '1e3'],
  },
  {
    schema: { type: 'integer', minimum: 3, maximum: 120 },
    good: ['3', '9', '10', '99', '120'],
    bad: ['2', '121', '-5'],
  },
  {
    schema: { type: 'integer', exclusiveMinimum: -12, exclusiveMaximum: 3 },
    good: ['-11', '-1', '0', '2'],
    bad: ['-12', '3'],
  },
  {
    schema: { type: 'number', minimum: 0, maximum: 1 },
    good: ['0', '0.25', '1', '1.0'],
    bad: ['-0.1', '1.01', '2'],
  },
  { schema: { type: 'number', exclusiveMinimum: 0 }, good: ['0.1', '5', '17.25'], bad: ['0', '0.0', '-1'] },
  {
    schema: { type: 'number', minimum: -5, exclusiveMaximum: -2 },
    good: ['-5', '-2.5', '-3'],
    bad: ['-2', '-5.1', '2'],
  },
  { schema: { type: 'number' }, good: ['1', '-1.5', '1e3'], bad: ['.5', '1.', '+1'] },
  {
    schema: { type: 'array', items: { type: 'integer' }, minItems: 1, maxItems: 2 },
    good: ['[1]', '[1, 2]'],
    bad: ['[]', '[1,2,3]', '["a"]'],
  },
  { schema: { type: 'array', items: { type: 'integer' } }, good: ['[]', '[1,2,3]'], bad: ['[,]', '[1,]'] },
  { schema: { type: 'array', maxItems: 0 }, good: ['[]'], bad: ['[1]'] },
  {
    schema: {
      type: 'array',
      prefixItems: [{ type: 'integer' }, { type: 'string' }],
      items: { type: 'null' },
    },
    good: ['[1,"a"]', '[1,"a",null,null]'],
    bad: ['["a"]', '[1,"a",1]'],
    subset: ['[1]', '[]'],
  },
  { schema: { anyOf: [{ type: 'integer' }, { type: 'string' }] }, good: ['1', '"a"'], bad: ['true'] },
  {
    schema: {
      oneOf: ['a', 'b'].map((kind) => ({
        type: 'object',
        properties: { kind: { const: kind }, [kind]: { type: 'integer' } },
        required: ['kind', kind],
      })),
    },
    good: ['{"kind":"a","a":1}', '{"kind":"b","b":1}'],
    bad: ['{"kind":"a","b":1}'],
  },
  { schema: { allOf: [{ type: 'integer' }], description: 'x' }, good: ['1'], bad: ['"a"'] },
  {
    schema: { $defs: { node }, $ref: '#/$defs/node' },
    good: ['{"v":1,"next":null}', '{"v":1,"next":{"v":2,"next":null}}'],
    bad: ['{"v":1}', '{"v":1,"next":{}}'],
  },
  {
    schema: { type: 'object', properties: { c: { $ref: '#' } }, additionalProperties: false },
    good: ['{}', '{"c":{"c":{}}}'],
    bad: ['{"c":1}'],
  },
  {
    schema: { $ref: '#/definitions/a~1b', definitions: { 'a/b': { type: 'null' } } },
    good: ['null'],
    bad: ['1'],
  },
  {
    schema: { type: 'object', properties: { 'ü"\\\n': { const: 1 } }, required: ['ü"\\\n'] },
    good: ['{"ü\\"\\\\\\n":1}'],
    bad: ['{}'],
  },
];

describe('a schema as a grammar', () => {
  it.each(CASES.map((one) => [JSON.stringify(one.schema), one] as const))('%s', async (_name, one) => {
    const walker = await walkerOf(core, ofSchema(one.schema));
    const validate = ajv.compile(one.schema as object);
    for (const text of one.good) {
      expect(validate(JSON.parse(text)), `${text} is valid`).toBe(true);
      expect(await walker.accepts(text), `${text} is let through`).toBe(true);
    }
    for (const text of [...one.bad, ...(one.subset ?? [])])
      expect(await walker.accepts(text), `${text} is kept out`).toBe(false);
  });

  it.each([
    ['date', ['"2024-02-28"', '"1999-12-31"'], ['"2024-02-30"', '"2024-13-01"']],
    ['date-time', ['"2024-02-28T10:00:00Z"', '"2024-02-28T23:59:59.5+02:00"'], ['"2024-02-28"']],
    ['time', ['"10:00:00Z"'], ['"25:00:00Z"']],
    ['email', ['"a.b@c.de"'], ['"a"', '"@b.de"']],
    ['uuid', ['"123e4567-e89b-12d3-a456-426614174000"'], ['"123"']],
    ['ipv4', ['"10.0.255.1"'], ['"256.1.1.1"']],
    ['hostname', ['"a.example"'], ['"-a"']],
    ['duration', ['"P1D"', '"PT5M"'], ['"P"', '"1D"']],
    ['uri', ['"https://a.example/b?c=d"'], ['"a b"']],
  ])('format %s', async (format, good, bad) => {
    const walker = await walkerOf(core, ofSchema({ type: 'string', format }));
    for (const text of good) expect(await walker.accepts(text), text).toBe(true);
    for (const text of bad) expect(await walker.accepts(text), text).toBe(false);
  });
});

describe('what a grammar cannot hold', () => {
  const within = (keyword: string, value: unknown): unknown => ({
    type: 'object',
    properties: { x: { [keyword]: value } },
  });

  it.each([
    ['not', {}],
    ['if', {}],
    ['patternProperties', {}],
    ['propertyNames', {}],
    ['dependentRequired', {}],
    ['contains', {}],
    ['unevaluatedProperties', {}],
    ['nullable', true],
    ['contentEncoding', 'base64'],
    ['minLenght', 3],
    ['$dynamicRef', '#a'],
  ])('refuses %s by its place', (keyword, value) => {
    expect(refusalOf(ofSchema(within(keyword, value)))).toMatchObject({
      code: 'unsupported_parameter',
      param: `place.properties.x.${keyword}`,
    });
  });

  it.each([
    [{ type: 'array', uniqueItems: true }, 'place.uniqueItems'],
    [{ type: 'integer', multipleOf: 5 }, 'place.multipleOf'],
    [{ type: 'number', minimum: 0.5 }, 'place.minimum'],
    [{ type: 'integer', minimum: 5, maximum: 3 }, 'place'],
    [{ type: 'string', format: 'color' }, 'place.format'],
    [{ type: 'string', pattern: '(?=a)b' }, 'place.pattern'],
    [{ type: 'string', pattern: '(a)\\1' }, 'place.pattern'],
    [{ type: 'string', pattern: '\\bword' }, 'place.pattern'],
    [{ type: 'string', format: 'date', maxLength: 3 }, 'place'],
    [{ type: 'string', maxLength: 100_000 }, 'place.maxLength'],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, 'place.oneOf'],
    [{ allOf: [{ type: 'integer' }, { minimum: 3 }] }, 'place.allOf'],
    [{ type: 'object', anyOf: [{ required: ['a'] }] }, 'place.type'],
    [{ $ref: '#/$defs/none' }, 'place.$ref'],
    [{ $ref: 'https://example.org/schema' }, 'place.$ref'],
    [{ $ref: '#/$defs/a', $defs: { a: {} }, minimum: 3 }, 'place.minimum'],
    [{ type: 'text' }, 'place.type'],
    [{ properties: { a: false } }, 'place.properties.a'],
    [{ type: 'object', properties: {}, required: ['a'], additionalProperties: false }, 'place.required'],
    [{ enum: [] }, 'place.enum'],
  ])('refuses %j', (schema, param) => {
    expect(refusalOf(ofSchema(schema))).toMatchObject({ param });
  });

  it('ends at schemas that grow without end', () => {
    let schema: Record<string, unknown> = { type: 'integer' };
    for (let depth = 0; depth < 30; depth += 1)
      schema = { type: 'object', required: ['a', 'b', 'c'], additionalProperties: schema };
    expect(refusalOf(ofSchema(schema))).toBeNull();
    for (let depth = 0; depth < 60; depth += 1) schema = { type: 'array', items: schema };
    expect(refusalOf(ofSchema(schema))).toMatchObject({
      message: expect.stringContaining('deeper') as string,
    });
    expect(refusalOf({ kind: 'json_schema', schema: '['.repeat(60_000) })).not.toBeNull();
  });
});
