/** Everything that happened, as lines: their hash identifies a run, the last ones explain its end. */
import { createHash, type Hash } from 'node:crypto';

const KEPT = 400;
/** Lines that are hashed together, characters. */
const HASHED_AT_ONCE = 65_536;

export class Trace {
  readonly #hash: Hash = createHash('sha256');
  #unhashed = '';
  readonly #last: string[] = [];
  readonly #all: string[] | null;
  readonly #now: () => number;
  readonly #start: number;
  lines = 0;

  /** @param all keeps every line. */
  constructor(now: () => number, all: boolean) {
    this.#now = now;
    this.#start = now();
    this.#all = all ? [] : null;
  }

  readonly note = (actor: string, what: string): void => {
    const line = `${((this.#now() - this.#start) / 1_000).toFixed(3).padStart(9)} ${actor.padEnd(14)} ${what}`;
    this.#unhashed += `${line}\n`;
    if (this.#unhashed.length >= HASHED_AT_ONCE) this.#hashNow();
    this.lines += 1;
    this.#last.push(line);
    if (this.#last.length > KEPT) this.#last.shift();
    this.#all?.push(line);
  };

  #hashNow(): void {
    this.#hash.update(this.#unhashed);
    this.#unhashed = '';
  }

  digest(): string {
    this.#hashNow();
    return this.#hash.copy().digest('hex').slice(0, 16);
  }

  last(count: number): string[] {
    return this.#last.slice(-count);
  }

  all(): readonly string[] {
    return this.#all ?? this.#last;
  }
}
