/**
 * Which requests are let in, and whose run goes to vLLM now: it keeps few adapters at once, and gives waiting requests
 * no fair turn by itself.
 */
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
import { cannotDo } from './completion-body.ts';
import { RETRY_MS } from './vllm-api.ts';

/** Tokens after which a chain makes room for others that wait. */
export const TURN_TOKENS = 256;
/** Tenants that have nothing to run are forgotten beyond that. */
const MAX_TENANTS = 4_096;

export interface Turnable {
  /** Empty = the base, which takes no adapter's place. */
  readonly chainId: string;
  readonly tenant: string;
}

interface Active {
  running: number;
  /** Tokens of the longest row of requests, one behind the other, in this turn. */
  elapsed: number;
}

interface Running {
  readonly turn: Active;
  /** The turn's `elapsed` when it came in. */
  readonly joinedAt: number;
  tokens: number;
}

/**
 * At most `chains` distinct chains run at once. Of those that wait, the one whose tenant has had the fewest tokens goes
 * first, then the one that has waited longest. A chain's turn ends after {@link TURN_TOKENS} tokens if others wait: its
 * runs are set aside and go on in its next turn. So with `chains` places and answers of one turn at most, a chain waits
 * for at most (chains that wait / `chains` + 1) turns.
 */
export class ChainTurns<Run extends Turnable> {
  readonly #chains: number;
  readonly #runs: number;
  readonly #waiting = new Map<string, Run[]>();
  readonly #active = new Map<string, Active>();
  readonly #running = new Map<Run, Running>();
  /** Tokens of each tenant; one that comes anew begins where the least served is. */
  readonly #served = new Map<string, number>();

  /** @param params.chains distinct chains at once. @param params.runs requests at once. */
  constructor(params: { chains: number; runs: number }) {
    this.#chains = params.chains;
    this.#runs = params.runs;
  }

  get running(): number {
    return this.#running.size;
  }

  get waiting(): number {
    return [...this.#waiting.values()].reduce((sum, runs) => sum + runs.length, 0);
  }

  waitingOf(tenant: string): number {
    return this.#waiting.get(tenant)?.length ?? 0;
  }

  add(run: Run): void {
    const { tenant } = run;
    if (!this.#isKnown(tenant)) {
      const least = Math.min(...[...this.#served].filter(([one]) => this.#isKnown(one)).map(([, n]) => n));
      const before = this.#served.get(tenant) ?? 0;
      this.#served.set(tenant, Number.isFinite(least) ? Math.max(before, least) : before);
      this.#forgetIdle();
    }
    const runs = this.#waiting.get(tenant) ?? [];
    runs.push(run);
    this.#waiting.set(tenant, runs);
  }

  /** @returns the run that goes now, which counts as running; null = none may. */
  next(): Run | null {
    if (this.#running.size >= this.#runs) return null;
    const tenants = [...this.#waiting.keys()].sort((a, b) => this.#servedOf(a) - this.#servedOf(b));
    for (const tenant of tenants) {
      const runs = this.#waiting.get(tenant)!;
      const at = runs.findIndex((run) => this.#mayStart(run));
      if (at < 0) continue;
      const [run] = runs.splice(at, 1) as [Run];
      if (runs.length === 0) this.#waiting.delete(tenant);
      this.#start(run);
      return run;
    }
    return null;
  }

  /** It has one more token. @returns whether it is to be set aside: `leave` it, and `add` it again. */
  token(run: Run): boolean {
    const { tenant, chainId } = run;
    this.#served.set(tenant, this.#servedOf(tenant) + 1);
    const running = this.#running.get(run);
    if (running === undefined) return false;
    const { turn } = running;
    running.tokens += 1;
    turn.elapsed = Math.max(turn.elapsed, running.joinedAt + running.tokens);
    return chainId !== '' && turn.elapsed >= TURN_TOKENS && this.#othersWait();
  }

  /** It runs or waits no longer. */
  leave(run: Run): void {
    const running = this.#running.get(run);
    if (running !== undefined) {
      this.#running.delete(run);
      running.turn.running -= 1;
      if (running.turn.running === 0 && this.#active.get(run.chainId) === running.turn)
        this.#active.delete(run.chainId);
      return;
    }
    const runs = this.#waiting.get(run.tenant);
    const at = runs?.indexOf(run) ?? -1;
    if (runs === undefined || at < 0) return;
    runs.splice(at, 1);
    if (runs.length === 0) this.#waiting.delete(run.tenant);
  }

  #start(run: Run): void {
    const turn = this.#active.get(run.chainId) ?? { running: 0, elapsed: 0 };
    turn.running += 1;
    this.#active.set(run.chainId, turn);
    this.#running.set(run, { turn, joinedAt: turn.elapsed, tokens: 0 });
  }

  #mayStart({ chainId }: Run): boolean {
    if (chainId === '') return true;
    const turn = this.#active.get(chainId);
    if (turn !== undefined) return turn.elapsed < TURN_TOKENS || !this.#othersWait();
    return [...this.#active.keys()].filter((id) => id !== '').length < this.#chains;
  }

  /** Requests of chains that have no place now. */
  #othersWait(): boolean {
    for (const runs of this.#waiting.values())
      if (runs.some(({ chainId }) => chainId !== '' && !this.#active.has(chainId))) return true;
    return false;
  }

  #servedOf(tenant: string): number {
    return this.#served.get(tenant) ?? 0;
  }

  #isKnown(tenant: string): boolean {
    if (this.#waiting.has(tenant)) return true;
    for (const run of this.#running.keys()) if (run.tenant === tenant) return true;
    return false;
  }

  #forgetIdle(): void {
    if (this.#served.size <= MAX_TENANTS) return;
    for (const tenant of this.#served.keys()) if (!this.#isKnown(tenant)) this.#served.delete(tenant);
  }
}

/** Of the queue, the share that one tenant may take while others wait or run. */
const QUEUE_SHARE = 4;

/** What a request becomes. */
interface Admitted {
  maxTokens: number;
  /** Empty for the base. */
  chainId: string;
  chain: readonly ChainEntry[];
}

/**
 * Lets in what vLLM can do, of adapters that are held, while there is room in front of it.
 * @param params.full why there is no room; null = there is. @param params.check adapters that are not held.
 */
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
  turns: Pick<ChainTurns<Turnable>, 'running' | 'waiting' | 'waitingOf'>;
  /** That wait or run. */
  live: Iterable<Pick<Turnable, 'tenant'>>;
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
