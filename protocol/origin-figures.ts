/** How busy an origin is and has been, as the admin API shows it; a part of what the origin's `/metrics` says. */
import { z } from 'zod';

const count = z.int().min(0);
/** `seconds` of all `count` together. */
const timed = z.object({ count, seconds: z.number().min(0) });

/** Now, or since the origin's start: two answers give what happened between them. */
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
