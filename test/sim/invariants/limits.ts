/** What each key has used, as its client knows, and that its limits hold; a counter's own account is in quotas.ts. */
import type { KeyLimits } from '../../../protocol/admin-api/keys.ts';
import { STALE_MS } from '../truth.ts';
import type { World } from '../world/world.ts';
import type { Answered, Ask } from '../client.ts';

/** Who is told of a breach. */
interface Judge {
  world: World;
  fail: (invariant: string, what: string) => void;
}

/** One completion that was answered with 200. */
interface Use {
  from: number;
  until: number;
  /** Prompt and answer, as the answer said; 0 = it did not. */
  tokens: number;
}

/** Limits of a counter from when on they hold everywhere, and until when; unix ms. */
interface Held {
  limits: KeyLimits;
  since: number;
  until: number;
}

const MINUTE = 60_000;
/** After this what an answer has used is counted, ms. */
const COUNTED_MS = 5_000;

/** Counters of keys (the id of a key; successors share it) and of tenants. */
export class Limits {
  readonly #uses = new Map<string, Use[]>();
  readonly #limits = new Map<string, Held[]>();
  /** Text of a key -> its counters. */
  readonly #counters = new Map<string, readonly string[]>();

  /** @param counter id of the first key of its line. */
  know(key: string, { counter, tenant }: { counter: string; tenant: string }): void {
    this.#counters.set(key, [counter, `tenant ${tenant}`]);
  }

  /** New limits were asked for: from now on the old ones may not hold any more. */
  changing(counter: string, now: number): void {
    const last = this.#limits.get(counter)?.at(-1);
    if (last !== undefined) last.until = Math.min(last.until, now);
  }

  /** @param since when they were acknowledged; they hold everywhere a little later. */
  set(counter: string, limits: KeyLimits | null, since: number): void {
    this.changing(counter, since);
    const held = this.#limits.get(counter) ?? [];
    if (limits !== null) held.push({ limits, since, until: Infinity });
    this.#limits.set(counter, held);
  }

  note(sim: Judge, given: Ask, answered: Answered, from: number): void {
    if (answered.kind !== 'answer' || answered.status !== 200 || given.method === 'GET') return;
    if (!/^\/v1\/(chat\/)?(completions|messages|responses|embeddings)$/.test(given.path)) return;
    const counters = this.#counters.get(given.key ?? '');
    if (counters === undefined) return;
    const tokens = Number(/"total_tokens":(\d+)/.exec(answered.text)?.[1] ?? 0);
    for (const counter of counters) {
      const uses = this.#uses.get(counter) ?? [];
      uses.push({ from, until: answered.at, tokens });
      this.#uses.set(counter, uses);
      this.#check(sim, counter, { from, until: answered.at, tokens });
    }
  }

  /**
   * Whether a client may see more than its limits allow: a counter that ends does not answer (`on_outage`) and forgets
   * its last milliseconds, an isolate that ends does not say what its answers used, and clocks decide what a minute is.
   */
  #forgets(sim: Judge): boolean {
    const { bitten } = sim.world.faults;
    return (['object-evicted', 'object-restarted', 'clock-skewed', 'isolate-dropped'] as const).some((kind) =>
      bitten.has(kind),
    );
  }

  #check(sim: Judge, counter: string, use: Use): void {
    if (this.#forgets(sim)) return;
    const uses = this.#uses.get(counter) ?? [];
    for (const { limits, since, until } of this.#limits.get(counter) ?? []) {
      const holds = ({ from, until: ended }: Use): boolean => from >= since + STALE_MS && ended <= until;
      if (!holds(use)) continue;
      const wrong = (what: string): void =>
        sim.fail(
          '5 quotas hold',
          `${counter} may ${JSON.stringify(limits)}, and ${what}, ${use.from} to ${use.until}`,
        );
      // Each was admitted somewhere between its request and its answer.
      const within = uses.filter(
        (one) => holds(one) && one.from >= use.until - MINUTE && one.until <= use.until,
      );
      if (within.length > (limits.requests_per_minute ?? Infinity))
        wrong(`${within.length} requests passed in a minute`);
      const before = (ms: number): number =>
        uses
          .filter(
            (one) =>
              // Tokens count from when there is a limit on them.
              one.from >= since + STALE_MS &&
              one.until + COUNTED_MS <= use.from &&
              one.from >= use.until - ms,
          )
          .reduce((sum, one) => sum + one.tokens, 0);
      if (before(MINUTE) >= (limits.tokens_per_minute ?? Infinity))
        wrong(`a request passed after ${before(MINUTE)} tokens in a minute`);
      const today = use.from - (use.from % 86_400_000);
      if (before(use.until - today) >= (limits.tokens_per_day ?? Infinity))
        wrong(`a request passed after ${before(use.until - today)} tokens in a day`);
    }
  }
}
