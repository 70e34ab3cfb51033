/**
 * What the edge asks of an origin, and what that answers: completions, its base, its adapters, its figures, trials of
 * adapters; and what the two tell each other of a completion beside its bodies: in headers, a stream's comments,
 * parameters of its path, and when the edge cancels it.
 */
import { z } from 'zod';
import { ChainEntry, Digest, toHex } from './identity.ts';
import { MAX_CHAIN, MAX_PINNED_NAMES, MAX_TOP_LOGPROBS } from './limits.ts';

/** What the worker adds to a client's request. `budget_ms` is time left, not a clock time. */
export const OriginDirective = z.strictObject({
  chain: z.array(ChainEntry).max(MAX_CHAIN),
  tenant: z.string(),
  budget_ms: z.int().positive().optional(),
  request_id: z.string(),
  /** The name the client asked for; the origin echoes it as `model`. */
  model: z.string(),
});
export type OriginDirective = z.infer<typeof OriginDirective>;

/** Body of the worker's `POST /v1/chat/completions`, `/v1/completions` and `/v1/responses` to an origin. */
export const OriginRequest = z.strictObject({
  request: z.record(z.string(), z.unknown()),
  graft: OriginDirective,
});
export type OriginRequest = z.infer<typeof OriginRequest>;

/** One linear module of the base: `in` columns of A, `out` rows of B. */
export const BaseModule = z.object({
  name: z.string(),
  in: z.int().positive(),
  out: z.int().positive(),
});
export type BaseModule = z.infer<typeof BaseModule>;

/** Answer of `GET /base`. */
export const BaseInfo = z.object({
  id: z.string(),
  /** sha256 of the base's file(s). */
  digest: Digest,
  /** Weight format that is served: `int8`, `f32`, … */
  weights: z.string(),
  /**
   * What runs the graphs: `cpu`, ONNX Runtime's native library, or `web`, its WebAssembly. Absent where another engine
   * runs the model.
   */
  provider: z.string().optional(),
  /** What a GPU's activations, keys and values are in; absent = float32, or another engine runs the model. */
  precision: z.literal('f16').optional(),
  /**
   * Of a row alone and in any batch, on one machine with one count of threads: the same `bits`, or the same within a
   * `tolerance`.
   */
  promise: z.enum(['bits', 'tolerance']).optional(),
  /** Context length, tokens. */
  context: z.int().positive(),
  /** Largest sum of ranks over a chain that a row may have. */
  max_rank_sum: z.int().positive(),
  /** llama.cpp's name of the model's architecture, `llama` or `qwen2`; with `attention` what GGUF adapters need. */
  architecture: z.string().optional(),
  attention: z
    .strictObject({
      heads: z.int().positive(),
      /** Heads of k and v. */
      kv_heads: z.int().positive(),
    })
    .optional(),
  modules: z.array(BaseModule),
});
export type BaseInfo = z.infer<typeof BaseInfo>;

/** Answer of `GET /adapters`: what the origin holds. */
export const ResidentList = z.object({
  budget_bytes: z.int(),
  used_bytes: z.int(),
  adapters: z.array(
    z.object({
      digest: Digest,
      state: z.enum(['loading', 'ready', 'failed']),
      bytes: z.int(),
      rank: z.int(),
      references: z.int(),
      pinned: z.boolean(),
    }),
  ),
});
export type ResidentList = z.infer<typeof ResidentList>;

/** `POST /adapters/pins` of an origin: one chain to keep in memory. */
export const PinRequest = z.strictObject({ digests: z.array(Digest).min(1).max(MAX_CHAIN) });
export type PinRequest = z.infer<typeof PinRequest>;

/** `POST /adapters/prefetch` of an origin: one chain to load before anybody asks for it. */
export const PrefetchRequest = z.strictObject({
  digests: z.array(Digest).min(1).max(MAX_CHAIN),
  /** Nothing is done where this adapter is not in memory. */
  if_resident: Digest.optional(),
});
export type PrefetchRequest = z.infer<typeof PrefetchRequest>;

/** `POST /adapters/pins` and `POST /adapters/prefetch`: what became of each adapter. */
export const LoadAnswer = z.object({
  results: z.array(
    z.object({
      digest: Digest,
      ok: z.boolean(),
      error: z.object({ code: z.string(), message: z.string() }).optional(),
    }),
  ),
});
export type LoadAnswer = z.infer<typeof LoadAnswer>;

/** `PUT /adapters/pins` of an origin: all that stays pinned. */
export const KeepPinsRequest = z.strictObject({
  digests: z.array(Digest).max(MAX_PINNED_NAMES * MAX_CHAIN),
});
export type KeepPinsRequest = z.infer<typeof KeepPinsRequest>;

