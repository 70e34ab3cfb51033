/**
 * Spans as OTLP over HTTP in JSON: opentelemetry-proto's docs/specification.md and its protobuf messages in their JSON
 * mapping. Both sides of graft send them: the edge by `fetch` after its response, an origin from a queue.
 */
import { z } from 'zod';
import type { Traceparent } from './trace-context.ts';

export type AttributeValue = string | number | boolean | readonly string[];
export type Attributes = Readonly<Record<string, AttributeValue | null | undefined>>;

export interface Span extends Pick<Traceparent, 'traceId' | 'spanId' | 'state'> {
  name: string;
  /** OTLP's `Span.SpanKind`. */
  kind: 'internal' | 'server' | 'client';
  /** null = it begins the trace. */
  parentSpanId: string | null;
  /** The parent is in another process. */
  parentIsRemote: boolean;
  /** Unix ms, with fractions. */
  startMs: number;
  endMs: number;
  /** Whole numbers are sent as such, unless their name is in {@link DOUBLES}. Without null and undefined. */
  attributes: Attributes;
  failed: boolean;
}

const KINDS = { internal: 1, server: 2, client: 3 } as const;
const STATUS_ERROR = 2;
/** `SpanFlags`: sampled, and whether it is known that the parent is remote. */
const SAMPLED = 0x001;
const HAS_IS_REMOTE = 0x100;
const IS_REMOTE = 0x200;

/** Numbers that may happen to be whole. */
const DOUBLES = /^gen_ai\.(latency\.|request\.(temperature|top_p|top_k|frequency_penalty|presence_penalty)$)/;

/** More than names here have; longer ones are cut. */
const MAX_ATTRIBUTE = 256;

/** Statuses of a receiver's answer after which the same may be sent again. */
export const RETRYABLE_STATUSES: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** @returns the beginning of an export's body; spans of {@link writeSpan} follow, with commas between them. */
export function exportHead(
  resource: Readonly<Record<string, string>>,
  scope: { name: string; version?: string | undefined },
): string {
  const attributes = listOf(resource);
  return `{"resourceSpans":[{"resource":${JSON.stringify({ attributes })},"scopeSpans":[{"scope":${JSON.stringify(scope)},"spans":[`;
}

/** Ends what {@link exportHead} begins. */
export const EXPORT_END = ']}]}]}';

export function writeSpan(span: Span): string {
  const remote = span.parentIsRemote ? IS_REMOTE : 0;
  return JSON.stringify({
    traceId: span.traceId,
    spanId: span.spanId,
    traceState: span.state,
    parentSpanId: span.parentSpanId ?? undefined,
    flags: SAMPLED | HAS_IS_REMOTE | remote,
    name: span.name,
    kind: KINDS[span.kind],
    startTimeUnixNano: nanos(span.startMs),
    endTimeUnixNano: nanos(Math.max(span.startMs, span.endMs)),
    attributes: listOf(span.attributes),
    status: span.failed ? { code: STATUS_ERROR } : undefined,
  });
}

/** Microseconds are what a double has of today's times. */
const nanos = (ms: number): string => `${Math.round(ms * 1_000)}000`;

function listOf(attributes: Attributes): { key: string; value: object }[] {
  return Object.entries(attributes).flatMap(([key, value]) =>
    value === null || value === undefined ? [] : [{ key, value: valueOf(key, value) }],
  );
}

function valueOf(key: string, value: AttributeValue): object {
  if (typeof value === 'string') return { stringValue: value.slice(0, MAX_ATTRIBUTE) };
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value !== 'number')
    return { arrayValue: { values: value.map((one) => ({ stringValue: one.slice(0, MAX_ATTRIBUTE) })) } };
  return Number.isSafeInteger(value) && !DOUBLES.test(key)
    ? { intValue: String(value) }
    : { doubleValue: value };
}

const ExportAnswer = z.object({
  partialSuccess: z.object({ rejectedSpans: z.coerce.number().int().default(0) }).optional(),
});

/** @param text of a receiver's successful answer. @returns how many spans it rejects; 0 if it says nothing readable. */
export function rejectedSpans(text: string): number {
  try {
    const parsed = ExportAnswer.safeParse(JSON.parse(text));
    return parsed.success ? (parsed.data.partialSuccess?.rejectedSpans ?? 0) : 0;
  } catch {
    // It has accepted them, whatever it says.
    return 0;
  }
}

/** A variable that is set but empty counts as unset. */
export const unset = (value: unknown): unknown => (value === '' ? undefined : value);

/** `OTEL_EXPORTER_OTLP_ENDPOINT` and the one of traces. */
export const OtlpAddress = z.preprocess(
  unset,
  z
    .string()
    .refine((value) => {
      try {
        const { protocol, username, password } = new URL(value);
        return /^https?:$/.test(protocol) && username === '' && password === '';
      } catch {
        return false;
      }
    }, 'must be an address such as http://localhost:4318, without a password: set OTEL_EXPORTER_OTLP_HEADERS')
    .optional(),
);

/** `key=value,key2=value2`, percent-encoded. */
export const OtlpPairs = z.preprocess(
  (value) => unset(value) ?? '',
  z.string().transform((list, context) => {
    const found: Record<string, string> = {};
    for (const one of list.split(',').filter((part) => part.trim() !== '')) {
      const at = one.indexOf('=');
      try {
        if (at < 1) throw new Error('no key');
        found[decodeURIComponent(one.slice(0, at).trim())] = decodeURIComponent(one.slice(at + 1).trim());
      } catch {
        context.addIssue({ code: 'custom', message: 'must be key=value,key2=value2, percent-encoded' });
        return z.NEVER;
      }
    }
    return found;
  }),
);

/** `OTEL_EXPORTER_OTLP_HEADERS` and the one of traces. */
export const OtlpHeaders = OtlpPairs.refine((found) => {
  try {
    new Headers(found);
    return true;
  } catch {
    return false;
  }
}, 'has a header that HTTP does not allow');

/** @param endpoint `OTEL_EXPORTER_OTLP_ENDPOINT`. @returns where it takes traces. */
export function tracesBelow(endpoint: string): string {
  const url = new URL(endpoint);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/v1/traces`;
  return url.href;
}
