/** Completions by time, and the last of them one by one. */
import type { RequestView } from '../../protocol/admin-api/traffic.ts';

/** A completion that has ended, however it did; not one without a good key, which belongs to nobody. */
export type EndedCompletion = RequestView;

export interface TrafficSink {
  /** Never throws and never waits. @param keepAlive lets the sending go on after the response. */
  record(ended: EndedCompletion, keepAlive: (work: Promise<unknown>) => void): void;
}

export interface TrafficSums {
  requests: number;
  promptTokens: number;
  completionTokens: number;
  /** Requests by time to first token, and by duration; buckets of sum-traffic.ts. */
  ttft: number[];
  duration: number[];
}

/** What a row is about, beside its time. */
export interface Series {
  /** '' = all tenants together. */
  tenant: string;
  /** '' with keyId '' = all of the tenant's; `*` = names and keys that were too many. */
  name: string;
  keyId: string;
  status: number;
  /** Of the error; '' = none. */
  code: string;
}

/** Of one minute. */
export interface TrafficRow extends Series, TrafficSums {
  /** Where the minute begins, unix s. */
  at: number;
}

/** Of one tenant, newest first. */
export interface RequestChunk {
  tenant: string;
  requests: EndedCompletion[];
  /** Requests of the same time that are not among them. */
  leftOut: number;
}

export interface TrafficBatch {
  id: string;
  /** Unix ms. */
  at: number;
  rows: TrafficRow[];
  chunks: RequestChunk[];
}

/** Takes batches of isolates. Throws StoreUnavailable. */
export interface TrafficCollector {
  /** @param batch.id a batch that was added already is not added again. */
  add(batch: TrafficBatch): Promise<void>;
}

export interface TrafficPoint extends TrafficSums {
  /** Unix s. */
  at: number;
  status: number;
  code: string;
}

/** System of record. Throws StoreUnavailable. */
export interface TrafficLedger extends TrafficCollector {
  /**
   * Sums by step, status and code, oldest first.
   * @param tenant null = all together. @param name @param keyId of these alone; null = whichever.
   * @param from unix s, a multiple of `step`. @param to first that does not count any more. @param step seconds.
   */
  read(params: {
    tenant: string | null;
    name: string | null;
    keyId: string | null;
    from: number;
    to: number;
    step: number;
  }): Promise<TrafficPoint[]>;
  /** Newest first, at most as many as are kept of a tenant. @param tenant null = of all. */
  requests(params: { tenant: string | null; limit: number }): Promise<RequestChunk[]>;
  /** Sums up one hour and one day that are over, and takes away some of what is too old. @param now unix ms. */
  tend(now: number): Promise<void>;
}
