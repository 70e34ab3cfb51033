import type { EngineEvent } from './engine-types.ts';

/**
 * Events that the reader may leave unread. An event is about 250 bytes on the wire, so this is 256 KB beside what the
 * sockets hold: who is further behind does not read at all.
 */
export const MAX_UNREAD_EVENTS = 1_024;

/** From the engine to one reader. Pushing never waits, so that a slow reader cannot hold up the batch. */
export class EventChannel implements AsyncIterable<EngineEvent> {
  readonly #leave: () => void;
  #unread: EngineEvent[] = [];
  #read = 0;
  #closed = false;
  #wanted: ((result: IteratorResult<EngineEvent>) => void) | null = null;

  /** @param leave called when the reader goes before the end. */
  constructor(leave: () => void) {
    this.#leave = leave;
  }

  /** @returns false when the reader is too far behind; the event is kept all the same. */
  push(event: EngineEvent): boolean {
    if (this.#closed) return true;
    if (event.kind === 'end' || event.kind === 'error' || event.kind === 'aborted') this.#closed = true;
    if (this.#wanted !== null) {
      const wanted = this.#wanted;
      this.#wanted = null;
      wanted({ done: false, value: event });
      return true;
    }
    this.#unread.push(event);
    return this.#unread.length - this.#read <= MAX_UNREAD_EVENTS;
  }

  [Symbol.asyncIterator](): AsyncIterator<EngineEvent, undefined> {
    const done = { done: true as const, value: undefined };
    return {
      next: async () => {
        if (this.#read < this.#unread.length) return { done: false, value: this.#take() };
        if (this.#closed) return done;
        if (this.#wanted !== null) throw new Error('an event channel has one reader');
        return new Promise((resolve) => {
          this.#wanted = resolve;
        });
      },
      return: async () => {
        if (!this.#closed) this.#leave();
        this.#closed = true;
        this.#unread = [];
        this.#read = 0;
        return done;
      },
    };
  }

  #take(): EngineEvent {
    const event = this.#unread[this.#read]!;
    this.#read += 1;
    if (this.#read === this.#unread.length) {
      this.#unread = [];
      this.#read = 0;
    }
    return event;
  }
}
