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
