import { ASSUMPTIONS, GPUS, MODELS, type Gpu, type ModelSize } from './assumptions.ts';

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
