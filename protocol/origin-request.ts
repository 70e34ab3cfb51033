/** What the edge asks of an origin, and what that answers: completions, its base, its adapters, its figures. */
import { z } from 'zod';
import { ChainEntry, Digest } from './identity.ts';
import { MAX_CHAIN, MAX_PINNED_NAMES } from './limits.ts';

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
