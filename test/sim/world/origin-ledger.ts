/** What an origin tells the simulation beside its answers; its processes come and go, this stays. */
import type { Engine } from '../../../gpu-origin/engine/engine.ts';
import type { Clock } from '../../../gpu-origin/engine/ports.ts';
import type { FakeRunner } from '../../gpu-origin/fake-runner.ts';

export interface OriginLedger {
  /** Tokens that its rows made, by the edge's id of the request, with its time here, unix ms. */
  requests: Map<
    string,
    { tenant: string; runs: number; completion: number; open: number; from: number; until: number }
  >;
  /** What must not be, and its invariant. */
  breaches: { invariant: string; what: string }[];
}

export const newLedger = (): OriginLedger => ({ requests: new Map(), breaches: [] });

/** A row that nobody waits for ends at the next step; this many steps are enough for whatever comes between. */
const LEFT_STEPS = 20;
/** … and this long for what is no step, ms. */
const LEFT_MS = 1_000;
/** An engine with work and nothing to wait for takes a step within it, ms. */
const IDLE_MS = 8_000;
/** The size of an adapter that is loading is an estimate; this many of the largest may be wrong. */
const ESTIMATED = 4;

/**
 * Decode steps that a tenant without a row waits, at most, while another has more than its share of them: a row runs a
 * sixteenth of its length before it makes room (scheduler.ts), 16 in a context of 256, and moving it takes some.
 */
const FAIR_STEPS = 50;
/** Below this, bytes, adapters may be what a row waits for. */
const ROOMY_BYTES = 30_000;

type Asked = Parameters<Engine['addChoices']>[0];

