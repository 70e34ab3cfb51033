import type { ApiError } from '../../protocol/index.ts';
import type { RowGrammar } from '../engine/ports.ts';
import type { GrammarEntry } from './grammar-cache.ts';
import type { LaneLost, LaneRow } from './ports.ts';

const NOTHING = new Int32Array(0);

/** Where one answer stands. */
export class OpenRow implements RowGrammar {
  readonly entry: GrammarEntry;
  mask: Int32Array = NOTHING;
  failure: ApiError | null = null;
  readonly #id: number;
  readonly #leave: () => void;
  #accepted: number[] = [];
  #closed = false;

  /** @param leave called once, when it is closed. */
  constructor(id: number, entry: GrammarEntry, leave: () => void) {
    this.#id = id;
    this.entry = entry;
    this.#leave = leave;
  }

  accept(id: number): void {
    this.#accepted.push(id);
  }

  /** What the next step takes in. */
  take(): LaneRow {
    const accepted = this.#accepted;
    this.#accepted = [];
    return { row: this.#id, accepted };
  }

  /** @param masks of all rows of the step; this one is `at`. */
  updated(masks: Int32Array, at: number, failure: string | null): void {
    const { words } = this.entry.lane;
    this.mask = masks.subarray(at * words, (at + 1) * words);
    if (failure !== null)
      this.failure = {
        code: 'invalid_request',
        message: `The answer cannot be gone on with: its grammar ${failure}.`,
        param: null,
      };
  }

  lost(error: LaneLost): void {
    const message = error.tooLong ? 'it takes too long' : 'the server lost it';
    this.failure = {
      code: 'internal_error',
      message: `The answer can no longer be held to its schema or grammar: ${message}.`,
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#leave();
  }
}
