/** Which requests are let in: those that vLLM can do, of adapters that are held, while there is room in front of it. */
import {
  type ApiError,
  type BaseInfo,
  chainId,
  type ChainEntry,
  err,
  ok,
  type Result,
} from '../../../protocol/index.ts';
import { checkRequest, neverFits, queueFull } from '../../engine/requests.ts';
import type { EngineRequest } from '../../engine/engine.ts';
import type { ChainTurns } from './chain-turns.ts';
import { cannotDo } from './completion-body.ts';
import { RETRY_MS } from './vllm-api.ts';
import type { VllmRun } from './vllm-run.ts';

/** Of the queue, the share that one tenant may take while others wait or run. */
const QUEUE_SHARE = 4;

/** What a request becomes. */
export interface Admitted {
  maxTokens: number;
  /** Empty for the base. */
  chainId: string;
  chain: readonly ChainEntry[];
}

/** @param params.full why there is no room; null = there is. @param params.check adapters that are not held. */
export async function admit(
  request: EngineRequest,
  params: {
    base: BaseInfo;
    vocabSize: number;
    full: () => ApiError | null;
    check: (digests: readonly string[]) => Promise<ApiError | null>;
  },
): Promise<Result<Admitted, ApiError>> {
  const limits = checkRequest(request, params);
  if (!limits.ok) return limits;
  const refusal =
    cannotDo(request) ?? params.full() ?? (await params.check(request.chain.map(({ digest }) => digest)));
  if (refusal !== null) return err(refusal);
  // What adds nothing is not sent: a chain of nothing else is the base.
  const chain = request.chain.filter(({ scale }) => scale !== 0);
  return ok({ ...limits.value, chain, chainId: chain.length === 0 ? '' : await chainId(chain) });
}

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