/** Watches one engine: rows that are left, tokens that are made, memory and queue. */
export class EngineWatch {
  readonly #ledger: OriginLedger;
  readonly #clock: Clock;
  readonly #runner: FakeRunner;
  readonly #params: {
    stepMs: number;
    maxQueue: number;
    adapterBytes: number;
    largestAdapter: number;
    name: string;
  };
  #engine: Engine | null = null;
  #open = 0;
  /** Requests that have not ended, and how many rows of theirs have begun. */
  readonly #requests = new Set<{ request: Asked; rows: number; begun: number }>();
  /** Decode steps for which a tenant has had no row, though it was due one. */
  readonly #waited = new Map<string, number>();
  #timer = false;
  /** Steps when it was last seen to be idle with work, and since when; null = it is not. */
  #idle: { steps: number; since: number } | null = null;

  constructor(
    ledger: OriginLedger,
    clock: Clock,
    runner: FakeRunner,
    params: {
      stepMs: number;
      maxQueue: number;
      adapterBytes: number;
      largestAdapter: number;
      name: string;
    },
  ) {
    this.#ledger = ledger;
    this.#clock = clock;
    this.#runner = runner;
    this.#params = params;
  }

  watch(engine: Engine): void {
    this.#engine = engine;
  }

  #breach(invariant: string, what: string): void {
    if (this.#ledger.breaches.length < 10)
      this.#ledger.breaches.push({ invariant, what: `${this.#params.name}: ${what}` });
  }

  /** @returns the request as the engine is to see it. */
  begin(request: Asked, choices: number): { request: Asked; added: () => void } {
    let open = 0;
    const state = { request, rows: choices, begun: 0 };
    const noted = this.#ledger.requests.get(request.id) ?? {
      tenant: request.tenant,
      runs: 0,
      completion: 0,
      open: 0,
      from: Date.now(),
      until: 0,
    };
    noted.runs += 1;
    this.#ledger.requests.set(request.id, noted);
    const add = (ran: { completionTokens: number }): void => {
      noted.completion += ran.completionTokens;
      noted.open -= 1;
      noted.until = Date.now();
    };
    const watched: Asked = {
      ...request,
      onBegin: () => {
        state.begun += 1;
        request.onBegin?.();
      },
      onEnd: (ran) => {
        open -= 1;
        if (state.begun > 0) state.begun -= 1;
        state.rows -= 1;
        if (state.rows === 0) this.#requests.delete(state);
        this.#open -= 1;
        add(ran);
        request.onEnd?.(ran);
      },
    };
    return {
      request: watched,
      added: () => {
        open += choices;
        noted.open += choices;
        this.#open += choices;
        if (state.rows > 0) this.#requests.add(state);
        this.#watchIdle();
        const { signal } = request;
        const left = (): void => {
          const bound = LEFT_STEPS * this.#params.stepMs + LEFT_MS;
          // Twice: a process that was stopped meanwhile has its own turn first.
          this.#clock.timer(bound, () => {
            if (open > 0)
              this.#clock.timer(bound, () => {
                if (open > 0)
                  this.#breach(
                    '8 nothing is held for nobody',
                    `a row of ${request.tenant} runs ${2 * bound} ms after its client has left`,
                  );
              });
          });
        };
        if (signal?.aborted === true) left();
        else signal?.addEventListener('abort', left, { once: true });
      },
    };
  }

  /** Looks once a second, as long as there is work. */
  #watchIdle(): void {
    if (this.#timer) return;
    this.#timer = true;
    this.#clock.timer(1_000, () => {
      this.#timer = false;
      this.#look();
      if (this.#open > 0) this.#watchIdle();
    });
  }

  #look(): void {
    const stats = this.#engine?.stats();
    if (stats === undefined) return;
    // What loads for nobody in particular takes memory that others wait for.
    const loads = this.#engine?.residents().adapters.some(({ state }) => state === 'loading') === true;
    const stands =
      stats.running === 0 && stats.loading === 0 && !loads && stats.waiting + stats.preempted > 0;
    const now = this.#clock.now();
    if (!stands || this.#idle?.steps !== this.#runner.steps) {
      this.#idle = stands ? { steps: this.#runner.steps, since: now } : null;
      return;
    }
    if (now - this.#idle.since > IDLE_MS)
      this.#breach(
        '7 everybody who waits is served',
        `${stats.waiting} wait and ${stats.preempted} are preempted, and no step is taken`,
      );
  }

  /** No tenant waits for a row longer than the fair share says, where nothing but rows is short. */
  #checkShares(kind: 'prefill' | 'decode' | 'mixed', preempted: number): void {
    const engine = this.#engine;
    const { slots, kvTokens, base } = this.#runner;
    // A preempted row keeps its keys and values.
    const ample = kvTokens >= (slots + 1) * base.context && this.#params.adapterBytes >= ROOMY_BYTES;
    if (kind !== 'decode' || engine === null || !ample) return;
    const rows = new Map<string, number>();
    const waits = new Set<string>();
    for (const { request, begun } of this.#requests) {
      rows.set(request.tenant, (rows.get(request.tenant) ?? 0) + begun);
      if (begun === 0 && engine.holds(request.chain)) waits.add(request.tenant);
    }
    const sure = Math.floor(slots / Math.max(1, rows.size));
    const taken = [...rows.values()].some((many) => many > sure);
    for (const tenant of rows.keys()) {
      const due = waits.has(tenant) && rows.get(tenant) === 0 && sure > 0 && taken && preempted === 0;
      const waited = due ? (this.#waited.get(tenant) ?? 0) + 1 : 0;
      this.#waited.set(tenant, waited);
      if (waited > FAIR_STEPS)
        this.#breach(
          '7 nobody waits for more than the fair share',
          `${tenant} has waited for ${waited} steps`,
        );
    }
    for (const tenant of this.#waited.keys()) if (!rows.has(tenant)) this.#waited.delete(tenant);
  }

  /** What the largest of the chains that run may take alone, bytes: its adapters, their sum and a padded row. */
  #mostAlone(): number {
    const bytes = new Map(this.#runner.loaded.map((one) => [one.digest, one.bytes]));
    const chains = [...this.#requests].filter(({ begun }) => begun > 0).map(({ request }) => request.chain);
    return (
      3 *
      Math.max(
        0,
        ...chains.map((chain) => chain.reduce((sum, { digest }) => sum + (bytes.get(digest) ?? 0), 0)),
      )
    );
  }

  /** After each step. */
  step(kind: 'prefill' | 'decode' | 'mixed'): void {
    const stats = this.#engine?.stats();
    if (stats === undefined || this.#engine === null) return;
    this.#checkShares(kind, stats.preempted);
    // A tenant that has nothing there may wait although others fill the queue (scheduler.ts).
    const { maxQueue } = this.#params;
    const most = maxQueue + Math.max(maxQueue, stats.slots);
    const queued = stats.waiting + stats.loading - stats.preempted;
    if (queued > most)
      this.#breach('8 memory stays within its limits', `${queued} wait in a queue of ${most}`);
    const { adapterBytes: budget, largestAdapter } = this.#params;
    const adapters = this.#runner.loaded.reduce((sum, { bytes }) => sum + bytes, 0);
    const used = adapters + this.#runner.batchHeldBytes;
    // What is loading is taken for as large as the largest one before it.
    const slack = ESTIMATED * largestAdapter;
    // A chain that is alone may take more, and others join it that need no more.
    if (stats.running > 1 && used > Math.max(budget, this.#mostAlone()) + slack)
      this.#breach(
        '8 memory stays within its limits',
        `adapters take ${adapters} bytes and the batch ${this.#runner.batchHeldBytes} of ${budget}`,
      );
  }
}
