/** Sums of traffic that is not written yet: of requests into rows, of isolates' batches into one. */
import { MAX_BATCH_REQUESTS, MAX_NAMED_ROWS } from './limits.ts';
import { addHistogram, bucketOf, emptyHistogram } from './histogram.ts';
import type { EndedCompletion, RequestChunk, Series, TrafficBatch, TrafficRow } from './ports.ts';

const MINUTE_MS = 60_000;

/** Name of what had too many names. */
export const UNNAMED = '*';

/** @returns of all tenants, of its own, and of its name and key. */
export function rowsOf(ended: EndedCompletion): TrafficRow[] {
  const ttft = emptyHistogram();
  const duration = emptyHistogram();
  if (ended.ttft_ms !== null) ttft[bucketOf(ended.ttft_ms)] = 1;
  duration[bucketOf(ended.duration_ms)] = 1;
  const of = (tenant: string, name: string, keyId: string): TrafficRow => ({
    at: 60 * Math.floor(ended.at / MINUTE_MS),
    ...{ tenant, name, keyId, status: ended.status, code: ended.code },
    requests: 1,
    promptTokens: ended.prompt_tokens,
    completionTokens: ended.completion_tokens,
    ttft: [...ttft],
    duration: [...duration],
  });
  const { tenant } = ended;
  return [of('', '', ''), of(tenant, '', ''), of(tenant, ended.name, ended.key_id)];
}

const hasName = ({ name, keyId }: Series): boolean => name !== UNNAMED && (name !== '' || keyId !== '');

/** What has come since the last {@link Gathered.take}. */
export interface Gathered {
  /** Of rows and requests. */
  readonly size: number;
  add(rows: readonly TrafficRow[], chunks: readonly RequestChunk[]): void;
  /** @returns all of it, at most {@link MAX_NAMED_ROWS} of them by name and key, and forgets it. */
  take(): Pick<TrafficBatch, 'rows' | 'chunks'>;
}

export function gather(): Gathered {
  let rows = new Map<string, TrafficRow>();
  let chunks = new Map<string, RequestChunk>();
  let requests = 0;
  return {
    get size() {
      return rows.size + requests;
    },
    add(moreRows, moreChunks) {
      for (const row of moreRows) addRow(rows, row);
      for (const chunk of moreChunks) requests += addChunk(chunks, chunk);
    },
    take() {
      const taken = { rows: bounded([...rows.values()]), chunks: [...chunks.values()] };
      rows = new Map();
      chunks = new Map();
      requests = 0;
      return taken;
    },
  };
}

function addRow(rows: Map<string, TrafficRow>, row: TrafficRow): void {
  const { at, tenant, name, keyId, status, code } = row;
  const key = JSON.stringify([at, tenant, name, keyId, status, code]);
  const sum = rows.get(key);
  if (sum === undefined) return void rows.set(key, structuredClone(row));
  sum.requests += row.requests;
  sum.promptTokens += row.promptTokens;
  sum.completionTokens += row.completionTokens;
  addHistogram(sum.ttft, row.ttft);
  addHistogram(sum.duration, row.duration);
}

/** @returns how many requests more there are. */
function addChunk(chunks: Map<string, RequestChunk>, chunk: RequestChunk): number {
  const { tenant } = chunk;
  const before = chunks.get(tenant) ?? { tenant, requests: [], leftOut: 0 };
  const all = [...before.requests, ...chunk.requests].sort((a, b) => b.at - a.at);
  const requests = all.slice(0, MAX_BATCH_REQUESTS);
  const leftOut = before.leftOut + chunk.leftOut + all.length - requests.length;
  chunks.set(tenant, { tenant, requests, leftOut });
  return requests.length - before.requests.length;
}

/** Those by name and key that have the fewest requests become rows without. */
function bounded(rows: readonly TrafficRow[]): TrafficRow[] {
  const named = rows.filter(hasName).sort((a, b) => b.requests - a.requests);
  const sums = new Map<string, TrafficRow>();
  for (const row of rows) if (!hasName(row)) addRow(sums, row);
  for (const row of named.slice(MAX_NAMED_ROWS)) addRow(sums, { ...row, name: UNNAMED, keyId: '' });
  return [...sums.values(), ...named.slice(0, MAX_NAMED_ROWS)];
}
