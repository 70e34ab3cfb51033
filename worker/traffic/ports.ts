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

/** Of one minute, or of one hour. */
export interface TrafficRow extends Series, TrafficSums {
  /** Its start, unix s. */
  at: number;
}

/** Of one tenant, newest first. */
export interface RequestChunk {
  tenant: string;
  requests: EndedCompletion[];
  /** Requests of the same time that were dropped. */
  leftOut: number;
}

/** Which traffic, and in which steps. */
export interface TrafficQuery {
  /** null = the sum of all. */
  tenant: string | null;
  /** null = any. */
  name: string | null;
  keyId: string | null;
  /** Unix s, a multiple of `step`. */
  from: number;
  /** Exclusive. */
  to: number;
  /** Seconds. */
  step: number;
}

export interface TrafficPoint extends TrafficSums {
  /** Unix s. */
  at: number;
  status: number;
  code: string;
}

/** Hours and days, of all gatherers; they keep the minutes. Throws StoreUnavailable. */
export interface TrafficLedger {
  /**
   * What a gatherer has of an hour, in the place of what it has given of it before.
   * @param hour.at unix s. @param hour.writer the gatherer. @param hour.rows totals too.
   */
  writeHour(hour: { at: number; writer: number; rows: readonly TrafficRow[] }): Promise<void>;
  /** Sums by step, status and code, oldest first. */
  read(query: TrafficQuery): Promise<TrafficPoint[]>;
  /**
   * Sums one day that has ended, and deletes some of what is too old.
   * @param now unix ms.
   */
  tend(now: number): Promise<void>;
  /**
   * Deletes sums of a tenant, and of names, whoever requested them. Those of all tenants stay: they name nobody.
   * @param of.tenant null = of none. @param of.step 3600 or 86400. @param of.from unix s. @param of.to exclusive; at most some hundred steps after `from`.
   * @returns how many.
   */
  forget(of: {
    tenant: string | null;
    names: readonly string[];
    step: number;
    from: number;
    to: number;
  }): Promise<number>;
}
