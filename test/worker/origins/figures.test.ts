import { ZodError } from 'zod';
import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../../gpu-origin/http/metrics.ts';
import { readOriginFigures } from '../../../worker/origins/ask-origins.ts';

const TEXT = `# HELP graft_start_time_seconds Start time of the process, unix time.
# TYPE graft_start_time_seconds gauge
graft_start_time_seconds 1764000000.25
graft_rows_running 2
graft_requests_waiting 3
graft_requests_loading 1
graft_slots 8
graft_kv_tokens 1200
graft_kv_capacity_tokens 16384
graft_resident_memory_bytes 123456789
graft_adapters_resident 4
graft_adapter_bytes 1.5e+6
graft_adapter_budget_bytes 268435456
graft_prompt_tokens_total 500
graft_completion_tokens_total 300
graft_requests_finished_total{outcome="stop"} 5
graft_requests_finished_total{outcome="length"} 6
graft_requests_finished_total{outcome="aborted"} 1
graft_adapter_loads_total{result="ok"} 7
graft_adapter_evictions_total 2
graft_time_to_first_token_seconds_bucket{le="0.005"} 9
graft_time_to_first_token_seconds_bucket{le="+Inf"} 12
graft_time_to_first_token_seconds_sum 1.25
graft_time_to_first_token_seconds_count 12
graft_time_per_output_token_seconds_sum 3.5
graft_time_per_output_token_seconds_count 288
graft_batch_rows_bucket{le="1"} 40
graft_batch_rows_sum 288
graft_batch_rows_count 96
nodejs_version_info{version="v20.19.5",major="20"} 1
`;
const without = (name: string): string => TEXT.replace(new RegExp(`^graft_${name}\\b.*\\n`, 'gm'), '');
const withValue = (name: string, value: string): string =>
  TEXT.replace(new RegExp(`^(graft_${name}) .*$`, 'm'), `$1 ${value}`);

describe('figures of an origin', () => {
  it('are read from its metrics', () => {
    expect(readOriginFigures(TEXT)).toEqual({
      started_at: 1_764_000_000_250,
      rows_running: 2,
      requests_waiting: 3,
      requests_loading: 1,
      slots: 8,
      kv_tokens: 1_200,
      kv_capacity_tokens: 16_384,
      memory_bytes: 123_456_789,
      adapters_resident: 4,
      adapter_bytes: 1_500_000,
      adapter_budget_bytes: 268_435_456,
      prompt_tokens: 500,
      completion_tokens: 300,
      requests_finished: 12,
      adapter_loads: 7,
      adapter_evictions: 2,
      first_token: { count: 12, seconds: 1.25 },
      next_token: { count: 288, seconds: 3.5 },
      decode: { steps: 96, rows: 288 },
    });
  });

  it('are 0 if a metric with labels has had no event yet', () => {
    const text = TEXT.replace(/^graft_(requests_finished|adapter_loads)_total.*\n/gm, '');
    expect(readOriginFigures(text)).toMatchObject({ requests_finished: 0, adapter_loads: 0 });
  });

  it.each([
    'start_time_seconds',
    'slots',
    'resident_memory_bytes',
    'adapter_evictions_total',
    'time_to_first_token_seconds_sum',
    'batch_rows_count',
  ])('are refused without %s', (name) => {
    expect(without(name)).not.toBe(TEXT);
    expect(() => readOriginFigures(without(name))).toThrow(ZodError);
  });

  it.each([
    ['slots', 'many'],
    ['slots', 'NaN'],
    ['slots', '-1'],
    ['slots', '1.5'],
    ['start_time_seconds', '+Inf'],
  ])('are refused when %s is %s', (name, value) => {
    expect(() => readOriginFigures(withValue(name, value))).toThrow(ZodError);
  });

  it.each(['', '<html></html>', '{"graft_slots": 8}'])('are missing in %j', (text) => {
    expect(() => readOriginFigures(text)).toThrow(ZodError);
  });

  it('are in a real origin’s metrics', async () => {
    const metrics = createMetrics();
    const idle = readOriginFigures(await metrics.text());
    expect(idle).toMatchObject({ rows_running: 0, requests_finished: 0, adapter_loads: 0 });
    expect(idle.started_at).toBeCloseTo(performance.timeOrigin, 0);
    const { observer } = metrics;
    const tenant = 't';
    const step = { tokens: 1, ms: 5, kvTokens: 0, running: 0, waiting: 0, loading: 0, preempted: 0 };
    observer.onFirstToken?.({ tenant, ms: 250 });
    observer.onToken?.({ tenant, ms: 20 });
    observer.onToken?.({ tenant, ms: 40 });
    observer.onStep?.({ ...step, kind: 'decode', batch: 2 });
    observer.onStep?.({ ...step, kind: 'mixed', batch: 3 });
    observer.onStep?.({ ...step, kind: 'prefill', batch: 9 });
    observer.onAdapterEvict?.();
    expect(readOriginFigures(await metrics.text())).toMatchObject({
      first_token: { count: 1, seconds: 0.25 },
      next_token: { count: 2, seconds: 0.06 },
      decode: { steps: 2, rows: 5 },
      adapter_evictions: 1,
    });
  });
});
