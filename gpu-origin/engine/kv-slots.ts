import type { ModelRunner, RowDelta } from './ports.ts';

/**
 * Which row is in which slot. Decode rows lie in slots 0 … n-1 without a hole, since a decode step runs over exactly
 * these; the row in prefill lies in a slot above them.
 */
export class KvSlots<Row extends { readonly length: number }> {
  readonly #runner: Pick<ModelRunner, 'slots' | 'assign' | 'move' | 'release'>;
  readonly #rows: Row[] = [];
  #prefilling: { row: Row; slot: number } | null = null;

  constructor(runner: Pick<ModelRunner, 'slots' | 'assign' | 'move' | 'release'>) {
    this.#runner = runner;
  }

  /** Decode rows; the index is the slot. */
  get rows(): readonly Row[] {
    return this.#rows;
  }

  get prefilling(): { readonly row: Row; readonly slot: number } | null {
    return this.#prefilling;
  }

  get running(): number {
    return this.#rows.length + (this.#prefilling === null ? 0 : 1);
  }

  get full(): boolean {
    return this.running >= this.#runner.slots;
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

  /** Takes a row out; the last decode row moves into its slot. Does nothing for a row that has no slot. */
  leave(row: Row): void {
    if (this.#prefilling?.row === row) {
      const { slot } = this.#prefilling;
      this.#prefilling = null;
      this.#runner.release(slot);
      return;
    }
    const slot = this.#rows.indexOf(row);
    if (slot < 0) return;
    const last = this.#rows.pop()!;
    if (last !== row) this.#rows[slot] = last;
    this.#runner.release(slot);
    if (last !== row) this.#runner.move(this.#rows.length, slot, last.length);
  }
}
