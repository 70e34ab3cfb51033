import type { VirtualTime } from './virtual-time.ts';

/** What makes room: the least recently used, as an origin has it, or of the {@link AMONG} such the least asked for. */
export const KEEPING = ['recent', 'frequent'] as const;
export type Keeping = (typeof KEEPING)[number];
const AMONG = 20;
/** What is counted of a chain in memory halves in this time, ms. */
const HALF_LIFE_MS = 600_000;

/**
 * An origin in virtual time: rows, one queue for them, and memory for so many chains. A chain that is not there is
 * loaded first, while others run.
 */
export class SimulatedOrigin {
  readonly id: string;
  readonly url: string;
  /** Chains that were loaded. */
  loads = 0;
  readonly #time: VirtualTime;
  readonly #slots: number;
  readonly #memory: number;
  readonly #loadMs: number;
  readonly #keeping: Keeping;
  /** Chains in memory, the least recently used first, and how often each was asked for, at `at`. */
  readonly #resident = new Map<number, { count: number; at: number }>();
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
    this.#keeping = params.keeping;
  }

  /** `x-graft-load` as this origin would say it now. */
  get load(): string {
    const waiting = this.#queue.length - this.#head;
    return `${this.#running + waiting + this.#waitingForLoad}/${this.#slots}`;
  }

  isResident(chain: number): boolean {
    return this.#resident.has(chain);
  }

  /** In memory already, before time begins. */
  remember(chain: number): void {
    const count = 1 + this.#countOf(chain);
    this.#resident.delete(chain);
    if (this.#resident.size >= this.#memory) this.#resident.delete(this.#victim());
    this.#resident.set(chain, { count, at: this.#time.now });
  }

  #countOf(chain: number): number {
    const known = this.#resident.get(chain);
    return known === undefined ? 0 : known.count * 2 ** ((known.at - this.#time.now) / HALF_LIFE_MS);
  }

  #victim(): number {
    const among = this.#keeping === 'recent' ? 1 : AMONG;
    let victim = -1;
    let least = Infinity;
    let looked = 0;
    for (const chain of this.#resident.keys()) {
      const count = this.#countOf(chain);
      if (count < least) [victim, least] = [chain, count];
      if ((looked += 1) === among) break;
    }
    return victim;
  }

  /** @param then when it is in memory, at once if it is. */
  fetch(chain: number, then: () => void): void {
    if (this.#resident.has(chain)) {
      this.remember(chain);
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
      this.remember(chain);
      for (const go of first) go();
    });
  }

  /** @param onRow it has a row. @param onEnd it has given it back. */
  serve(chain: number, serviceMs: number, { onRow, onEnd }: { onRow: () => void; onEnd: () => void }): void {
    const run = () => {
      this.#running += 1;
      onRow();
      this.#time.after(serviceMs, () => {
        this.#running -= 1;
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
