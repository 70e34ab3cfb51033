import { OriginFigures } from '../../protocol/index.ts';

const SAMPLE = /^(graft_[a-z_]+)(?:\{[^}]*\})? (\S+)$/gm;

/**
 * Reads what the page shows out of an origin's metrics.
 * @param text Prometheus' text format; a metric with labels counts as the sum over them.
 * @throws ZodError when one is missing or no number.
 */
export function readOriginFigures(text: string): OriginFigures {
  const sums = new Map<string, number>();
  for (const [, name = '', value] of text.matchAll(SAMPLE))
    sums.set(name, (sums.get(name) ?? 0) + Number(value));
  const at = (name: string): number | undefined => sums.get(`graft_${name}`);
  const timed = (name: string) => ({ count: at(`${name}_count`), seconds: at(`${name}_sum`) });
  return OriginFigures.parse({
    started_at: (at('start_time_seconds') ?? Number.NaN) * 1000,
    rows_running: at('rows_running'),
    requests_waiting: at('requests_waiting'),
    requests_loading: at('requests_loading'),
    slots: at('slots'),
    kv_tokens: at('kv_tokens'),
    kv_capacity_tokens: at('kv_capacity_tokens'),
    memory_bytes: at('resident_memory_bytes'),
    adapters_resident: at('adapters_resident'),
    adapter_bytes: at('adapter_bytes'),
    adapter_budget_bytes: at('adapter_budget_bytes'),
    prompt_tokens: at('prompt_tokens_total'),
    completion_tokens: at('completion_tokens_total'),
    requests_finished: at('requests_finished_total') ?? 0,
    adapter_loads: at('adapter_loads_total') ?? 0,
    adapter_evictions: at('adapter_evictions_total'),
    first_token: timed('time_to_first_token_seconds'),
    next_token: timed('time_per_output_token_seconds'),
    decode: { steps: at('batch_rows_count'), rows: at('batch_rows_sum') },
  });
}
