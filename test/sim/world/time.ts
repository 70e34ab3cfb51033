/**
 * Virtual time: a queue of events, run one after another, each to its last microtask. Nothing else makes time
 * pass, so that the order of everything follows from the seed.
 */

import type { ResponseCache } from '../../../worker/platform/location-cache.ts';
import type { Random } from './random.ts';

/**
 * A process, an isolate, a Durable Object or a client: what dies as a whole. Its code runs in its own events only, so
 * that the clock, the timers and the randomness it sees are its own ({@link VirtualTime.current}).
 */
export interface Life {
  readonly name: string;
  dead: boolean;
  /** Stopped by SIGSTOP: its events wait until it goes on. */
  stopped: boolean;
  /** Of its wall clock, ms; the world's time plus this is what it believes. */
  skewMs: number;
  /** When it began, ms. */
  readonly born: number;
  readonly random: Random;
  /** The network, as its program reaches it. */
  fetch: (url: string, init: RequestInit) => Promise<Response>;
  /** The Cache API of its location. */
  caches: { open(name: string): Promise<ResponseCache> };
  log: (line: string) => void;
}

interface Event {
  at: number;
  order: number;
  life: Life;
  run: () => void;
  cancelled: boolean;
}

/** What ran too long without time passing: a loop that polls without sleeping. */
const MAX_EVENTS_AT_ONCE = 200_000;

const drained = globalThis.setImmediate;
const turn = (): Promise<void> => new Promise((resolve) => drained(resolve));
/** Events in one turn of Node's own loop; microtasks are done between two of them all the same. */
const EVENTS_A_TURN = 32;

export class VirtualTime {
  /** Unix ms. */
  now = 1_790_000_000_000;
  /** Events so far. */
  count = 0;
  /** Whose event runs. */
  current: Life | null = null;
  readonly #heap: Event[] = [];
  readonly #waiting = new Map<Life, Event[]>();
  #order = 0;
  /** Events since time last passed. */
  #atOnce = 0;

  /** @returns a life that has no program unless given one. */
  life(
    name: string,
    random: Random,
    parts: Partial<Pick<Life, 'fetch' | 'caches' | 'log' | 'skewMs'>> = {},
  ): Life {
    return {
      name,
      random,
      dead: false,
      stopped: false,
      skewMs: 0,
      born: this.now,
      fetch: () => Promise.reject(new Error(`${name} has no network`)),
      caches: { open: () => Promise.reject(new Error(`${name} has no cache`)) },
      log: () => undefined,
      ...parts,
    };
  }

  /** @returns a function that cancels it. */
  after(life: Life, ms: number, run: () => void): () => void {
    const event: Event = {
      at: this.now + Math.max(0, Number.isFinite(ms) ? Math.ceil(ms) : 0),
      order: (this.#order += 1),
      life,
      run,
      cancelled: false,
    };
    this.#push(event);
    return () => {
      event.cancelled = true;
    };
  }

  /** Resolves in the life after `ms`; never if the life ends first. */
  sleep(life: Life, ms: number): Promise<void> {
    return new Promise((resolve) => this.after(life, ms, resolve));
  }

  /** What waited while the life was stopped runs now, in its order. */
  resume(life: Life): void {
    life.stopped = false;
    const waiting = this.#waiting.get(life) ?? [];
    this.#waiting.delete(life);
    for (const event of waiting) this.#push({ ...event, at: this.now, order: (this.#order += 1) });
  }

  /**
   * Runs events until `done`, or until none is left.
   * @param step called after each event and its microtasks.
   */
  async run(done: () => boolean, step: () => void): Promise<void> {
    await turn();
    await new Promise<void>((resolve, reject) => {
      let ended = done();
      if (ended) return resolve();
      let planned = 0;
      const plan = (): void => {
        for (; planned < EVENTS_A_TURN; planned += 1) drained(next);
      };
      const end = (how: () => void): void => {
        ended = true;
        how();
      };
      /** Node empties its queues of microtasks and ticks before the next one of these. */
      const next = (): void => {
        planned -= 1;
        if (ended) return;
        try {
          if (this.current !== null) {
            this.current = null;
            step();
          }
          if (done() || !this.#runNext()) return end(resolve);
        } catch (error) {
          return end(() => reject(error as Error));
        }
        if (planned === 0) plan();
      };
      plan();
    });
  }

  /** @returns false when there is none. */
  #runNext(): boolean {
    for (;;) {
      const event = this.#pop();
      if (event === undefined) return false;
      if (event.cancelled || event.life.dead) continue;
      if (event.life.stopped) {
        const waiting = this.#waiting.get(event.life) ?? [];
        waiting.push(event);
        this.#waiting.set(event.life, waiting);
        continue;
      }
      this.#atOnce = event.at > this.now ? 0 : this.#atOnce + 1;
      if (this.#atOnce > MAX_EVENTS_AT_ONCE)
        throw new Error(
          `${event.life.name} runs without time passing: more than ${MAX_EVENTS_AT_ONCE} events`,
        );
      this.now = Math.max(this.now, event.at);
      this.count += 1;
      this.current = event.life;
      event.run();
      return true;
    }
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(event, heap[parent] as Event)) break;
      heap[at] = heap[parent] as Event;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || first === last) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Event, heap[child] as Event)) child += 1;
      if (!before(heap[child] as Event, last)) break;
      heap[at] = heap[child] as Event;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

const before = (a: Event, b: Event): boolean => a.at < b.at || (a.at === b.at && a.order < b.order);
