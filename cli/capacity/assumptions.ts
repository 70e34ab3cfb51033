/** Every price and assumption of `graft capacity`, each with where it is from and when it was read. */
export interface Assumption {
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  readonly source: string;
  /** When the source was read, or what it is of. */
  readonly date: string;
}

const PRICING = 'developers.cloudflare.com/workers/platform/pricing';
const R2_PRICING = 'developers.cloudflare.com/r2/pricing';
const OWN = 'assumed';
const of = (what: string, value: number, unit: string, source: string, date: string): Assumption => ({
  ...{ what, value, unit, source, date },
});

export const ASSUMPTIONS = {
  workersBase: of('Workers Paid', 5, '$ a month', PRICING, '2026-08'),
  requestPrice: of('Workers requests beyond 10 million', 0.3, '$ a million', PRICING, '2026-08'),
  requestsIncluded: of('Workers requests included', 10e6, 'a month', PRICING, '2026-08'),
  cpuPrice: of('Workers CPU beyond 30 million ms', 0.02, '$ a million ms', PRICING, '2026-08'),
  cpuIncluded: of('Workers CPU included', 30e6, 'ms a month', PRICING, '2026-08'),
  kvStorage: of('KV storage', 0.5, '$ a GB and month', PRICING, '2026-10'),
  kvRead: of('KV reads', 0.5, '$ a million', PRICING, '2026-10'),
  kvWrite: of('KV writes', 5, '$ a million', PRICING, '2026-10'),
  r2Storage: of('R2 storage', 0.015, '$ a GB and month', PRICING, '2026-10'),
  r2Read: of('R2 reads (class B)', 0.36, '$ a million', R2_PRICING, '2026-08'),
  r2Write: of('R2 writes (class A)', 4.5, '$ a million', R2_PRICING, '2026-08'),
  partBytes: of('Largest part of a file', 24 * 1024 * 1024, 'bytes', 'graft, docs/kv-schema.md', '2026-11'),
  pointerBytes: of('A name in KV', 1_000, 'bytes', 'graft, worker/limits.ts', '2026-11'),
  cpuPerRequest: of('CPU of the edge', 5, 'ms a request', OWN, '2026-11'),
  kvReadsPerRequest: of('KV reads of the edge (key, name)', 2, 'a request', OWN, '2026-11'),
  missShare: of('Requests whose adapter is brought to an origin', 0.02, 'share', OWN, '2026-11'),
  month: of('A month', 30 * 86_400, 's', OWN, '2026-11'),
  bytesPerValue: of('Weights, adapters and keys and values in bfloat16', 2, 'bytes', OWN, '2026-11'),
  context: of('Tokens of a row in memory, on the mean', 1_024, 'tokens', OWN, '2026-11'),
  usableMemory: of('GPU memory that is used', 0.9, 'share', "vLLM's default", '2026-11'),
  usableBandwidth: of('Memory bandwidth that decoding reaches', 0.6, 'share', OWN, '2026-11'),
  maxRows: of('Rows of a batch at most', 256, 'rows', OWN, '2026-11'),
  fill: of('Rows that are busy, on the mean', 0.6, 'share', OWN, '2026-11'),
} as const satisfies Record<string, Assumption>;

/** Shapes of decoders: hidden, layers, feed-forward, width of k and v. Llama 3.1 and 3.2, their config.json. */
export const MODELS = {
  '1b': { params: 1.24e9, hidden: 2_048, layers: 16, feed: 8_192, kv: 512 },
  '3b': { params: 3.21e9, hidden: 3_072, layers: 28, feed: 8_192, kv: 1_024 },
  '8b': { params: 8.03e9, hidden: 4_096, layers: 32, feed: 14_336, kv: 1_024 },
  '70b': { params: 70.6e9, hidden: 8_192, layers: 80, feed: 28_672, kv: 1_024 },
} as const;
export type ModelSize = keyof typeof MODELS;

/** Memory, GB, and its bandwidth, GB/s: NVIDIA's data sheets (SXM of A100, H100 and H200). */
export const GPUS = {
  l4: { memory: 24, bandwidth: 300 },
  l40s: { memory: 48, bandwidth: 864 },
  a100: { memory: 80, bandwidth: 2_039 },
  h100: { memory: 80, bandwidth: 3_350 },
  h200: { memory: 141, bandwidth: 4_800 },
} as const;
export type Gpu = keyof typeof GPUS;
