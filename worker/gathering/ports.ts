/** Ports of gathering: how what isolates count gets to D1. */
import type { UsageRow } from '../metering/ports.ts';

/** What an isolate has counted for one gatherer. */
export interface CountBatch {
  /** The isolate. */
  sender: string;
  /** From 1, growing by one. No batch is sent before the gatherer has taken the one before. */
  number: number;
  usage: UsageRow[];
}

/** They keep what isolates count until it is in D1. Every method throws StoreUnavailable. */
export interface Gatherers {
  /**
   * Resolves once the batch is on the gatherer's disk. One that it has already is not taken again.
   * @param shard the same for each attempt, so that its gatherer knows it.
   */
  add(shard: number, batch: CountBatch): Promise<void>;
  /** Resolves once D1 has everything that gatherers had taken before. */
  writeOut(): Promise<void>;
}
