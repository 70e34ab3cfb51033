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

/** What loading one chain takes. */
export interface LoadCost {
  /** Before its first byte, ms. */
  waitMs: number;
  /** Size, MB (10^6 bytes), and what an origin's network carries, MB a second: transfers follow each other. */
  mb: number;
  mbPerS: number;
}

interface OriginParams {
  time: VirtualTime;
  slots: number;
  /** Chains. */
  memory: number;
  load: LoadCost;
  keeping: Keeping;
  /** Conversations whose prompts are kept, the least recently used dropped first. */
  prompts: number;
  /** Longer that a row takes whose conversation's earlier turns are not here, ms. */
  rereadMs: number;
}

/** Of a conversation. */
export interface Turn {
  conversation: number;
  isFirst: boolean;
}

/** A request at an origin. */
export interface Asked {
  chain: number;
  serviceMs: number;
  /** null = it has none. */
  turn: Turn | null;
  /** It has a row. */
  onRow: () => void;
  /** It has given it back. */
  onEnd: () => void;
  /** The origin died under it. @param hadRow an answer had begun. */
  onLost: (hadRow: boolean) => void;
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
  /** Later turns that came, and those of them whose conversation was here. */
  laterTurns = 0;
  knownTurns = 0;
  state: 'up' | 'draining' | 'down' = 'up';
  /** What it knows of its pool: an origin's own code. */
  pool: OriginPool;
  readonly slots: number;
  readonly #params: OriginParams;
  readonly #time: VirtualTime;
  #order: Pick<EvictionPolicy<number>, 'use' | 'hold' | 'free' | 'drop' | 'first' | 'isKept' | 'kept'>;
  /** Chain -> who waits for it. */
  readonly #loading = new Map<number, (() => void)[]>();
  #transfersEndAt = 0;
  #queue: (() => void)[] = [];
  #head = 0;
  #running = 0;
  #waitingForLoad = 0;
  /** Requests that are here, and whether they have a row. */
  readonly #here = new Map<Asked, boolean>();
  /** Conversations whose prompts it has, least recently used first. */
  readonly #prompts = new Set<number>();
  /** Counts its processes: what one had planned, the next does not do. */
  #process = 0;

  constructor(id: string, params: OriginParams) {
    this.id = id;
    this.url = `http://${id}`;
    this.slots = params.slots;
    this.#params = params;
    this.#time = params.time;
    ({ pool: this.pool, order: this.#order } = this.#emptied());
  }

  #emptied() {
    const { time, keeping } = this.#params;
    const pool = new OriginPool({
      id: this.id,
      now: () => time.now,
      load: () => ({ rows: this.rows, slots: this.slots }),
      holds: ([member]) => this.isResident(Number(member?.digest)),
    });
    return { pool, order: keeping === 'frequent' ? new EvictionPolicy<number>() : new RecentOrder() };
  }

  get rows(): number {
    return this.#running + this.#queue.length - this.#head + this.#waitingForLoad;
  }

  /** `x-graft-load` as this origin would say it now. */
  get load(): string {
    return `${this.rows}/${this.slots}${this.state === 'draining' ? ' draining' : ''}`;
  }

  /** Its process ends, with all that is in its memory. @param forMs until the next one takes requests. */
  die(forMs: number): void {
    this.state = 'down';
    this.#process += 1;
    const here = [...this.#here];
    this.#here.clear();
    this.#loading.clear();
    this.#prompts.clear();
    this.#queue = [];
    this.#head = 0;
    this.#running = 0;
    this.#waitingForLoad = 0;
    this.#transfersEndAt = 0;
    ({ pool: this.pool, order: this.#order } = this.#emptied());
    this.#time.after(forMs, () => (this.state = 'up'));
    for (const [asked, hadRow] of here) asked.onLost(hadRow);
  }

  /** It takes no more requests, and dies when it has none. */
  drain(forMs: number): void {
    this.state = 'draining';
    const look = () => {
      if (this.#here.size === 0) this.die(forMs);
      else this.#time.after(100, look);
    };
    look();
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
    while (this.#order.kept > this.#params.memory) {
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
    const { waitMs, mb, mbPerS } = this.#params.load;
    const beginsAt = Math.max(this.#time.now + waitMs, this.#transfersEndAt);
    this.#transfersEndAt = beginsAt + (1_000 * mb) / mbPerS;
    this.#inProcess(this.#transfersEndAt - this.#time.now, () => {
      this.#loading.delete(chain);
      this.remember(chain, ahead && first.length === 1);
      if (ahead) this.pool.loaded(chainOf(chain));
      for (const go of first) go();
    });
  }

  serve(asked: Asked): void {
    const { chain, serviceMs, turn } = asked;
    this.pool.arrived(chainOf(chain));
    this.#here.set(asked, false);
    const run = () => {
      this.#running += 1;
      this.#here.set(asked, true);
      asked.onRow();
      const heldMs = serviceMs + this.#reread(turn);
      this.#inProcess(heldMs, () => {
        this.#running -= 1;
        this.#here.delete(asked);
        this.pool.held(chainOf(chain), heldMs);
        asked.onEnd();
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
      if (this.#running < this.slots) run();
      else this.#queue.push(run);
    });
  }

  /** @returns how much longer its row takes, ms. */
  #reread(turn: Turn | null): number {
    if (turn === null) return 0;
    const { conversation, isFirst } = turn;
    const isKnown = this.#prompts.delete(conversation);
    this.#prompts.add(conversation);
    if (this.#prompts.size > this.#params.prompts)
      this.#prompts.delete(this.#prompts.values().next().value as number);
    if (isFirst) return 0;
    this.laterTurns += 1;
    if (isKnown) this.knownTurns += 1;
    return isKnown ? 0 : this.#params.rereadMs;
  }

  /** Not if it has died until then. */
  #inProcess(ms: number, run: () => void): void {
    const process = this.#process;
    this.#time.after(ms, () => {
      if (process === this.#process) run();
    });
  }
}
