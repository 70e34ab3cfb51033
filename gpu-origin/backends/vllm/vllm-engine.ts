/**
 * vLLM as the engine: prompts are sent as token ids, tokens come back with their scores, and everything else
 * (template, text, stop strings, limits, tenants' turns, deadlines, counts) is done here, as for the native
 * engine.
 */
import { err, ok, type ApiError, type Result } from '../../../protocol/api-error.ts';
import { chainId, type ChainEntry } from '../../../protocol/identity.ts';
import type { BaseInfo, ResidentList } from '../../../protocol/origin-wire.ts';
import { anyNeeds, checkRequest, guardObserver } from '../../engine/engine.ts';
import { deadlineExceeded, shuttingDown, neverFits, queueFull } from '../../engine/requests.ts';
import type {
  EngineHandle,
  EngineObserver,
  EngineRequest,
  EngineStats,
  Outcome,
  ScoredToken,
  ServingEngine,
} from '../../engine/engine.ts';
import { checkHeld } from '../../engine/adapters/adapter-memory.ts';
import type { AdapterSource, Clock } from '../../engine/ports.ts';
import type { TokenBytes } from '../../generation/answer-text.ts';
import { completionBody, tokensOf, cannotDo, namesOf, outcomeOf, VllmRun } from './completion-body.ts';
import type { LoadedChains } from './loaded-chains.ts';
import { errorOf, GIVEN_UP, type VllmFailure, type VllmClient, RETRY_MS } from './vllm-client.ts';

/** How often a request is restarted because a restarted vLLM did not have its chain. */
const MAX_RETRIES = 2;

export interface VllmEngineOptions {
  client: VllmClient;
  chains: LoadedChains;
  source: Pick<AdapterSource, 'status'>;
  base: BaseInfo;
  vocabSize: number;
  /** vLLM's name of the base. */
  baseName: string;
  tokens: TokenBytes;
  eosTokenIds: readonly number[];
  clock: Clock;
  observer?: EngineObserver;
  /** Distinct chains at once: vLLM's `--max-loras`. */
  maxLoras: number;
  /** Requests at vLLM at once. */
  slots: number;
  /** Requests that may wait here. */
  maxQueue: number;
  /** Salt of a tenant's entries in vLLM's prefix cache. */
  saltOf: (tenant: string) => string;
}

export class VllmEngine implements ServingEngine {
  readonly hiddenSize = 0;
  readonly #options: VllmEngineOptions;
  readonly #observer: EngineObserver;
  readonly #eos: ReadonlySet<number>;
  readonly #turns: ChainTurns<VllmRun>;
  readonly #live = new Set<VllmRun>();
  readonly #deadlines = new Map<VllmRun, () => void>();
  #closed = false;

  constructor(options: VllmEngineOptions) {
    this.#options = options;
    this.#observer = guardObserver(options.observer ?? {});
    this.#eos = new Set(options.eosTokenIds);
    this.#turns = new ChainTurns({ chains: options.maxLoras, runs: options.slots });
  }

  async add(request: EngineRequest): Promise<Result<EngineHandle, ApiError>> {
    const added = await this.addChoices(request, [request.sampling.seed]);
    return added.ok ? ok(added.value[0]!) : added;
  }

