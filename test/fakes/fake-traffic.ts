import { MAX_KEPT_REQUESTS } from '../../protocol/index.ts';
import { addHistogram } from '../../worker/traffic/sum-traffic.ts';
import { KEPT_S, REQUESTS_KEPT_MS } from '../../worker/traffic/limits.ts';
import type {
  RequestChunk,
  TrafficBatch,
  TrafficLedger,
  TrafficPoint,
  TrafficRow,
} from '../../worker/traffic/ports.ts';

/** Rows in memory. It keeps minutes as long as D1 keeps days, so that nothing has to be summed up. */
export function createFakeTraffic(): TrafficLedger {
  const batches = new Map<string, TrafficBatch>();
  let chunks: (RequestChunk & { at: number })[] = [];

  const isMeant = (row: TrafficRow, of: Parameters<TrafficLedger['read']>[0]): boolean => {
    if (of.name === null && of.keyId === null)
      return row.tenant === (of.tenant ?? '') && row.name === '' && row.keyId === '';
    return (
      (of.tenant === null || row.tenant === of.tenant) &&
      (of.name === null || row.name === of.name) &&
      (of.keyId === null || row.keyId === of.keyId)
    );
  };

  return {
    async add(batch) {
      if (batches.has(batch.id)) return;
      batches.set(batch.id, structuredClone(batch));
      for (const chunk of batch.chunks)
        chunks.unshift({ ...structuredClone(chunk), at: chunk.requests[0]?.at ?? batch.at });
      chunks.sort((a, b) => b.at - a.at);
      const kept = new Map<string, number>();
      chunks = chunks.filter(({ tenant, requests }) => {
        const newer = kept.get(tenant) ?? 0;
        kept.set(tenant, newer + requests.length);
        return newer < MAX_KEPT_REQUESTS;
      });
    },
    async read(of) {
      const points = new Map<string, TrafficPoint>();
      for (const row of [...batches.values()].flatMap(({ rows }) => rows)) {
        if (row.at < of.from || row.at >= of.to || !isMeant(row, of)) continue;
        const at = Math.floor(row.at / of.step) * of.step;
        const key = `${at} ${row.status} ${row.code}`;
        const sum = points.get(key);
        if (sum === undefined) {
          const { status, code, requests, promptTokens, completionTokens, ttft, duration } = row;
          points.set(key, {
            ...{ at, status, code, requests, promptTokens, completionTokens },
            ...{ ttft: [...ttft], duration: [...duration] },
          });
          continue;
        }
        sum.requests += row.requests;
        sum.promptTokens += row.promptTokens;
        sum.completionTokens += row.completionTokens;
        addHistogram(sum.ttft, row.ttft);
        addHistogram(sum.duration, row.duration);
      }
      return [...points.values()].sort((a, b) => a.at - b.at);
    },
    async requests({ tenant, limit }) {
      let before = 0;
      return chunks
        .filter((chunk) => tenant === null || chunk.tenant === tenant)
        .filter(({ requests }) => (before += requests.length) - requests.length < limit)
        .map(({ tenant: of, requests, leftOut }) => ({ tenant: of, requests, leftOut }));
    },
    async tend(now) {
      const oldest = Math.floor(now / 1000) - KEPT_S[86400];
      for (const [id, batch] of batches) if (batch.rows.every(({ at }) => at < oldest)) batches.delete(id);
      chunks = chunks.filter(({ at }) => at >= now - REQUESTS_KEPT_MS);
    },
  };
}
