/** Traffic over time and single requests: requests and answers of the admin API. */
import { z } from 'zod';
import type { AdminOperationTable } from './operation.ts';
import { moment } from './tenants.ts';

/** Seconds between two points. */
export const TRAFFIC_STEPS = ['60', '300', '3600', '10800', '86400'] as const;
export type TrafficStep = (typeof TRAFFIC_STEPS)[number];

const count = z.int().min(0);
const tokens = { prompt_tokens: count, completion_tokens: count };
/** ms, from fixed buckets whose bounds are at most two thirds apart; null = nothing was measured. */
const Percentiles = z.object({ p50: z.number().nullable(), p95: z.number().nullable() });

const Counted = {
  requests: count,
  /** Refused or failed requests (status 400 and above, except 499). */
  errors: count,
  ...tokens,
  /** Time to first token of streams. */
  ttft_ms: Percentiles,
  /** To the last byte. */
  duration_ms: Percentiles,
};

/** `GET /admin/traffic?from=&to=&step=&name=&key=&tenant=`. */
export const TrafficReport = z
  .object({
    from: z.iso.datetime(),
    /** First moment that no longer counts. */
    to: z.iso.datetime(),
    /** Seconds. */
    step: z.int(),
    /** In order; steps without requests are omitted. */
    points: z.array(
      z.object({
        /** Start of the step, unix ms. */
        at: z.int(),
        ...Counted,
      }),
    ),
    total: z.object({
      ...Counted,
      /** Most frequent first; 499: the client disconnected; 502 without a code: the stream was cut off. */
      outcomes: z.array(
        z.object({
          status: z.int(),
          /** Error code; empty if there was none, or it is unknown. */
          code: z.string(),
          requests: count,
        }),
      ),
    }),
    /**
     * Of a name or key: requests of the same time whose name and key were not recorded, because there were too
     * many.
     */
    unnamed: count,
  })
  .meta({ id: 'TrafficReport' });
export type TrafficReport = z.infer<typeof TrafficReport>;

/**
 * A finished completion, without prompt and answer: those are kept only for keys that ask for it, and read one
 * by one.
 */
export const RequestView = z
  .object({
    /** The edge's own id; the answer's `x-request-id` if the client sent none. */
    id: z.string(),
    /** The client's `x-request-id`: several requests may have the same. */
    request_id: z.string().optional(),
    /** When it ended, unix ms. */
    at: z.int(),
    tenant: z.string(),
    key_id: z.string(),
    /** As published; `base` for the base model; empty if no name was found. */
    name: z.string(),
    /** The requested name, if it does not exist; its first 100 characters, in printable ASCII. Untrusted. */
    unknown_name: z.string().optional(),
    version: z.int(),
    route: z.string(),
    /** 499: the client disconnected; 502 without a code: the stream was cut off. */
    status: z.int(),
    code: z.string(),
    stream: z.boolean(),
    experiment: z.string(),
    variant: z.string(),
    origin: z.string(),
    /** Ancestor, base or stale, if the name itself did not answer. */
    degraded: z.string(),
    /** It waited for its adapter to be sent or loaded. */
    cold: z.boolean(),
    /** Prompt and answer are kept for a time: `GET /admin/requests/<id>/prompt`. */
    kept: z.literal(true).optional(),
    ...tokens,
    /** ms, to the last byte. */
    duration_ms: count,
    /** To the first token of a stream; null if it was not streamed. */
    ttft_ms: count.nullable(),
    /**
     * Where the time went, ms, in the terms of `Server-Timing`: `key`, `name`, `origin`, `origin-prompt`,
     * `origin-first`, which includes `origin-queue` …
     */
    phases: z.array(z.object({ name: z.string(), ms: z.number() })),
  })
  .meta({ id: 'RequestView' });
export type RequestView = z.infer<typeof RequestView>;

/** `GET /admin/requests?name=&status=&variant=&key=&id=&limit=&tenant=`. */
export const RequestList = z
  .object({
    /** Newest first. */
    requests: z.array(RequestView),
    /** There are more of these. */
    truncated: z.boolean(),
    /** Requests of the listed time that were not recorded, because there were too many at once. */
    left_out: count,
  })
  .meta({ id: 'RequestList' });
export type RequestList = z.infer<typeof RequestList>;

/** Newest requests of a tenant that the list keeps. */
export const MAX_KEPT_REQUESTS = 1_000;

const tenant = z.string().max(64).optional();
const key = z.string().max(64).optional();
/** As published, `base` for the base model. */
const name = z.string().max(256).optional();

export const TRAFFIC_OPERATIONS = {
  'GET /admin/traffic': {
    id: 'readTraffic',
    tag: 'operation',
    rights: 'admin',
    summary: 'Completions over time: requests, errors, tokens, time to first token and duration.',
    description:
      'By the minute for 26 hours, by the hour for 35 days, by the day for 400 days. Only the ' +
      'bootstrap key sees other tenants, and all tenants together.',
    query: z.strictObject({
      from: moment.optional(),
      to: moment.optional(),
      step: z.enum(TRAFFIC_STEPS).optional(),
      ...{ name, key, tenant },
    }),
    request: null,
    answers: { 200: { description: 'A point for each step that has requests.', schema: TrafficReport } },
  },
  'GET /admin/requests': {
    id: 'listRequests',
    tag: 'operation',
    rights: 'admin',
    summary: "Lists a tenant's latest completions, newest first, without prompts and answers.",
    query: z.strictObject({
      ...{ name, key, tenant },
      /** `ok`, `failed`, `left`, a class such as `4xx`, or one status. */
      status: z
        .string()
        .regex(
          /^(ok|failed|left|[1-5]xx|[1-5]\d\d)$/,
          'must be ok, failed, left, 4xx, 5xx or a status such as 429',
        )
        .optional(),
      variant: z.string().max(64).optional(),
      id: z.string().max(256).optional(),
      limit: z
        .string()
        .regex(/^[1-9]\d{0,3}$/, `must be a whole number up to ${MAX_KEPT_REQUESTS}`)
        .transform(Number)
        .pipe(z.int().max(MAX_KEPT_REQUESTS))
        .optional(),
    }),
    request: null,
    answers: { 200: { description: 'Requests; `truncated` if there are more.', schema: RequestList } },
  },
} as const satisfies AdminOperationTable;
