/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/), as far as it crosses here: `traceparent` alone, version 00.
 * No `tracestate` and no `baggage`, whose words are others'. The header is outside of the signature on the way to an
 * origin: what it says goes into logs and to the engine, and decides nothing.
 */
import { toHex } from './identity.ts';

export const TRACEPARENT_HEADER = 'traceparent';

/** Of whoever sent the request. */
export interface Traceparent {
  /** 32 hex digits, not all 0. */
  traceId: string;
  /** The sender's span: 16 hex digits, not all 0. */
  spanId: string;
  sampled: boolean;
}

const FORM = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

/** @returns null for what is none, or of a later version: it is left out, not mended. */
export function parseTraceparent(header: string | null | undefined): Traceparent | null {
  const match = FORM.exec(header ?? '');
  if (match === null) return null;
  const [, traceId = '', spanId = '', flags = ''] = match;
  // Of the flags only the first is defined; others are not passed on.
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

/**
 * The header for one hop: the same trace, and a span of its own.
 * @param random 8 bytes, not all 0; given only by tests.
 */
export function nextTraceparent(
  { traceId, sampled }: Traceparent,
  random: Uint8Array = crypto.getRandomValues(new Uint8Array(8)),
): string {
  const spanId = toHex(random);
  return `00-${traceId}-${/^0+$/.test(spanId) ? '0000000000000001' : spanId}-${sampled ? '01' : '00'}`;
}
