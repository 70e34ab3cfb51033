/** Whether there is room for more requests in front of vLLM. */
import type { ApiError } from '../../../protocol/index.ts';
import { neverFits, queueFull } from '../../engine/admission.ts';
import type { ChainTurns } from './chain-turns.ts';
import type { VllmRun } from './vllm-run.ts';

/** When to come back after vLLM has gone or its queue was full, ms. */
export const RETRY_MS = 1_000;
/** Of the queue, the share that one tenant may take while others wait or run. */
const QUEUE_SHARE = 4;

/** @returns why `rows` more of `tenant` do not fit; null = they do. */
export function queueRoom(params: {
  turns: ChainTurns<VllmRun>;
  /** That wait or run. */
  live: Iterable<VllmRun>;
  tenant: string;
  rows: number;
  maxQueue: number;
  slots: number;
}): ApiError | null {
  const { turns, live, tenant, rows, maxQueue, slots } = params;
  if (rows > maxQueue + slots) return neverFits(rows);
  const { waiting } = turns;
  const free = Math.max(0, slots - turns.running);
  const others = [...live].some((run) => run.tenant !== tenant);
  const share = others ? Math.ceil(maxQueue / QUEUE_SHARE) : maxQueue;
  const full = waiting + rows > maxQueue + free || turns.waitingOf(tenant) + rows > share + free;
  return full ? queueFull(waiting, RETRY_MS) : null;
}
