/** Types of traffic: completions over time, and a list of the latest ones. */
import type { RequestView } from '../../protocol/admin-api/traffic.ts';

/**
 * A completion that has ended in any way. Excludes requests without a valid key, which belong to no tenant.
 */
export type EndedCompletion = RequestView;

export interface TrafficSink {
  /**
   * Never throws or waits.
   * @param keepAlive lets the sending continue after the response.
   */
  record(ended: EndedCompletion, keepAlive: (work: Promise<unknown>) => void): void;
}

export interface TrafficSums {
  requests: number;
  promptTokens: number;
  completionTokens: number;
  /** Histograms of time to first token and of duration; buckets as in sum-traffic.ts. */
  ttft: number[];
  duration: number[];
}

/** What a row counts, besides its time. */
export interface Series {
  /** '' = all tenants together. */
  tenant: string;
  /** '' with keyId '' = the tenant's total; `*` = names and keys beyond the limit. */
  name: string;
  keyId: string;
  status: number;
  /** The error's; '' = none. */
  code: string;
}

/** Of one minute. */
export interface TrafficRow extends Series, TrafficSums {
  /** Start of the minute, unix s. */
  at: number;
}

/** Of one tenant, newest first. */
export interface RequestChunk {
  tenant: string;
  requests: EndedCompletion[];
  /** Requests of the same time that were dropped. */
  leftOut: number;
}

export interface TrafficBatch {
  id: string;
  /** Unix ms. */
  at: number;
  rows: TrafficRow[];
  chunks: RequestChunk[];
}

/** Collects batches from isolates. Throws StoreUnavailable. */
export interface TrafficCollector {
  /** @param batch.id a batch with a known id is not added again. */
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
   * @param tenant null = the sum of all.
   * @param name null = any.
   * @param keyId null = any.
   * @param from unix s, a multiple of `step`.
   * @param to exclusive.
   * @param step seconds.
   */
  read(params: {
    tenant: string | null;
    name: string | null;
    keyId: string | null;
    from: number;
    to: number;
    step: number;
  }): Promise<TrafficPoint[]>;
  /**
   * Newest first, at most as many as are kept per tenant.
   * @param tenant null = all.
   */
  requests(params: { tenant: string | null; limit: number }): Promise<RequestChunk[]>;
  /**
   * Sums one hour and one day that have ended, and deletes some of what is too old.
   * @param now unix ms.
   */
  tend(now: number): Promise<void>;
}
