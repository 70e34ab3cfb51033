import type { ModelRunner, RowDelta } from './ports.ts';

type Runner = Pick<ModelRunner, 'slots' | 'parking' | 'kvTokens' | 'assign' | 'move' | 'release'>;

interface KvRow {
  /** Tokens that it holds. */
  readonly length: number;
  /** … and is likely to hold at its end. */
  readonly reckonedTokens: number;
}

/**
 * Which row is in which slot. Decode rows lie in slots 0 … n-1 without a hole, since a decode step runs over exactly
 * these; the row in prefill lies in a slot above them. Rows that are set aside lie in the parking slots behind the
 * batch's, each where it is until it comes back.
 */
export class KvSlots<Row extends KvRow> {
  readonly #runner: Runner;
  readonly #rows: Row[] = [];
  readonly #parked = new Map<Row, number>();
  /** Parking slots, the next one to be used last. */
  readonly #free: number[];
  #prefilling: { row: Row; slot: number } | null = null;

  constructor(runner: Runner) {
    this.#runner = runner;
    // Low ones first, so that few of them ever become resident.
    this.#free = Array.from({ length: runner.parking }, (_, index) => runner.slots + index).reverse();
  }

  /** Decode rows; the index is the slot. */
  get rows(): readonly Row[] {
    return this.#rows;
  }

  get prefilling(): { readonly row: Row; readonly slot: number } | null {
    return this.#prefilling;
  }

  /** Decode rows and the one that is about to be. */
  get batch(): readonly Row[] {
    return this.#prefilling === null ? this.#rows : [...this.#rows, this.#prefilling.row];
  }

  get running(): number {
    return this.#rows.length + (this.#prefilling === null ? 0 : 1);
  }

  /** Rows that are set aside. */
  get parked(): number {
    return this.#parked.size;
  }

  get full(): boolean {
    return this.running >= this.#runner.slots;
  }

  get parkingFull(): boolean {
    return this.#free.length === 0;
  }

  /** Is there memory for its keys and values beside those of all that have a slot? One alone always fits. */
  hasMemoryFor(row: Row): boolean {
    if (this.#parked.has(row)) return true;
    let tokens = 0;
    for (const other of [...this.batch, ...this.#parked.keys()]) tokens += other.reckonedTokens;
    return tokens === 0 || tokens + row.reckonedTokens <= this.#runner.kvTokens;
  }

  /** Puts a new row above the decode rows. */
  enter(row: Row, delta: RowDelta | null): void {
    if (this.#prefilling !== null || this.full) throw new Error('there is no slot for another row');
    const slot = this.#rows.length;
    this.#runner.assign(slot, delta);
    this.#prefilling = { row, slot };
  }

  /** The row in prefill becomes the last decode row. */
  join(): void {
    const entering = this.#prefilling;
    if (entering === null) throw new Error('no row is in prefill');
    const slot = this.#rows.length;
    // Decode rows may have ended meanwhile.
    if (entering.slot !== slot) this.#runner.move(entering.slot, slot, entering.row.length);
    this.#prefilling = null;
    this.#rows.push(entering.row);
  }

  /** Sets a row aside; where it was a decode row, the last of these moves into its slot. */
  park(row: Row): void {
    const reading = this.#prefilling?.row === row ? this.#prefilling : null;
    const slot = reading?.slot ?? this.#rows.indexOf(row);
    const place = this.#free.at(-1);
    if (slot < 0 || place === undefined) throw new Error('the row cannot be set aside');
    this.#runner.move(slot, place, row.length);
    this.#free.pop();
    this.#parked.set(row, place);
    if (reading !== null) {
      this.#prefilling = null;
      return;
    }
    const last = this.#takeOut(slot);
    if (last !== row) this.#runner.move(this.#rows.length, slot, last.length);
  }

  /** A row that was set aside becomes the last decode row, or the one in prefill. */
  resume(row: Row, as: 'decode' | 'prefill'): void {
    const place = this.#parked.get(row);
    if (place === undefined || this.#prefilling !== null || this.full)
      throw new Error('the row cannot come back');
    const slot = this.#rows.length;
    this.#runner.move(place, slot, row.length);
    this.#vacate(row, place);
    if (as === 'prefill') this.#prefilling = { row, slot };
    else this.#rows.push(row);
  }

  /** Takes a row out; the last decode row moves into its slot. Does nothing for a row that has no slot. */
  leave(row: Row): void {
    if (this.#prefilling?.row === row) {
      const { slot } = this.#prefilling;
      this.#prefilling = null;
      this.#runner.release(slot);
      return;
    }
    const place = this.#parked.get(row);
    if (place !== undefined) {
      this.#vacate(row, place);
      this.#runner.release(place);
      return;
    }
    const slot = this.#rows.indexOf(row);
    if (slot < 0) return;
    const last = this.#takeOut(slot);
    this.#runner.release(slot);
    if (last !== row) this.#runner.move(this.#rows.length, slot, last.length);
  }

  #vacate(row: Row, place: number): void {
    this.#parked.delete(row);
    this.#free.push(place);
  }

  /** @returns the row that is listed in `slot` now: the last one; or the one that was there, if it was the last. */
  #takeOut(slot: number): Row {
    const last = this.#rows.pop()!;
    if (slot < this.#rows.length) this.#rows[slot] = last;
    return last;
  }
}
