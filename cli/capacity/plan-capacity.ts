/** Every price and assumption of `graft capacity`, each with where it is from and when it was read. */
interface Assumption {
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
type ModelSize = keyof typeof MODELS;

/** Memory, GB, and its bandwidth, GB/s: NVIDIA's data sheets (SXM of A100, H100 and H200). */
export const GPUS = {
  l4: { memory: 24, bandwidth: 300 },
  l40s: { memory: 48, bandwidth: 864 },
  a100: { memory: 80, bandwidth: 2_039 },
  h100: { memory: 80, bandwidth: 3_350 },
  h200: { memory: 141, bandwidth: 4_800 },
} as const;
type Gpu = keyof typeof GPUS;

export interface CapacityInput {
  names: number;
  rank: number;
  params: ModelSize;
  /** Which linears adapters change: all seven of a layer, or q and v. */
  modules: 'all' | 'qv';
  /** Requests a second, on the mean. */
  rps: number;
  /** Of an answer. */
  tokens: number;
  gpu: Gpu;
}

export interface Cost {
  /** $ a month. */
  storage: number;
  requests: number;
  cpu: number;
  /** Reads of keys and names, and of adapters that are brought to origins. */
  reads: number;
  total: number;
  /** $ once: writing all of it. */
  upload: number;
}

export interface CapacityPlan {
  adapterBytes: number;
  parts: number;
  storageGb: number;
  baseGb: number;
  /** Of one origin; null when the base does not fit one GPU. */
  origin: { rows: number; tokensPerSecond: number; residentAdapters: number } | null;
  /** null as above. */
  origins: number | null;
  kvAlone: Cost;
  kvAndR2: Cost;
}

const GB = 1e9;
const MILLION = 1e6;
const value = (name: keyof typeof ASSUMPTIONS): number => ASSUMPTIONS[name].value;

/** Bytes of one adapter: rank x (in + out) values for each linear. */
export function adapterBytes({
  params,
  rank,
  modules,
}: Pick<CapacityInput, 'params' | 'rank' | 'modules'>): number {
  const { hidden, layers, feed, kv } = MODELS[params];
  const [q, v] = [2 * hidden, hidden + kv];
  // q, o; k, v; gate, up, down.
  const sum = modules === 'qv' ? q + v : 2 * q + 2 * v + 3 * (hidden + feed);
  return rank * sum * layers * value('bytesPerValue');
}

/**
 * What so many names and requests need. Decoding reads the weights, and of each row its adapter and its keys and
 * values, once a token; rows are as many as fit beside them. That is a bound by memory alone: measure before buying.
 */
export function planCapacity(input: CapacityInput): CapacityPlan {
  const { names, params, rps, tokens, gpu } = input;
  const bytes = adapterBytes(input);
  const model = MODELS[params];
  const base = model.params * value('bytesPerValue');
  const { memory, bandwidth } = GPUS[gpu];
  const kvBytes = 2 * model.layers * model.kv * value('bytesPerValue') * value('context');
  const left = memory * GB * value('usableMemory') - base;
  const rows = Math.min(value('maxRows'), Math.floor(left / (kvBytes + bytes)));
  const stepSeconds = (base + rows * (kvBytes + bytes)) / (bandwidth * GB * value('usableBandwidth'));
  const origin =
    rows < 1
      ? null
      : {
          rows,
          tokensPerSecond: rows / stepSeconds,
          residentAdapters: Math.floor((left - rows * kvBytes) / bytes),
        };
  const parts = Math.ceil(bytes / value('partBytes'));
  const fleet = { names, bytes, parts, requests: rps * value('month') };
  return {
    adapterBytes: bytes,
    parts,
    storageGb: (names * bytes) / GB,
    baseGb: base / GB,
    origin,
    origins: origin === null ? null : Math.ceil((rps * tokens) / (origin.tokensPerSecond * value('fill'))),
    kvAlone: costOf({ ...fleet, storage: 'kvStorage', read: 'kvRead', write: 'kvWrite' }),
    kvAndR2: costOf({ ...fleet, storage: 'r2Storage', read: 'r2Read', write: 'r2Write' }),
  };
}

/** @param fleet.storage, fleet.read and fleet.write of where adapters' bytes lie; names and keys are in KV. */
function costOf(fleet: {
  names: number;
  bytes: number;
  parts: number;
  requests: number;
  storage: 'kvStorage' | 'r2Storage';
  read: 'kvRead' | 'r2Read';
  write: 'kvWrite' | 'r2Write';
}): Cost {
  const { names, bytes, parts, requests } = fleet;
  const beyond = (used: number, included: number): number => Math.max(0, used - included) / MILLION;
  const storage =
    ((names * bytes) / GB) * value(fleet.storage) +
    ((names * value('pointerBytes')) / GB) * value('kvStorage');
  const asked = value('workersBase') + beyond(requests, value('requestsIncluded')) * value('requestPrice');
  const cpu = beyond(requests * value('cpuPerRequest'), value('cpuIncluded')) * value('cpuPrice');
  // Each file has a record beside its parts.
  const brought = requests * value('missShare') * (parts + 1);
  const reads =
    (requests / MILLION) * value('kvReadsPerRequest') * value('kvRead') +
    (brought / MILLION) * value(fleet.read);
  const upload =
    ((names * (parts + 1)) / MILLION) * value(fleet.write) + (names / MILLION) * value('kvWrite');
  return { storage, requests: asked, cpu, reads, total: storage + asked + cpu + reads, upload };
}
