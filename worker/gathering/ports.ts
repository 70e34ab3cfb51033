/** Ports of gathering: how what isolates count is kept and gets to D1. */
import type { UsageRow } from '../metering/ports.ts';
import type { PromptRow } from '../prompts/ports.ts';
import type { RequestChunk, TrafficPoint, TrafficQuery, TrafficRow } from '../traffic/ports.ts';

/** What an isolate has counted for one gatherer. */
export interface CountBatch {
  /** The isolate. */
  sender: string;
  /** From 1, growing by one. No batch is sent before the gatherer has taken the one before. */
  number: number;
  usage: UsageRow[];
  /** By name and key; gatherers make totals of them. */
  traffic: TrafficRow[];
  /** One of each tenant. */
  requests: RequestChunk[];
}

/** What gatherers forget. */
export interface ForgottenTraces {
  /** All of it; null = of none. */
  tenant: string | null;
  /** Everybody's use of them. */
  names: readonly string[];
  /** Unix ms; what is later stays. */
  until: number;
}

/**
 * They keep what isolates count until it is in D1: usage for a minute or up to an hour, traffic for an hour. They alone
 * keep the minutes of a day and the list of requests. Every method throws StoreUnavailable.
 */
export interface Gatherers {
  /**
   * Resolves once the batch is on the gatherer's disk. One that it has already is not taken again.
   * @param shard the same for each attempt, so that its gatherer knows it.
   * @returns tenants that are large for this gatherer: they are to be spread.
   */
  add(shard: number, batch: CountBatch): Promise<readonly string[]>;
  /** Resolves once D1 has everything that gatherers had taken before, of the hour that has not ended too, and prompts. */
  writeOut(): Promise<void>;
  /**
   * Resolves once D1 has the usage that gatherers had a minute ago: of a tenant; null = of all, which may be ten minutes old.
   */
  showUsage(tenant: string | null): Promise<void>;
  /** Resolves once they are on the disks of their tenants' gatherers, on the way to D1. */
  keepPrompts(rows: readonly PromptRow[]): Promise<void>;
  /** Resolves once D1 has the tenant's prompts that were kept before. */
  showPrompts(tenant: string): Promise<void>;
  /** Of the minutes that they have. */
  traffic(query: TrafficQuery): Promise<TrafficPoint[]>;
  /**
   * The newest of each gatherer.
   * @param of.tenant null = all. @param of.limit at least so many of each gatherer, if it has them.
   */
  requests(of: { tenant: string | null; limit: number }): Promise<RequestChunk[]>;
  /** @returns how many sums of traffic and requests there were. */
  forget(traces: ForgottenTraces): Promise<{ traffic: number; requests: number }>;
}
