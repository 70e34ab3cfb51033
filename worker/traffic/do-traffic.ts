import { z } from 'zod';
import { RequestView } from '../../protocol/index.ts';
import { askObject, type DurableNamespace } from '../platform/ask-object.ts';
import { BUCKETS } from './sum-traffic.ts';
import type { TrafficBatch, TrafficCollector } from './ports.ts';

const count = z.int().min(0);
const histogram = z.array(count).length(BUCKETS);

/** What a collector is sent. */
export const CollectedBatch: z.ZodType<TrafficBatch> = z.object({
  id: z.string(),
  at: z.int(),
  rows: z.array(
    z.object({
      at: z.int(),
      tenant: z.string(),
      name: z.string(),
      keyId: z.string(),
      status: z.int(),
      code: z.string(),
      requests: count,
      promptTokens: count,
      completionTokens: count,
      ttft: histogram,
      duration: histogram,
    }),
  ),
  chunks: z.array(z.object({ tenant: z.string(), requests: z.array(RequestView), leftOut: count })),
});

/** One for all: it takes a call an isolate and flush, some hundred bytes a row. */
const COLLECTOR = 'traffic';

/** Collects in a Durable Object (`TrafficGatherer`), which writes what all isolates sent together. */
export const createDoTraffic = (params: {
  namespace: DurableNamespace;
  timeoutMs: number;
}): TrafficCollector => ({
  add: (batch) =>
    askObject({
      ...params,
      name: COLLECTOR,
      what: 'collector of traffic',
      call: batch,
      parse: () => undefined,
    }),
});
