import { EvictionPolicy } from '../../gpu-origin/engine/adapters/adapter-memory.ts';
import { OriginPool } from '../../gpu-origin/http/pool.ts';
import type { VirtualTime } from './virtual-time.ts';

/** Who makes room: the one with the fewest uses, by an origin's own code, or the least recently used. */
export const KEEPING = ['frequent', 'recent'] as const;
export type Keeping = (typeof KEEPING)[number];

/** What stands for the digests of a chain. */
export const chainOf = (chain: number): [{ digest: string }] => [{ digest: `${chain}` }];

/** The least recently used first: what {@link EvictionPolicy} is compared with. */
class RecentOrder {
  readonly #kept = new Set<number>();
  #held: number | null = null;

  get kept(): number {
    return this.#kept.size;
  }
  isKept(chain: number): boolean {
    return this.#kept.has(chain);
  }
  use(chain: number): void {
    if (this.#kept.delete(chain)) this.#kept.add(chain);
  }
  hold(chain: number): void {
    this.#kept.add(chain);
    this.#held = chain;
  }
  free(chain: number): void {
    this.#kept.add(chain);
    this.#held = null;
  }
  drop(chain: number): void {
    this.#kept.delete(chain);
  }
  first(): number | null {
    for (const chain of this.#kept) if (chain !== this.#held) return chain;
    return null;
  }
}

/**
 * An origin in virtual time: rows, one queue for them, and memory for so many chains. A chain that is not there is
 * loaded first, while others run.
 */
export class SimulatedOrigin {
  readonly id: string;
  readonly url: string;
  /** Chains that were loaded. */
  loads = 0;
  /** What it knows of its pool: an origin's own code. */
  readonly pool: OriginPool;
  readonly #time: VirtualTime;
  readonly #slots: number;
  readonly #memory: number;
  readonly #loadMs: number;
  readonly #order: Pick<
    EvictionPolicy<number>,
    'use' | 'hold' | 'free' | 'drop' | 'first' | 'isKept' | 'kept'
  >;
  /** Chain -> who waits for it. */
  readonly #loading = new Map<number, (() => void)[]>();
  readonly #queue: (() => void)[] = [];
  #head = 0;
  #running = 0;
  #waitingForLoad = 0;

  constructor(
    id: string,
    params: {
      time: VirtualTime;
      slots: number;
      /** Chains. */ memory: number;
      loadMs: number;
      keeping: Keeping;
    },
  ) {
    this.id = id;
    this.url = `http://${id}`;
    this.#time = params.time;
    this.#slots = params.slots;
    this.#memory = params.memory;
    this.#loadMs = params.loadMs;
    this.pool = new OriginPool({
      id,
      now: () => params.time.now,
      load: () => ({ rows: this.rows, slots: this.#slots }),
      holds: ([member]) => this.isResident(Number(member?.digest)),
    });
    this.#order = params.keeping === 'frequent' ? new EvictionPolicy() : new RecentOrder();
  }

  get rows(): number {
    return this.#running + this.#queue.length - this.#head + this.#waitingForLoad;
  }

  /** `x-graft-load` as this origin would say it now. */
  get load(): string {
    return `${this.rows}/${this.#slots}`;
  }

  isResident(chain: number): boolean {
    return this.#order.isKept(chain);
  }

  /** In memory from now on, and used unless nobody asks for it yet (`ahead`). */
  remember(chain: number, ahead = false): void {
    if (!ahead) this.#order.use(chain);
    if (this.#order.isKept(chain)) return;
    if (ahead) this.#order.free(chain);
    else this.#order.hold(chain);
    while (this.#order.kept > this.#memory) {
      const first = this.#order.first();
      if (first === null) break;
      this.#order.drop(first);
    }
    if (!ahead) this.#order.free(chain);
  }

  /** @param then when it is in memory, at once if it is. @param ahead no request waits for it. */
  fetch(chain: number, then: () => void, ahead = false): void {
    if (this.#order.isKept(chain)) {
      this.remember(chain, ahead);
      then();
      return;
    }
    const waiting = this.#loading.get(chain);
    if (waiting !== undefined) {
      waiting.push(then);
      return;
    }
    const first = [then];
    this.#loading.set(chain, first);
    this.loads += 1;
    this.#time.after(this.#loadMs, () => {
      this.#loading.delete(chain);
      this.remember(chain, ahead && first.length === 1);
      if (ahead) this.pool.loaded(chainOf(chain));
      for (const go of first) go();
    });
  }

  /** @param onRow it has a row. @param onEnd it has given it back. */
  serve(chain: number, serviceMs: number, { onRow, onEnd }: { onRow: () => void; onEnd: () => void }): void {
    this.pool.arrived(chainOf(chain));
    const run = () => {
      this.#running += 1;
      onRow();
      this.#time.after(serviceMs, () => {
        this.#running -= 1;
        this.pool.held(chainOf(chain), serviceMs);
        onEnd();
        const next = this.#queue[this.#head];
        if (next === undefined) return;
        this.#head += 1;
        if (this.#head > 1_000 && this.#head * 2 > this.#queue.length) this.#queue.splice(0, this.#head);
        if (this.#head > this.#queue.length) this.#head = 0;
        next();
      });
    };
    this.#waitingForLoad += 1;
    this.fetch(chain, () => {
      this.#waitingForLoad -= 1;
      if (this.#running < this.#slots) run();
      else this.#queue.push(run);
    });
  }
}
