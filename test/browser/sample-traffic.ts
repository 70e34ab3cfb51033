/** What an edge that is used for a day would say; the pictures are drawn of it. */
import type { OriginHistory } from '../../protocol/admin-api/origins.ts';
import type { RequestView, TrafficReport } from '../../protocol/admin-api/traffic.ts';
import type { UsageReport } from '../../protocol/admin-api/tenants.ts';

const STEP_MS = 300_000;
/** Between 0 and 1, the same each time. */
const noise = (i: number): number => Math.abs(Math.sin(12.9898 * i) * 43758.5453) % 1;

/** @param until unix ms. */
export function sampleTraffic(until: number): TrafficReport {
  const to = STEP_MS * Math.ceil(until / STEP_MS);
  const from = to - 288 * STEP_MS;
  const points = Array.from({ length: 288 }, (_, i) => {
    const busy = 0.55 - 0.45 * Math.cos((2 * Math.PI * (i + 30)) / 288);
    const requests = Math.round(900 * busy * (0.8 + 0.4 * noise(i)));
    const broken = i > 190 && i < 197;
    const errors = Math.round(requests * (broken ? 0.2 : 0.003 * noise(i + 7)));
    const p50 = 60 + 60 * busy + 20 * noise(i + 1);
    return {
      ...{ at: from + i * STEP_MS, requests, errors },
      ...{ prompt_tokens: 210 * requests, completion_tokens: 95 * requests },
      ttft_ms: { p50, p95: p50 * (broken ? 9 : 2.2 + noise(i + 3)) },
      duration_ms: { p50: 14 * p50, p95: 30 * p50 },
    };
  });
  const sum = (read: (point: (typeof points)[number]) => number) =>
    points.reduce((before, point) => before + read(point), 0);
  const errors = sum((point) => point.errors);
  return {
    ...{ from: new Date(from).toISOString(), to: new Date(to).toISOString(), step: 300, points, unnamed: 0 },
    total: {
      ...{ requests: sum((point) => point.requests), errors },
      prompt_tokens: sum((point) => point.prompt_tokens),
      completion_tokens: sum((point) => point.completion_tokens),
      ttft_ms: { p50: 96.4, p95: 341 },
      duration_ms: { p50: 1_340, p95: 3_210 },
      outcomes: [
        { status: 200, code: '', requests: sum((point) => point.requests) - errors },
        { status: 429, code: 'rate_limit_exceeded', requests: errors - 41 },
        { status: 503, code: 'origin_unavailable', requests: 29 },
        { status: 404, code: 'model_not_found', requests: 12 },
      ],
    },
  };
}

/** @param until unix ms. */
export const sampleRequests = (until: number): RequestView[] =>
  Array.from({ length: 60 }, (_, i) => {
    const kind = i % 11 === 4 ? 'limited' : i % 17 === 9 ? 'broken' : 'good';
    const stream = kind === 'broken' || (kind === 'good' && i % 3 !== 0);
    const ttft = Math.round(70 + 200 * noise(i));
    const rest = Math.round(600 + 2_000 * noise(i + 2));
    return {
      id: `2f0c8d6e-7b1a-4c55-9d3e-${String(100_000_000_000 + i)}`,
      at: until - 1_700 * i,
      ...{ tenant: 'acme', key_id: i % 2 === 0 ? 'key_75b697e09336a6da' : 'key_0f18df01574ce0e1' },
      name: kind === 'limited' ? '' : ['medicine/cardiology/dr-lee', 'medicine', 'base'][i % 3]!,
      version: kind === 'limited' ? 0 : [3, 2, 0][i % 3]!,
      route: '/v1/chat/completions',
      status: { good: 200, limited: 429, broken: 502 }[kind],
      code: kind === 'limited' ? 'rate_limit_exceeded' : '',
      ...{ stream, experiment: i % 3 === 1 ? 'exp_1' : '', variant: i % 3 === 1 ? 'treatment' : '' },
      ...{
        origin: kind === 'limited' ? '' : 'gpu-1',
        degraded: i % 3 === 0 ? 'ancestor' : '',
        cold: i === 6,
      },
      prompt_tokens: kind === 'limited' ? 0 : 180 + i,
      completion_tokens: kind === 'limited' ? 0 : 60 + 2 * i,
      duration_ms: kind === 'limited' ? 3 : ttft + rest,
      ttft_ms: stream ? ttft : null,
      phases:
        kind === 'limited'
          ? [{ name: 'key', ms: 1 }]
          : [
              { name: 'key', ms: 4 },
              { name: 'name', ms: 6 },
              { name: 'origin', ms: ttft - 12 },
              { name: 'origin-prompt', ms: 3 },
              // Some are of an origin that does not say it.
              ...(i % 5 === 4
                ? []
                : [{ name: 'origin-queue', ms: Math.round((ttft - 20) * 0.6 * noise(i)) }]),
              { name: 'origin-first', ms: ttft - 20 },
              ...(stream ? [] : [{ name: 'origin-rest', ms: rest }]),
            ],
    };
  });

/** Of an edge with a price list. */
export const sampleUsage = (): UsageReport => ({
  ...{ by: 'name', from: '2026-11-20T07:00:00.000Z', to: '2026-11-27T08:00:00.000Z', currency: 'USD' },
  cursor: null,
  rows: ['medicine/cardiology/dr-lee', 'medicine/cardiology', 'medicine', 'base', 'legal/contracts'].map(
    (group, i) => {
      const requests = Math.round(180_400 / (i * i + 1));
      const [prompt, completion] = [212 * requests, 96 * requests];
      return {
        ...{
          group,
          requests,
          errors: i === 1 ? 412 : 0,
          prompt_tokens: prompt,
          completion_tokens: completion,
        },
        total_tokens: prompt + completion,
        cost: (0.05 * prompt + 0.2 * completion) / 1e6,
      };
    },
  ),
});

/** The same by day. */
export const sampleUsageDays = (): UsageReport => {
  const { from, rows, ...report } = sampleUsage();
  return {
    ...{ ...report, by: 'day', from },
    rows: Array.from({ length: 8 }, (_, i) => ({
      ...rows[1 + (i % 3)]!,
      group: new Date(Date.parse(from) + i * 86_400_000).toISOString().slice(0, 10),
    })),
  };
};

/** With half an hour in which it did not answer. @param until unix ms. */
export function sampleHistory(origin: string, until: number): OriginHistory {
  const { from, to, step, points } = sampleTraffic(until);
  return {
    ...{ origin, from, to, step },
    points: points
      .filter((_, i) => i < 191 || i > 196)
      .map(({ at, requests }, i) => ({
        ...{ at, slots: 16, rows_running: Math.min(16, Math.round(requests / 62)) },
        requests_waiting: Math.max(0, Math.round(requests / 62 - 15)),
        adapters_resident: Math.round(40 + 30 * Math.sin(i / 60)),
        adapter_bytes: Math.round(4e7 * (40 + 30 * Math.sin(i / 60))),
        memory_bytes: Math.round(9.2e9 + 4e7 * (40 + 30 * Math.sin(i / 60))),
      })),
  };
}