  async addChoices(
    request: EngineRequest,
    seeds: readonly (number | null)[],
  ): Promise<Result<readonly EngineHandle[], ApiError>> {
    const { base, vocabSize } = this.#options;
    const full = (): ApiError | null => this.#full(request.tenant, seeds.length);
    const admitted = await admit(request, { base, vocabSize, full, check: (all) => this.check(all) });
    const error = admitted.ok ? full() : admitted.error;
    if (!admitted.ok || error !== null) {
      const refusal = error ?? shuttingDown();
      this.#observer.onRefuse?.({ ...namesOf(request), error: refusal });
      return err(refusal);
    }
    const addedAt = this.#options.clock.now();
    const runs = seeds.map(
      (seed) =>
        new VllmRun({
          ...{ request, seed, ...admitted.value, addedAt },
          ...{ tokens: this.#options.tokens, eos: this.#eos },
          onAbort: (run) => this.#abort(run),
        }),
    );
    for (const run of runs) this.#begin(run);
    this.#pump();
    return ok(runs.map(({ handle }) => handle));
  }

  stats(): EngineStats {
    const { slots, base, maxLoras } = this.#options;
    const running = [...this.#live].filter((run) => run.startedAt !== null);
    return {
      ...{ slots, maxChains: maxLoras, running: this.#turns.running, waiting: this.#turns.waiting },
      loading: this.#options.chains.loading,
      preempted: 0,
      kvTokens: running.reduce((sum, run) => sum + run.length, 0),
      kvCapacity: slots * base.context,
    };
  }

  residents(): ResidentList {
    return this.#options.chains.residents();
  }

  readonly needs = (digest: string): boolean => anyNeeds(this.#live, digest);

  check(digests: readonly string[]): Promise<ApiError | null> {
    return checkHeld({ source: this.#options.source, observer: this.#observer }, digests);
  }

  /** vLLM loads chains, not adapters: the only preparation is to hold the file. */
  async prefetch(digest: string): Promise<Result<void, ApiError>> {
    const refusal = await this.check([digest]);
    return refusal === null ? ok(undefined) : err(refusal);
  }

  keepPinned(): number {
    return 0;
  }

  drop(digests: ReadonlySet<string>): Promise<number> {
    return this.#options.chains.drop(digests);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const run of [...this.#live]) this.#abort(run);
  }

  #full(tenant: string, rows: number): ApiError | null {
    if (this.#closed) return shuttingDown();
    const { maxQueue, slots } = this.#options;
    return queueRoom({ turns: this.#turns, live: this.#live, tenant, rows, maxQueue, slots });
  }

  #begin(run: VllmRun): void {
    this.#live.add(run);
    const { budgetMs, signal } = run.request;
    if (signal?.aborted === true) return this.#abort(run);
    if (budgetMs !== null)
      this.#deadlines.set(
        run,
        this.#options.clock.timer(budgetMs, () => this.#fail(run, deadlineExceeded())),
      );
    this.#turns.add(run);
  }

  #pump(): void {
    for (let run = this.#turns.next(); run !== null; run = this.#turns.next()) {
      const next = run;
      void this.#serve(next).catch((error: unknown) => {
        this.#observer.onFault?.({ where: 'vllm', error, requestIds: [next.request.id] });
        this.#fail(next, {
          code: 'internal_error',
          message: 'The server failed while answering this request.',
        });
      });
    }
  }

  /** One turn of a run, from its slot to its end or preemption. */
  async #serve(run: VllmRun): Promise<void> {
    const { chains, clock } = this.#options;
    const cold = run.chainId !== '' && run.startedAt === null && !chains.isReady(run.chainId);
    if (cold) run.loadingAt = clock.now();
    const held = run.chainId === '' ? null : await chains.hold(run.chainId, run.chain);
    if (cold && held?.ok === true) run.loadedAt = clock.now();
    const hold = held?.ok === true ? held.value : null;
    if (run.ended) return hold?.release();
    if (held?.ok === false) return this.#fail(run, held.error);
    try {
      if (run.startedAt === null) {
        run.startedAt = clock.now();
        run.request.onBegin?.();
      }
      if (run.maxTokens === 0) return this.#finish(run, 'length');
      await this.#stream(run);
    } finally {
      hold?.release();
    }
  }

  async #stream(run: VllmRun): Promise<void> {
    const { client, saltOf, baseName } = this.#options;
    const generated = run.answer.ids.slice();
    const model = run.chainId === '' ? baseName : run.chainId;
    const body = completionBody({
      ...{ model, request: run.request, seed: run.seed, generated },
      most: run.maxTokens - generated.length,
      salt: saltOf(run.tenant),
    });
    let reason: string | null = null;
    for await (const event of client.stream(body, run.begin(), run.request)) {
      if (run.ended) break;
      if (!event.ok) return this.#failed(run, event.error);
      reason = event.value.choices.at(-1)?.finish_reason ?? reason;
      const tokens = tokensOf(event.value, run.request.sampling.logprobs);
      if (!tokens.ok) return this.#failed(run, { kind: 'strange', message: tokens.error });
      if (this.#take(run, tokens.value)) break;
    }
    if (run.ended) return;
    if (run.aside) return this.#again(run);
    // Without a stop token: vLLM drops some of them.
    if (reason !== null && GIVEN_UP.has(reason))
      return this.#failed(run, { kind: 'gone', message: `it aborted the answer (${reason})` });
    run.tell(run.answer.end());
    this.#finish(run, reason === 'length' ? 'length' : 'stop');
  }

