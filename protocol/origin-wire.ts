/**
 * The protocol between edge and origin: completions, base, adapters, figures, trials of adapters; and what the
 * two exchange about a completion besides its body: in headers, stream comments, path parameters, and one later
 * question.
 */
import { z } from 'zod';
import { ClassLabel } from './classes.ts';
import { ChatMessage } from './completion.ts';
import { ChainEntry, Digest } from './identity.ts';
import { MAX_CHAIN, MAX_MESSAGES, MAX_PINNED_NAMES, MAX_TOP_LOGPROBS } from './limits.ts';

/** What the worker adds to a client's request. `budget_ms` is a remaining time, not a clock time. */
export const OriginDirective = z.strictObject({
  chain: z.array(ChainEntry).max(MAX_CHAIN),
  tenant: z.string(),
  budget_ms: z.int().positive().optional(),
  request_id: z.string(),
  /** The client's name for the model; the origin echoes it as `model`. */
  model: z.string(),
  /** Of the version that answers, for traces; absent = the base. */
  adapter: z.strictObject({ name: z.string(), version: z.int().positive() }).optional(),
  /** Its experiment, for traces. */
  experiment: z.strictObject({ id: z.string(), variant: z.string() }).optional(),
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
export const BaseInfo = z
  .object({
    id: z.string(),
    /** sha256 of the base's file(s). */
    digest: Digest,
    /** Weight format, such as `int8` or `f32`. */
    weights: z.string(),
    /**
     * Runtime of the graphs: `cpu`, ONNX Runtime's native library, or `web`, its WebAssembly. Absent if another
     * engine runs the model.
     */
    provider: z.string().optional(),
    /** Precision of a GPU's activations, keys and values; absent = float32, or another engine runs the model. */
    precision: z.literal('f16').optional(),
    /** Format of keys and values of rows; absent = the precision, or another engine runs the model. */
    kv: z.literal('int8').optional(),
    /**
     * How a row alone compares with the same row in any batch, on one machine with one thread count: identical
     * `bits`, or equal within a `tolerance`.
     */
    promise: z.enum(['bits', 'tolerance']).optional(),
    /** Context length, tokens. */
    context: z.int().positive(),
    /** Tokens that the base knows; absent = unknown. */
    vocabulary: z.int().positive().optional(),
    /** Width of a token's hidden state, which classification heads read; absent = they are not served. */
    hidden: z.int().positive().optional(),
    /** Largest sum of ranks over a row's chain. */
    max_rank_sum: z.int().positive(),
    /** llama.cpp's architecture name, such as `llama` or `qwen2`; GGUF adapters need it, and `attention`. */
    architecture: z.string().optional(),
    attention: z
      .strictObject({
        heads: z.int().positive(),
        /** Heads of k and v. */
        kv_heads: z.int().positive(),
      })
      .optional(),
    modules: z.array(BaseModule),
  })
  .meta({ id: 'BaseInfo' });
export type BaseInfo = z.infer<typeof BaseInfo>;

/** Answer of `GET /adapters`: what the origin holds. */
export const ResidentList = z
  .object({
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
  })
  .meta({ id: 'ResidentList' });
export type ResidentList = z.infer<typeof ResidentList>;

/** `POST /adapters/pins` of an origin: one chain to keep in memory. */
export const PinRequest = z.strictObject({ digests: z.array(Digest).min(1).max(MAX_CHAIN) });
export type PinRequest = z.infer<typeof PinRequest>;

/** `POST /adapters/prefetch` of an origin: one chain to load in advance. */
export const PrefetchRequest = z.strictObject({
  digests: z.array(Digest).min(1).max(MAX_CHAIN),
  /** Do nothing unless this adapter is in memory. */
  if_resident: Digest.optional(),
});
export type PrefetchRequest = z.infer<typeof PrefetchRequest>;

/** `POST /adapters/pins` and `POST /adapters/prefetch`: the state of each adapter. */
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

/** `PUT /adapters/pins` of an origin: all pins; others are removed. */
export const KeepPinsRequest = z.strictObject({
  digests: z.array(Digest).max(MAX_PINNED_NAMES * MAX_CHAIN),
});
export type KeepPinsRequest = z.infer<typeof KeepPinsRequest>;

/** Adapters of one {@link DropRequest}. */
export const MAX_DROPPED_AT_ONCE = 100;

/** `POST /adapters/drop` of an origin: adapters to remove from memory and disk. */
export const DropRequest = z.strictObject({ digests: z.array(Digest).min(1).max(MAX_DROPPED_AT_ONCE) });
export type DropRequest = z.infer<typeof DropRequest>;

/** Its answer: dropped files, and adapters that a running row keeps in memory until it ends. */
export const DropAnswer = z.object({ files: z.int().min(0), in_use: z.int().min(0) });
export type DropAnswer = z.infer<typeof DropAnswer>;

const count = z.int().min(0);
/** `seconds`: sum over all `count`. */
const timed = z.object({ count, seconds: z.number().min(0) });

/**
 * How busy an origin is, and totals since its start: the difference of two answers covers the time between
 * them.
 */
export const OriginFigures = z
  .object({
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
    /** Decode steps, and the sum of their rows. */
    decode: z.object({ steps: count, rows: count }),
  })
  .meta({ id: 'OriginFigures' });
export type OriginFigures = z.infer<typeof OriginFigures>;

/** Probe prompts are short; this only bounds a corrupted row. */
const MAX_PROBE_CHARACTERS = 1_024;

/** One of the likeliest first tokens after a probe prompt; natural logarithm. */
export const ProbeToken = z.strictObject({ id: z.int().min(0), logprob: z.number() });
export type ProbeToken = z.infer<typeof ProbeToken>;

const ProbePrompt = z.string().min(1).max(MAX_PROBE_CHARACTERS);
const ProbeTokens = z.array(ProbeToken).min(1).max(MAX_TOP_LOGPROBS);

/** How an adapter's keys and values fit int8, in prompts and answers of its trial. */
export const KvFit = z.object({
  /** Mean KL that int8 keys and values add to its answers, nats a token; int8 weights' noise on the same text is subtracted. */
  kl: z.number(),
  /** How many keys and values are larger than int8 holds; `values` is how many there are. */
  clipped: z.int().min(0),
  values: z.int().min(0),
});
export type KvFit = z.infer<typeof KvFit>;

/** The likeliest first tokens of a chain on the base that it was admitted with. Stored with the version. */
export const AdapterProof = z.strictObject({
  /** Base and weight format that it applies to: others give other numbers. */
  base_digest: Digest,
  weights: z.string(),
  prompt: ProbePrompt,
  /** Likeliest first. */
  tokens: ProbeTokens,
  /** Absent if the origin kept keys and values in float32. */
  kv: KvFit.optional(),
  /** Unix ms. */
  at: z.int(),
});
export type AdapterProof = z.infer<typeof AdapterProof>;

/** Body of `POST /adapters/<digest>/verify`; may be empty. */
export const VerifyRequest = z.strictObject({
  /** Root first, ending with the adapter; default: the adapter alone at scale 1. */
  chain: z.array(ChainEntry).min(1).max(MAX_CHAIN).optional(),
  /** An earlier proof to compare with; default: the origin's first probe prompt. */
  expected: z.strictObject({ prompt: ProbePrompt.optional(), tokens: ProbeTokens }).optional(),
});
export type VerifyRequest = z.infer<typeof VerifyRequest>;

/** Its answer, as far as the edge reads it. */
export const VerifyAnswer = z.object({
  digest: Digest,
  /**
   * The chain loads, its output is finite, the last adapter has an effect, and the result matches the
   * expectation.
   */
  ok: z.boolean(),
  /** `no_change`, `non_finite`, `proof_mismatch`, or why the adapter does not load; null when ok. */
  reason: z.string().nullable(),
  /** The toolkit's code, if the file is the reason. */
  code: z.string().min(1).max(64).optional(),
  prompt: ProbePrompt,
  base_digest: Digest,
  weights: z.string(),
  /** Likeliest first tokens with the whole chain; empty when it could not run. */
  adapter: z.array(z.object({ id: z.int().min(0), logprob: z.number() })).max(MAX_TOP_LOGPROBS),
  /** KL(expected || now), nats a token; null without an expectation or when the chain could not run. */
  kl: z.number().nullable(),
  /**
   * Largest effect of the last adapter on one of the likeliest first tokens, nats; on int8 this includes noise.
   */
  max_difference: z.number(),
  /** Absent if the origin keeps keys and values in float32, or the chain could not run. */
  kv: KvFit.optional(),
});
export type VerifyAnswer = z.infer<typeof VerifyAnswer>;

/**
 * Rows in one request of an evaluation. They keep an origin busy for seconds, so the caller sends the rest afterwards.
 */
export const MAX_EVALUATION_ROWS = 64;

/** Refines rows that ask: a raw prompt, or a user's message, before which a system prompt may stand. */
export function checkQuestion(
  { prompt, user, system }: { prompt?: unknown; user?: unknown; system?: unknown },
  context: z.RefinementCtx,
): void {
  if ((prompt === undefined) === (user === undefined))
    context.addIssue({ code: 'custom', message: "a row needs either 'prompt' or 'user'" });
  else if (system !== undefined && user === undefined)
    context.addIssue({
      code: 'custom',
      message: "'system' needs 'user'; it cannot be combined with 'prompt'",
    });
}

/** Either `prompt`, a raw text to continue, or `user` (and `system`), rendered with the base's chat template. */
export const EvaluationRow = z
  .strictObject({
    prompt: z.string().optional(),
    user: z.string().optional(),
    system: z.string().optional(),
    /** The whole answer, to its end. */
    expected: z.string('must be a text').min(1, 'must not be empty'),
  })
  .superRefine(checkQuestion);
export type EvaluationRow = z.infer<typeof EvaluationRow>;

/** Refines rows with a label: as training, they have a text or a conversation. */
export function checkLabelled(
  { prompt, text, messages }: { prompt?: unknown; text?: unknown; messages?: unknown },
  context: z.RefinementCtx,
): void {
  if ([prompt, text, messages].filter((one) => one !== undefined).length === 1) return;
  const message = "a row with a label needs either 'prompt', 'text' or 'messages'";
  context.addIssue({ code: 'custom', message });
}

/** What a row with a label asks. */
export const labelledShape = {
  /** The same as `prompt`. */
  text: z.string().min(1, 'must not be empty').optional(),
  messages: z.array(ChatMessage).min(1, 'must not be empty').max(MAX_MESSAGES).optional(),
};

/** A raw text or a conversation, as `/v1/classify` reads it, and the class that it should get. */
export const LabelledRow = z
  .strictObject({
    prompt: z.string().min(1, 'must not be empty').optional(),
    ...labelledShape,
    label: ClassLabel,
  })
  .superRefine(checkLabelled);
export type LabelledRow = z.infer<typeof LabelledRow>;

/** With an expected answer or, for classifiers, with a label. */
export const ScoredRow = z.union([EvaluationRow, LabelledRow], {
  // Of the kind that the row is meant to be.
  error({ input, errors }) {
    const isLabelled = typeof input === 'object' && input !== null && 'label' in input;
    const [problem] = errors[isLabelled ? 1 : 0] ?? [];
    const field = problem === undefined || problem.path.length === 0 ? '' : `"${problem.path.join('.')}" `;
    return problem === undefined ? undefined : `${field}${problem.message}`;
  },
});
export type ScoredRow = z.infer<typeof ScoredRow>;

export const ScoredRows = z.array(ScoredRow).min(1).max(MAX_EVALUATION_ROWS);

/** Body of `POST /adapters/<digest>/evaluate`. */
export const EvaluateRequest = z.strictObject({
  /** Root first, ending with the adapter; default: the adapter alone at scale 1. */
  chain: z.array(ChainEntry).min(1).max(MAX_CHAIN).optional(),
  /** Tenant that the work is accounted to. */
  tenant: z.string().min(1).optional(),
  /** Time left, ms. */
  budget_ms: z.int().positive().optional(),
  rows: ScoredRows,
});
export type EvaluateRequest = z.infer<typeof EvaluateRequest>;

export const RowScore = z.union([
  z.object({
    /** Greedy decoding gives exactly the expected answer and ends there; of a label: it is the likeliest class. */
    exact: z.boolean(),
    /** Mean over `tokens`, nats; of the label's class. */
    nll: z.number(),
    /** Of the expected answer, its end included; 1 for a label. */
    tokens: z.int().positive(),
    /**
     * If the answer is not exact: its matching beginning, and the token that differs, none if it ends; of a label: the
     * likeliest class.
     */
    got: z.string().optional(),
  }),
  /** Why this row cannot be scored; the others are. */
  z.object({ error: z.string(), code: z.literal('label_unknown').optional() }),
]);
export type RowScore = z.infer<typeof RowScore>;

export const EvaluateAnswer = z
  .object({ rows: z.array(RowScore).max(MAX_EVALUATION_ROWS) })
  .meta({ id: 'EvaluateAnswer' });
export type EvaluateAnswer = z.infer<typeof EvaluateAnswer>;

/** An evaluation as reported by the publisher. Nobody else has checked it. */
export const Evaluation = z.strictObject({
  rows: z.int().positive(),
  /** Share of rows answered exactly; of rows with labels, those that got them. */
  exact_match: z.number().min(0).max(1),
  /** Mean over all expected tokens, nats. */
  mean_nll: z.number().min(0),
  /** Of the evaluation file. */
  sha256: Digest,
});
export type Evaluation = z.infer<typeof Evaluation>;

/** As stored with a version; `at` in unix ms. */
export const StoredEvaluation = z.strictObject({ ...Evaluation.shape, at: z.int() });
export type StoredEvaluation = z.infer<typeof StoredEvaluation>;

/**
 * An origin's token counts of a completion, sent to the edge beside the answer: for a whole answer in a header
 * (`x-graft-usage: prompt=12,completion=34`); for a stream, `prompt=12` in the header and both in a comment
 * between its last events (`: graft-usage prompt=12,completion=34`). A client that did not request usage sees
 * none of it. The end reason follows (`,finish=length`); older origins omit it.
 */
export const USAGE_HEADER = 'x-graft-usage';
export const USAGE_COMMENT = ': graft-usage ';

export interface UsageNote {
  promptTokens: number;
  /** null while it is not known. */
  completionTokens: number | null;
  /**
   * `length`: at least one choice was truncated by its length limit. `left`: its reader was too slow, and the
   * answer was aborted. Absent while unknown.
   */
  finish?: 'stop' | 'length' | 'left';
}

export function writeUsageNote({ promptTokens, completionTokens, finish }: UsageNote): string {
  const prompt = `prompt=${promptTokens}`;
  if (completionTokens === null) return prompt;
  const end = finish === undefined ? '' : `,finish=${finish}`;
  return `${prompt},completion=${completionTokens}${end}`;
}

/** @returns null if malformed. */
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

/**
 * Header of an origin's answer to `/v1/classify`: how many texts got which label, each percent-encoded
 * (`x-graft-classes: yes=2,no=1`).
 */
export const CLASSES_HEADER = 'x-graft-classes';
/** Longer ones are not sent: Cloudflare takes headers of 128 KB together, Node of 16. */
const MAX_CLASSES_CHARACTERS = 4_096;

/** @returns null when it would be too long. */
export function writeClasses(labels: Iterable<string>): string | null {
  const counts = new Map<string, number>();
  for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  const text = [...counts].map(([label, count]) => `${encodeURIComponent(label)}=${count}`).join(',');
  return text.length > MAX_CLASSES_CHARACTERS ? null : text;
}

/** @returns texts by label; null if it is absent or malformed. */
export function readClasses(text: string | null): Map<string, number> | null {
  if (text === null || text.length > MAX_CLASSES_CHARACTERS) return null;
  const counts = new Map<string, number>();
  for (const part of text.split(',')) {
    const [, label, count] = /^([^=,]+)=(\d{1,5})$/.exec(part) ?? [];
    if (label === undefined) return null;
    try {
      counts.set(decodeURIComponent(label), Number(count));
    } catch {
      return null;
    }
  }
  return counts;
}

/** Whether an answer with these headers is a stream of server-sent events. */
export const isEventStream = (headers: Headers): boolean =>
  headers.get('content-type')?.startsWith('text/event-stream') ?? false;

/** @returns how a completed answer ended; null if it did not complete, or the origin does not report it. */
export const finishOf = (note: UsageNote | null): 'stop' | 'length' | null =>
  note?.finish === undefined || note.finish === 'left' ? null : note.finish;

/**
 * Query parameter of an edge's requests, if its configuration names the origin's base: the base's id. An origin
 * with another base refuses with `origin_unavailable`.
 */
export const BASE_PARAMETER = 'base';

/** @param path may have a query. @param base null = any base. */
export const pathForBase = (path: string, base: string | null): string =>
  base === null
    ? path
    : `${path}${path.includes('?') ? '&' : '?'}${BASE_PARAMETER}=${encodeURIComponent(base)}`;

/**
 * The edge's question about a completion whose end it did not see because the client disconnected: the usage
 * note is in the header of a whole answer or at the end of a stream, and neither arrives then.
 */
export const CANCEL_PARAMETER = 'cancel';
export const CancelId = z.uuid();

/**
 * Parameter of a completion's path, `?ask=<uuid>`: the id for that question. A request's own id may be its
 * client's choice, and so the same for two requests.
 */
export const cancelPath = (id: string): string => `/cancel/${id}`;

/** Answer of `GET /usage/<ask id>`; tokens are those that the model has actually processed. */
export const RequestUsage = z.object({
  /** `unknown`: no such request arrived, or it ended long ago. */
  state: z.enum(['running', 'ended', 'unknown']),
  prompt_tokens: z.int().min(0),
  completion_tokens: z.int().min(0),
});
export type RequestUsage = z.infer<typeof RequestUsage>;

/** Prefix of an answer's id: for chat completions, completions, responses, messages and a head's answers. */
const PREFIXES = ['chatcmpl-', 'cmpl-', 'resp_', 'msg_', 'classify-', 'score-', 'rerank-'];

/** Parameter of a completion's path to an origin, `?answer=<text>`: the end of the answer's id. */
export const ANSWER_PARAMETER = 'answer';
/** At most 120 characters with the longest prefix; only letters that need no escaping in a URL or JSON. */
export const AnswerText = z.string().regex(/^[A-Za-z0-9_-]{1,111}$/);

/** @returns an id's text after its prefix; null if the prefix is not ours. */
export function answerTextOf(id: string): string | null {
  const prefix = PREFIXES.find((one) => id.startsWith(one));
  return prefix === undefined ? null : id.slice(prefix.length);
}

/**
 * An origin's load, sent with each answer to the edge: `x-graft-load: <rows running or waiting>/<rows that
 * fit>`, followed by `;draining` when it is shutting down.
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

/** @returns null if malformed. */
export function readLoad(header: string | null): OriginLoad | null {
  const match = LOAD.exec(header ?? '');
  if (match === null || Number(match[2]) === 0) return null;
  return { rows: Number(match[1]), slots: Number(match[2]), draining: match[3] !== undefined };
}

/**
 * Header of an origin's answer that waited for an adapter to be read into memory (`x-graft-cold: true`); absent
 * otherwise. The edge itself knows which adapters the origin lacked.
 */
export const COLD_HEADER = 'x-graft-cold';
