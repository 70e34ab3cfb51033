import { z } from 'zod';
import { ChainEntry, Digest } from './identity.ts';
import { MAX_CHAIN } from './limits.ts';

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

/**
 * Query parameter of an edge's requests whose configuration says which base the origin serves: the base's id. An origin
 * that serves another one refuses with `origin_unavailable`; one of before there was this passes over it.
 */
export const BASE_PARAMETER = 'base';

/** @param path may have a query. @param base null = whatever base the origin serves. */
export const pathForBase = (path: string, base: string | null): string =>
  base === null
    ? path
    : `${path}${path.includes('?') ? '&' : '?'}${BASE_PARAMETER}=${encodeURIComponent(base)}`;

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
