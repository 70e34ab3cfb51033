import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  parseStrictJson as parse,
  StrictJsonError,
  type JsonValue,
} from '../../../adapters/format/strict-json.ts';

fc.configureGlobal({ seed: 1 });

const parseStrictJson = (text: string, options: { unsignedOnly?: boolean; maxValues?: number } = {}) =>
  parse(text, { maxValues: 100_000, ...options });

/** Maps back to what JSON.parse gives. */
function plain(value: JsonValue): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, inner]) => [key, plain(inner)]));
  return value;
}

const problem = (text: string, options = {}): StrictJsonError => {
  try {
    parseStrictJson(text, options);
  } catch (error) {
    if (error instanceof StrictJsonError) return error;
    throw error;
  }
  throw new Error(`${text} was accepted`);
};

describe('parseStrictJson', () => {
  it('agrees with JSON.parse on JSON without duplicate keys', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), fc.constantFrom(undefined, 1, '\t'), (json, indent) => {
        const text = JSON.stringify(JSON.parse(json), null, indent);
        expect(plain(parseStrictJson(text))).toEqual(JSON.parse(text));
      }),
    );
  });

  it('accepts no more than JSON.parse', () => {
    const alphabet = fc.constantFrom(...'{}[]":,\\u0e+-.1truefalsn \n\u0001'.split(''));
    fc.assert(
      fc.property(fc.string({ unit: alphabet, maxLength: 12 }), (text) => {
        let value: JsonValue;
        try {
          value = parseStrictJson(text);
        } catch (error) {
          expect(error).toBeInstanceOf(StrictJsonError);
          return;
        }
        expect(plain(value)).toEqual(JSON.parse(text));
      }),
      { numRuns: 3_000 },
    );
  });

  it('keeps the order of integer-like keys, which objects do not', () => {
    expect([...(parseStrictJson('{"2":0,"b":0,"1":0}') as Map<string, JsonValue>).keys()]).toEqual([
      '2',
      'b',
      '1',
    ]);
  });

  it('names a duplicate key, even an escaped one or __proto__', () => {
    expect(problem('{"a":1,"b":{"\\u0061":1,"a":2}}')).toMatchObject({ kind: 'duplicate_key', key: 'a' });
    expect(problem('{"__proto__":1,"__proto__":2}')).toMatchObject({
      kind: 'duplicate_key',
      key: '__proto__',
    });
  });

  it.each([
    '',
    ' ',
    '{',
    '[1,]',
    '{"a":1,}',
    '{a:1}',
    "'a'",
    '01',
    '+1',
    '.5',
    '1.',
    'NaN',
    '"\n"',
    '"\\x"',
    '"',
    '"\\',
    '1 2',
    'nul',
    '"\\ud800"',
    '"\\udc00\\ud800"',
  ])('refuses %j', (text) => {
    expect(problem(text).kind).toBe('syntax');
  });

  it('refuses depth instead of overflowing the stack', () => {
    expect(problem('['.repeat(1_000_000)).message).toContain('levels');
    expect(problem('{"a":'.repeat(1_000_000)).message).toContain('levels');
  });

  it('counts values of all kinds', () => {
    const text = '{"a":[1,"x",null],"b":{}}';
    expect(parseStrictJson(text, { maxValues: 6 })).toBeInstanceOf(Map);
    expect(problem(text, { maxValues: 5 }).kind).toBe('too_many_values');
  });

  it('reads long strings', () => {
    const long = 'x'.repeat(3_000_000);
    expect(parseStrictJson(`"${long}"`)).toBe(long);
    expect(parseStrictJson(`"${long}\\n"`)).toBe(`${long}\n`);
  });

  it.each(['-1', '1.0', '1e1', '-0', '01', '1.', '1e'])('with unsignedOnly refuses the number %s', (text) => {
    expect(problem(text, { unsignedOnly: true }).kind).toBe('syntax');
  });
  it('with unsignedOnly reads unsigned integers', () => {
    expect(parseStrictJson('[0,12,9007199254740991]', { unsignedOnly: true })).toEqual([
      0, 12, 9007199254740991,
    ]);
  });
});
