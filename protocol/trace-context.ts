/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/): `traceparent` version 00 and `tracestate`, without `baggage`.
 * The signature of a request to an origin does not cover these headers: they go into logs and to the engine, and
 * decide only whether the request is traced.
 */

export const TRACEPARENT_HEADER = 'traceparent';
export const TRACESTATE_HEADER = 'tracestate';

/** Where a request is in its trace: the trace, and the span of whoever sends or serves it. */
export interface Traceparent {
  /** 32 hex digits, not all 0. */
  traceId: string;
  /** 16 hex digits, not all 0. */
  spanId: string;
  sampled: boolean;
  /** `tracestate`: other systems' data about the trace. Only from senders that are trusted. */
  state?: string;
}

const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

/** @returns null if malformed or of a later version: it is dropped, not repaired, and so is its state. */
export function parseTraceparent(
  header: string | null | undefined,
  tracestate: string | null | undefined = null,
): Traceparent | null {
  const match = TRACEPARENT.exec(header ?? '');
  if (match === null) return null;
  const [, traceId = '', spanId = '', flags = ''] = match;
  // Only the first flag is defined; others are not passed on.
  const parent = { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
  const state = parseTracestate(tracestate);
  return state === null ? parent : { ...parent, state };
}

/** W3C wants at least this many characters to be passed on; longer ones are dropped. */
const MAX_TRACESTATE = 512;
const MAX_MEMBERS = 32;
/** A key, whose first part may be a tenant of the system after `@`; then a value of printable characters. */
const MEMBER =
  /^((?:[a-z][a-z0-9_\-*/]{0,255})|(?:[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}))=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])$/;

/** @returns its members without space between them; null if there is none, or one is malformed or twice there. */
export function parseTracestate(header: string | null | undefined): string | null {
  if (header == null || header.length > MAX_TRACESTATE) return null;
  const members = header
    .split(',')
    .map((member) => member.replace(/^[ \t]+|[ \t]+$/g, ''))
    .filter((member) => member !== '');
  const keys = new Set(members.map((member) => MEMBER.exec(member)?.[1]));
  const isValid = members.length <= MAX_MEMBERS && keys.size === members.length && !keys.has(undefined);
  return isValid && members.length > 0 ? members.join(',') : null;
}

/** 8 hex digits. */
const randomDigits = (random: () => number): string =>
  Math.floor(random() * 2 ** 32)
    .toString(16)
    .padStart(8, '0');

/**
 * An id must be unlikely to repeat, and need not be secret: `crypto.getRandomValues` takes several times as long as all
 * else of a span.
 * @returns a span's id, or with 16 bytes a trace's. @param random in [0, 1).
 */
export function newTraceId(bytes: 8 | 16, random: () => number = Math.random): string {
  let id = '';
  while (id.length < 2 * bytes) id += randomDigits(random);
  return /^0+$/.test(id) ? `${'0'.repeat(2 * bytes - 1)}1` : id;
}

/** @returns the headers of what is sent by a span: the receiver's are below it. */
export const traceHeaders = ({ traceId, spanId, sampled, state }: Traceparent): Record<string, string> => ({
  [TRACEPARENT_HEADER]: `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`,
  ...(state === undefined ? {} : { [TRACESTATE_HEADER]: state }),
});

/** @returns a new span of the same trace, below that one. */
export const childOf = (parent: Traceparent, spanId = newTraceId(8)): Traceparent => ({ ...parent, spanId });
