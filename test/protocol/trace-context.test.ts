import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  childOf,
  newTraceId,
  parseTraceparent,
  parseTracestate,
  traceHeaders,
} from '../../protocol/trace-context.ts';

const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
const span = '00f067aa0ba902b7';
const hex = (digits: number) =>
  fc
    .array(fc.constantFrom(...'0123456789abcdef'), { minLength: digits, maxLength: digits })
    .map((all) => all.join(''))
    .filter((id) => !/^0+$/.test(id));

describe('traceparent', () => {
  it('is read as W3C defines it, with only the first flag', () => {
    const of = (flags: string) => parseTraceparent(`00-${trace}-${span}-${flags}`);
    expect(of('01')).toEqual({ traceId: trace, spanId: span, sampled: true });
    expect(of('00')).toEqual({ traceId: trace, spanId: span, sampled: false });
    expect(of('ff')).toMatchObject({ sampled: true });
    expect(of('02')).toMatchObject({ sampled: false });
  });

  it.each([
    null,
    '',
    `01-${trace}-${span}-01`,
    `ff-${trace}-${span}-01`,
    `00-${'0'.repeat(32)}-${span}-01`,
    `00-${trace}-${'0'.repeat(16)}-01`,
    `00-${trace.toUpperCase()}-${span}-01`,
    `00-${trace}-${span}-01-more`,
    `00-${trace}-${span}-01\n`,
    ` 00-${trace}-${span}-01`,
    `00-${trace}-${span}-1`,
    `00-${trace}-${span}`,
    `00-${trace.slice(1)}-${span}-01`,
    `00-${trace}-${span}-01, 00-${trace}-${span}-01`,
  ])('is refused when it is %j', (header) => {
    expect(parseTraceparent(header, 'vendor=1')).toBeNull();
  });

  it('reads back what it writes', () => {
    fc.assert(
      fc.property(hex(32), hex(16), fc.boolean(), (traceId, spanId, sampled) => {
        const { traceparent } = traceHeaders({ traceId, spanId, sampled });
        expect(parseTraceparent(traceparent)).toEqual({ traceId, spanId, sampled });
      }),
    );
  });

  it('is what W3C allows or null, whatever a client sends', () => {
    const valid = `00-${trace}-${span}-01`;
    const mutated = fc
      .tuple(fc.nat(valid.length), fc.nat(4), fc.string({ maxLength: 4, unit: 'binary' }))
      .map(([at, gone, put]) => valid.slice(0, at) + put + valid.slice(at + gone));
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), mutated), (header) => {
        const parsed = parseTraceparent(header);
        if (parsed === null) return;
        expect(parsed.traceId).toMatch(/^(?!0{32})[0-9a-f]{32}$/);
        expect(parsed.spanId).toMatch(/^(?!0{16})[0-9a-f]{16}$/);
        // Nothing but the flags may differ from what was sent.
        expect(traceHeaders(parsed)['traceparent']?.slice(0, -2)).toBe(header.slice(0, -2));
      }),
    );
  });
});

describe('a new id', () => {
  it('is never all zeros', () => {
    expect(newTraceId(8, () => 0)).toBe('0000000000000001');
    expect(newTraceId(16, () => 0)).toMatch(/^0{31}1$/);
  });

  it('names a new span of the same trace each time, with its state', () => {
    const parent = { traceId: trace, spanId: span, sampled: true, state: 'a=1' };
    const children = Array.from({ length: 50 }, () => childOf(parent));
    expect(new Set([span, ...children.map(({ spanId }) => spanId)]).size).toBe(51);
    for (const child of children) expect({ ...child, spanId: span }).toEqual(parent);
  });
});

describe('tracestate', () => {
  it.each([
    ['vendor=1', 'vendor=1'],
    [' a=1 ,\tb@c=x y,, ', 'a=1,b@c=x y'],
    ['ot=th:c;rv:0123456789abcd', 'ot=th:c;rv:0123456789abcd'],
  ])('%j is passed on as %j', (header, state) => expect(parseTracestate(header)).toBe(state));

  it.each([
    null,
    '',
    ' , ',
    'a',
    'A=1',
    'a=1,a=2',
    'a=1=2',
    'a=é',
    'a=1\n',
    'a=\u0000',
    '1a=1',
    `a=${'x'.repeat(257)}`,
    Array.from({ length: 33 }, (_, at) => `k${at}=1`).join(','),
    `a=${'x'.repeat(250)},b=${'x'.repeat(255)},c=${'x'.repeat(255)}`,
  ])('is dropped when it is %j', (header) => {
    expect(parseTracestate(header)).toBeNull();
    expect(parseTraceparent(`00-${trace}-${span}-01`, header)).not.toHaveProperty('state');
  });

  it('stays as it is when it is read again, and is safe as a header', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 40 }), fc.string(), (key, value) => {
        const state = parseTracestate(`${key}=${value}, a=1`);
        if (state === null) return;
        expect(parseTracestate(state)).toBe(state);
        expect(state).toMatch(/^[\x21-\x7e][\x20-\x7e]*$/);
      }),
    );
  });
});