  /** @returns whether there is no more to read. */
  #take(run: VllmRun, tokens: readonly ScoredToken[]): boolean {
    const { clock } = this.#options;
    let aside = false;
    for (const token of tokens) {
      const now = clock.now();
      const { tenant } = run;
      if (run.lastTokenAt === null) {
        run.firstTokenAt = now;
        this.#observer.onFirstToken?.({ tenant, ms: now - run.addedAt });
      } else this.#observer.onToken?.({ tenant, ms: now - run.lastTokenAt });
      run.lastTokenAt = now;
      const part = run.answer.take(token);
      if (!run.tell(part)) {
        this.#abort(run);
        return true;
      }
      // A constrained answer cannot continue from its middle: vLLM restarts its form with each request.
      aside = (this.#turns.token(run) && run.request.grammar == null) || aside;
      if (part.finish === null) continue;
      run.stop();
      this.#finish(run, part.finish);
      return true;
    }
    run.aside = aside;
    if (aside) run.stop();
    return aside;
  }

  #failed(run: VllmRun, failure: VllmFailure): void {
    if (run.ended) return;
    const unknown = failure.kind === 'refused' && failure.status === 404;
    if (failure.kind === 'gone' || unknown) this.#options.chains.forget();
    if (unknown && run.chainId !== '' && run.retries < MAX_RETRIES) {
      run.retries += 1;
      return this.#again(run);
    }
    this.#fail(run, errorOf(failure));
  }

  /** It waits for its next turn. */
  #again(run: VllmRun): void {
    this.#turns.leave(run);
    this.#turns.add(run);
    this.#pump();
  }

  #finish(run: VllmRun, finish: 'stop' | 'length'): void {
    const at = this.#options.clock.now();
    if (this.#end(run, outcomeOf(finish), null, at)) run.finish(finish, at);
    this.#pump();
  }

  #fail(run: VllmRun, error: ApiError): void {
    const at = this.#options.clock.now();
    if (this.#end(run, 'failed', error, at)) {
      run.stop();
      run.fail(error, at);
    }
    this.#pump();
  }

  #abort(run: VllmRun): void {
    const at = this.#options.clock.now();
    if (this.#end(run, 'aborted', null, at)) {
      run.stop();
      run.endAborted(at);
    }
    this.#pump();
  }

  /** @returns false when it has ended already. */
  #end(run: VllmRun, outcome: Outcome, error: ApiError | null, at: number): boolean {
    if (run.ended) return false;
    this.#deadlines.get(run)?.();
    this.#deadlines.delete(run);
    this.#turns.leave(run);
    this.#live.delete(run);
    this.#observer.onFinish?.({ ...run.summary(at), outcome, error });
    return true;
  }
}

/** Tokens after which a chain is preempted for waiting ones. */
export const TURN_TOKENS = 256;
/** Beyond this number, idle tenants are forgotten. */
const MAX_TENANTS = 4_096;

interface Turnable {
  /** Empty = the base, which takes no adapter slot. */
  readonly chainId: string;
  readonly tenant: string;
}

interface Active {
  running: number;
  /** Sum of the longest row's tokens, request after request, in this turn. */
  elapsed: number;
}

interface Running {
  readonly turn: Active;
  /** The turn's `elapsed` when it joined. */
  readonly joinedAt: number;
  tokens: number;
}

/**
 * Admits requests and decides whose run goes to vLLM: it holds few adapters at once, and does not schedule
 * fairly by itself. At most `chains` distinct chains run at once. Of the waiting ones, the one whose tenant has
 * had the fewest tokens goes first, then the one that has waited longest. A chain's turn ends after {@link
 * TURN_TOKENS} tokens if others wait: its runs are preempted and continue in its next turn. So with `chains`
 * slots and answers of at most one turn, a chain waits for at most (waiting chains / `chains` + 1) turns.
 */
export class ChainTurns<Run extends Turnable> {
  readonly #chains: number;
  readonly #runs: number;
  readonly #waiting = new Map<string, Run[]>();
  readonly #active = new Map<string, Active>();
  readonly #running = new Map<Run, Running>();
  /** Tokens of each tenant; a new tenant starts at the lowest count. */
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

  /** It has one more token. @returns whether to preempt it: `leave` it, and `add` it again. */
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

  /** Requests of chains without a slot. */
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

/** Share of the queue that one tenant may use while others wait or run. */
const QUEUE_SHARE = 4;

/** The outcome of a request. */
interface Admitted {
  maxTokens: number;
  /** Empty for the base. */
  chainId: string;
  chain: readonly ChainEntry[];
}

/**
 * Admits requests that vLLM supports, with available adapters, while there is room.
 * @param params.full why there is no room; null = there is. @param params.check adapters that are missing.
 */
async function admit(
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
  // Members without effect are not sent: a chain of only those is the base.
  const chain = request.chain.filter(({ scale }) => scale !== 0);
  return ok({ ...limits.value, chain, chainId: chain.length === 0 ? '' : await chainId(chain) });
}

/** @returns why `rows` more of `tenant` do not fit; null = they do. */
function queueRoom(params: {
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