/** Adapters of one {@link DropRequest}. */
export const MAX_DROPPED_AT_ONCE = 100;

/** `POST /adapters/drop` of an origin: adapters that it is to let go of, in memory and on disk. */
export const DropRequest = z.strictObject({ digests: z.array(Digest).min(1).max(MAX_DROPPED_AT_ONCE) });
export type DropRequest = z.infer<typeof DropRequest>;

/** Its answer: files that it held, and adapters that a row which runs keeps in memory until it ends. */
export const DropAnswer = z.object({ files: z.int().min(0), in_use: z.int().min(0) });
export type DropAnswer = z.infer<typeof DropAnswer>;

const count = z.int().min(0);
/** `seconds` of all `count` together. */
const timed = z.object({ count, seconds: z.number().min(0) });

/** How busy an origin is and has been, now or since its start: two answers give what happened between them. */
export const OriginFigures = z.object({
  /** Unix ms. */
  started_at: z.number(),
  rows_running: count,
  requests_waiting: count,
  /** Requests that wait for an adapter. */
  requests_loading: count,
  /** Rows that fit at once. */
  slots: count,
  kv_tokens: count,
  kv_capacity_tokens: count,
  /** Resident memory of the process. */
  memory_bytes: count,
  adapters_resident: count,
  /** Memory of resident adapters, and what they may use. */
  adapter_bytes: count,
  adapter_budget_bytes: count,
  /** Since the start, like all that follow. Of finished requests. */
  prompt_tokens: count,
  completion_tokens: count,
  requests_finished: count,
  adapter_loads: count,
  adapter_evictions: count,
  /** Time to first token. */
  first_token: timed,
  /** Time between two tokens of one request. */
  next_token: timed,
  /** Steps that decode, and their rows together. */
  decode: z.object({ steps: count, rows: count }),
});
export type OriginFigures = z.infer<typeof OriginFigures>;

/** Probe prompts are short; this only bounds what a damaged row can ask for. */
const MAX_PROBE_CHARACTERS = 1_024;

/** One of the likeliest first tokens after a probe prompt; natural logarithm. */
export const ProbeToken = z.strictObject({ id: z.int().min(0), logprob: z.number() });
export type ProbeToken = z.infer<typeof ProbeToken>;

const ProbePrompt = z.string().min(1).max(MAX_PROBE_CHARACTERS);
const ProbeTokens = z.array(ProbeToken).min(1).max(MAX_TOP_LOGPROBS);

/** The likeliest first tokens of a chain, on the base that it was admitted with. Kept with the version. */
export const AdapterProof = z.strictObject({
  /** Base and weight format that it holds for: others give other numbers. */
  base_digest: Digest,
  weights: z.string(),
  prompt: ProbePrompt,
  /** Likeliest first. */
  tokens: ProbeTokens,
  /** Unix ms. */
  at: z.int(),
});
export type AdapterProof = z.infer<typeof AdapterProof>;

/** Body of `POST /adapters/<digest>/verify`; may be empty. */
export const VerifyRequest = z.strictObject({
  /** Root first, ending with the adapter; alone at scale 1 unless given. */
  chain: z.array(ChainEntry).min(1).max(MAX_CHAIN).optional(),
  /** An earlier proof to compare with; the origin's first probe prompt unless given. */
  expected: z.strictObject({ prompt: ProbePrompt.optional(), tokens: ProbeTokens }).optional(),
});
export type VerifyRequest = z.infer<typeof VerifyRequest>;

/** Its answer, as far as the edge reads it. */
export const VerifyAnswer = z.object({
  digest: Digest,
  /** The chain loads, its output is finite, the last adapter changes it, and it is what was expected. */
  ok: z.boolean(),
  /** `no_change`, `non_finite`, `proof_mismatch`, or why the adapter does not load; null when ok. */
  reason: z.string().nullable(),
  /** The toolkit's code of what is wrong with the file, where that is the reason. */
  code: z.string().min(1).max(64).optional(),
  prompt: ProbePrompt,
  base_digest: Digest,
  weights: z.string(),
  /** Likeliest first tokens with the whole chain; empty when it could not run. */
  adapter: z.array(z.object({ id: z.int().min(0), logprob: z.number() })).max(MAX_TOP_LOGPROBS),
  /** KL(expected || now), nats a token; null when nothing was expected or the chain could not run. */
  kl: z.number().nullable(),
  /** Largest change that the last adapter makes to one of the likeliest first tokens, nats; on int8 noise included. */
  max_difference: z.number(),
});
export type VerifyAnswer = z.infer<typeof VerifyAnswer>;

