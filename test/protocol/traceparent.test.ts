import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextTraceparent, parseTraceparent } from '../../protocol/index.ts';

const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
const span = '00f067aa0ba902b7';

describe('traceparent', () => {
  it('is read as W3C has it, and of the flags the first alone', () => {
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
  ])('is none when it reads %j', (header) => {
    expect(parseTraceparent(header)).toBeNull();
  });

  it('goes on in the same trace, by a span of its own each time', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), fc.boolean(), (random, sampled) => {
        const header = nextTraceparent({ traceId: trace, spanId: span, sampled }, random);
        expect(parseTraceparent(header)).toMatchObject({ traceId: trace, sampled });
      }),
    );
    const sent = { traceId: trace, spanId: span, sampled: true };
    const spans = new Set(Array.from({ length: 50 }, () => parseTraceparent(nextTraceparent(sent))?.spanId));
    expect(spans.size).toBe(50);
    expect(spans.has(span)).toBe(false);
  });
});
