import type { ChunkParts } from '../engine/ports.ts';
import { keyOf, type FakeRow } from './fake-adapter.ts';

/** What a fake runner keeps of its rows: chunks of tokens, with what came before them and by which delta. */
export class FakeBlocks {
  readonly #kept = new Map<number, { before: string; tokens: readonly number[] }>();
  readonly #chunk: number;
  readonly #misuse: (what: string) => never;

  constructor(chunk: number, misuse: (what: string) => never) {
    this.#chunk = chunk;
    this.#misuse = misuse;
  }

  keep(row: FakeRow, at: number, block: number): void {
    if (at % this.#chunk !== 0 || at + this.#chunk > row.tokens.length)
      this.#misuse(`keep: no whole chunk at ${at} of ${row.tokens.length} tokens`);
    const tokens = row.tokens.slice(at, at + this.#chunk);
    this.#kept.set(block, { before: this.#before(row, at), tokens });
  }

  reuse(row: FakeRow, at: number, block: number): void {
    const kept = this.#kept.get(block);
    if (kept === undefined || at !== row.tokens.length || kept.before !== this.#before(row, at))
      return this.#misuse(`reuse: block ${block} is not what comes after ${row.tokens.length} tokens`);
    row.tokens.push(...kept.tokens);
  }

  #before(row: FakeRow, at: number): string {
    return `${keyOf(row)} ${row.tokens.slice(0, at).join(' ')}`;
  }
}

/** The chunk of which some parts were read. */
export class FakeParts {
  #begun: { chunk: string; parts: number } | null = null;

  readonly #parts: number;

  constructor(parts: number) {
    this.#parts = parts;
  }

  /** @param chunk begins with its slot. @returns whether these parts are next. */
  go(chunk: string, { from, to }: ChunkParts): boolean {
    const next = from === 0 || (this.#begun?.chunk === chunk && this.#begun.parts === from);
    this.#begun = to < this.#parts ? { chunk, parts: to } : null;
    return next && to > from && to <= this.#parts;
  }

  /** @returns whether it was this slot's. */
  leave(slot: number): boolean {
    const its = this.#begun?.chunk.startsWith(`${slot} `) === true;
    if (its) this.#begun = null;
    return its;
  }
}