/** Rows in one request: they keep an origin busy for seconds, and the caller sends the next ones after. */
export const MAX_EVALUATION_ROWS = 64;

/** Either `prompt`, a raw text to go on from, or `user` (and `system`), put into the base's chat template. */
export const EvaluationRow = z
  .strictObject({
    prompt: z.string().optional(),
    user: z.string().optional(),
    system: z.string().optional(),
    /** The whole answer, to its end. */
    expected: z.string().min(1),
  })
  .superRefine(({ prompt, user, system }, context) => {
    if ((prompt === undefined) === (user === undefined))
      context.addIssue({ code: 'custom', message: "a row has either 'prompt' or 'user'" });
    else if (system !== undefined && user === undefined)
      context.addIssue({ code: 'custom', message: "'system' goes with 'user', not with 'prompt'" });
  });
export type EvaluationRow = z.infer<typeof EvaluationRow>;

export const EvaluationRows = z.array(EvaluationRow).min(1).max(MAX_EVALUATION_ROWS);

/** Body of `POST /adapters/<digest>/evaluate`. */
export const EvaluateRequest = z.strictObject({
  /** Root first, ending with the adapter; alone at scale 1 unless given. */
  chain: z.array(ChainEntry).min(1).max(MAX_CHAIN).optional(),
  /** Whose share of the machine it uses. */
  tenant: z.string().min(1).optional(),
  /** Time left, ms. */
  budget_ms: z.int().positive().optional(),
  rows: EvaluationRows,
});
export type EvaluateRequest = z.infer<typeof EvaluateRequest>;

export const RowScore = z.union([
  z.object({
    /** Greedy decoding gives exactly the expected answer and ends there. */
    exact: z.boolean(),
    /** Mean over `tokens`, nats. */
    nll: z.number(),
    /** Of the expected answer, its end included. */
    tokens: z.int().positive(),
    /** Of an answer that is not exact: as far as it is as expected, and the token that comes there, none if it ends. */
    got: z.string().optional(),
  }),
  /** Why this row cannot be scored; the others are. */
  z.object({ error: z.string() }),
]);
export type RowScore = z.infer<typeof RowScore>;

export const EvaluateAnswer = z.object({ rows: z.array(RowScore).max(MAX_EVALUATION_ROWS) });
export type EvaluateAnswer = z.infer<typeof EvaluateAnswer>;

/** What a publisher says its evaluation came to. Nobody but the publisher has checked it. */
export const Evaluation = z.strictObject({
  rows: z.int().positive(),
  /** Share of rows answered exactly. */
  exact_match: z.number().min(0).max(1),
  /** Mean over all expected tokens, nats. */
  mean_nll: z.number().min(0),
  /** Of the evaluation file. */
  sha256: Digest,
});
export type Evaluation = z.infer<typeof Evaluation>;

/** As a version keeps it; `at` in unix ms. */
export const StoredEvaluation = z.strictObject({ ...Evaluation.shape, at: z.int() });
export type StoredEvaluation = z.infer<typeof StoredEvaluation>;

/**
 * What an origin tells the edge of a completion's tokens, beside the answer: in the header of a whole answer
 * (`x-graft-usage: prompt=12,completion=34`), and of a stream `prompt=12` in the header and both in a comment between
 * its last events (`: graft-usage prompt=12,completion=34`). A client that did not ask for usage sees none of it. With the
 * tokens comes how the answer ended (`,finish=length`); origins before that do not say it.
 */
export const USAGE_HEADER = 'x-graft-usage';
export const USAGE_COMMENT = ': graft-usage ';

export interface UsageNote {
  promptTokens: number;
  /** null while it is not known. */
  completionTokens: number | null;
  /**
   * `length`: at least one of the answer's choices was cut at its length. `left`: its reader was too slow, and the
   * answer was given up. Absent while it is not known.
   */
  finish?: 'stop' | 'length' | 'left';
}

export function writeUsageNote({ promptTokens, completionTokens, finish }: UsageNote): string {
  const prompt = `prompt=${promptTokens}`;
  if (completionTokens === null) return prompt;
  const end = finish === undefined ? '' : `,finish=${finish}`;
  return `${prompt},completion=${completionTokens}${end}`;
}

/** @returns null for what is none. */
export function readUsageNote(text: string | null): UsageNote | null {
  const match = /^prompt=(\d{1,9})(?:,completion=(\d{1,9})(?:,finish=(stop|length|left))?)?$/.exec(
    text?.trim() ?? '',
  );
  if (match === null) return null;
  const finish = match[3] as UsageNote['finish'];
  return {
    promptTokens: Number(match[1]),
    completionTokens: match[2] === undefined ? null : Number(match[2]),
    ...(finish === undefined ? {} : { finish }),
  };
}

/** Whether an answer with these headers is a stream of server-sent events. */
export const isEventStream = (headers: Headers): boolean =>
  headers.get('content-type')?.startsWith('text/event-stream') ?? false;

/** @returns how an answer ended that came to its end; null for what did not, or when nobody says. */
export const finishOf = (note: UsageNote | null): 'stop' | 'length' | null =>
  note?.finish === undefined || note.finish === 'left' ? null : note.finish;

/**
 * Query parameter of an edge's requests whose configuration says which base the origin serves: the base's id. An origin
 * that serves another one refuses with `origin_unavailable`.
 */
export const BASE_PARAMETER = 'base';

/** @param path may have a query. @param base null = whatever base the origin serves. */
export const pathForBase = (path: string, base: string | null): string =>
  base === null
    ? path
    : `${path}${path.includes('?') ? '&' : '?'}${BASE_PARAMETER}=${encodeURIComponent(base)}`;

/**
 * Parameter of a completion's path, `?cancel=<uuid>`: the id under which the edge may cancel it. A request's own id may
 * be its client's choice, and so the same for two of them.
 */
export const CANCEL_PARAMETER = 'cancel';
export const CancelId = z.uuid();

/**
 * The edge POSTs to it when a client leaves a completion: the usage note is in the header of a whole answer and at the
 * end of a stream, and neither comes any more.
 */
export const cancelPath = (id: string): string => `/cancel/${id}`;

/** Answer of `POST /cancel/<id>`; tokens are those that the model has really run. */
export const RequestUsage = z.object({
  /** `running`: it has not ended yet. `unknown`: no such request came, and none will be run, or it ended long ago. */
  state: z.enum(['running', 'ended', 'unknown']),
  prompt_tokens: z.int().min(0),
  completion_tokens: z.int().min(0),
});
export type RequestUsage = z.infer<typeof RequestUsage>;

/** What stands before it: of chat completions, completions, responses and messages. */
const PREFIXES = ['chatcmpl-', 'cmpl-', 'resp_', 'msg_'];

/**
 * Parameter of a completion's path to an origin, `?answer=<text>`: what the answer's id ends with.
 */
export const ANSWER_PARAMETER = 'answer';
/** With the longest prefix at most 120 characters; letters that stand in a URL and in JSON as they are. */
export const AnswerText = z.string().regex(/^[A-Za-z0-9_-]{1,111}$/);

/** @returns an id's text behind its prefix; null when it has none of ours. */
export function answerTextOf(id: string): string | null {
  const prefix = PREFIXES.find((one) => id.startsWith(one));
  return prefix === undefined ? null : id.slice(prefix.length);
}

/**
 * What an origin says of itself with each answer to the edge: `x-graft-load: <rows running or waiting>/<rows that fit>`,
 * followed by `;draining` when it is going away.
 */
export const LOAD_HEADER = 'x-graft-load';
const LOAD = /^(\d{1,6})\/(\d{1,6})(;draining)?$/;

export interface OriginLoad {
  /** Rows that run, wait for a slot, or wait for an adapter. */
  rows: number;
  /** Rows that run at once; at least 1. */
  slots: number;
  /** It will refuse requests soon. */
  draining: boolean;
}

export const writeLoad = ({ rows, slots, draining }: OriginLoad): string =>
  `${rows}/${slots}${draining ? ';draining' : ''}`;

/** @returns null for what is none. */
export function readLoad(header: string | null): OriginLoad | null {
  const match = LOAD.exec(header ?? '');
  if (match === null || Number(match[2]) === 0) return null;
  return { rows: Number(match[1]), slots: Number(match[2]), draining: match[3] !== undefined };
}

/**
 * What an origin tells the edge of an answer that waited for an adapter to be read into memory, in its header
 * (`x-graft-cold: true`); absent otherwise. What it lacked altogether the edge knows itself.
 */
export const COLD_HEADER = 'x-graft-cold';

/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/), as far as it crosses here: `traceparent` alone, version 00.
 * No `tracestate` and no `baggage`, whose words are others'. The header is outside of the signature on the way to an
 * origin: what it says goes into logs and to the engine, and decides nothing.
 */

export const TRACEPARENT_HEADER = 'traceparent';

/** Of whoever sent the request. */
export interface Traceparent {
  /** 32 hex digits, not all 0. */
  traceId: string;
  /** The sender's span: 16 hex digits, not all 0. */
  spanId: string;
  sampled: boolean;
}

const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

/** @returns null for what is none, or of a later version: it is left out, not mended. */
export function parseTraceparent(header: string | null | undefined): Traceparent | null {
  const match = TRACEPARENT.exec(header ?? '');
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
