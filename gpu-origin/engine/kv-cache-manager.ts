/** Where keys and values are stored: rows in slots, reusable chunks of prompts in blocks. */
import type { ModelRunner, RowDelta } from './ports.ts';

type Runner = Pick<ModelRunner, 'slots' | 'swapSlots' | 'kvTokens' | 'assign' | 'move' | 'release'>;

interface KvRow {
  /** Tokens that it holds. */
  readonly length: number;
  /** … and is likely to hold at its end. */
  readonly reckonedTokens: number;
}

/**
 * Which row is in which slot. Decode rows occupy slots 0 … n-1 without gaps, because a decode step runs over
 * exactly these; the row in prefill has a slot above them. Preempted rows stay in the swap slots after the
 * batch's until they return.
 */
export class KvSlots<Row extends KvRow> {
  readonly #runner: Runner;
  readonly #rows: Row[] = [];
  readonly #swapped = new Map<Row, number>();
  /** Swap slots, the next one to use last. */
  readonly #free: number[];
  #prefilling: { row: Row; slot: number } | null = null;

  constructor(runner: Runner) {
    this.#runner = runner;
    // Low ones first, so that few of them ever become resident.
    this.#free = Array.from({ length: runner.swapSlots }, (_, index) => runner.slots + index).reverse();
  }

  /** Decode rows; the index is the slot. */
  get rows(): readonly Row[] {
    return this.#rows;
  }

  get prefilling(): { readonly row: Row; readonly slot: number } | null {
    return this.#prefilling;
  }

  /** Decode rows, and the one in prefill. */
  get batch(): readonly Row[] {
    return this.#prefilling === null ? this.#rows : [...this.#rows, this.#prefilling.row];
  }

  get running(): number {
    return this.#rows.length + (this.#prefilling === null ? 0 : 1);
  }

  /** Rows that are preempted. */
  get preempted(): number {
    return this.#swapped.size;
  }

  get full(): boolean {
    return this.running >= this.#runner.slots;
  }

  get swapFull(): boolean {
    return this.#free.length === 0;
  }

  /** Is there memory for its keys and values in addition to all rows with a slot? A single one always fits. */
  hasMemoryFor(row: Row): boolean {
    if (this.#swapped.has(row)) return true;
    let tokens = 0;
    for (const other of [...this.batch, ...this.#swapped.keys()]) tokens += other.reckonedTokens;
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
    // Decode rows may have ended in the meantime.
    if (entering.slot !== slot) this.#runner.move(entering.slot, slot, entering.row.length);
    this.#prefilling = null;
    this.#rows.push(entering.row);
  }

  /** Swaps a row out; if it was a decode row, the last of these moves into its slot. */
  swapOut(row: Row): void {
    const reading = this.#prefilling?.row === row ? this.#prefilling : null;
    const slot = reading?.slot ?? this.#rows.indexOf(row);
    const place = this.#free.at(-1);
    if (slot < 0 || place === undefined) throw new Error('the row cannot be preempted');
    this.#runner.move(slot, place, row.length);
    this.#free.pop();
    this.#swapped.set(row, place);
    if (reading !== null) {
      this.#prefilling = null;
      return;
    }
    const last = this.#takeOut(slot);
    if (last !== row) this.#runner.move(this.#rows.length, slot, last.length);
  }

  /** A preempted row becomes the last decode row, or the one in prefill. */
  swapIn(row: Row, as: 'decode' | 'prefill'): void {
    const place = this.#swapped.get(row);
    if (place === undefined || this.#prefilling !== null || this.full)
      throw new Error('the row cannot come back');
    const slot = this.#rows.length;
    this.#runner.move(place, slot, row.length);
    this.#vacate(row, place);
    if (as === 'prefill') this.#prefilling = { row, slot };
    else this.#rows.push(row);
  }

  /** Removes a row; the last decode row moves into its slot. Does nothing for a row without a slot. */
  leave(row: Row): void {
    if (this.#prefilling?.row === row) {
      const { slot } = this.#prefilling;
      this.#prefilling = null;
      this.#runner.release(slot);
      return;
    }
    const place = this.#swapped.get(row);
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
    this.#swapped.delete(row);
    this.#free.push(place);
  }

  /** @returns the row now in `slot`: the moved one; or the removed one, if it was the last. */
  #takeOut(slot: number): Row {
    const last = this.#rows.pop()!;
    if (slot < this.#rows.length) this.#rows[slot] = last;
    return last;
  }
}

/** A prompt, and what acts on its tokens: by first token, a key; '' = the base. */
interface StagedPrompt {
  readonly prompt: { readonly length: number };
  readonly stages: readonly { readonly from: number; readonly key: string }[];
}

/**
 * Where the chunk that begins at token `from` ends: at a multiple of `chunk`, where other adapters begin to act, or with
 * the prompt. So it depends on the request alone.
 */
export function chunkEnd({ prompt, stages }: StagedPrompt, from: number, chunk: number): number {
  const next = stages.find((stage) => stage.from > from)?.from ?? prompt.length;
  return Math.min(from - (from % chunk) + chunk, next, prompt.length);
}

/** What is known of a row. */
interface PrefixOwner extends StagedPrompt {
  readonly tenant: string;
  readonly prompt: readonly number[];
}

/** A kept chunk: the tokens `from` … `to`-1 of prompts. */
export interface KeptChunk {
  readonly from: number;
  readonly to: number;
  readonly block: number;
}

interface Entry extends KeptChunk {
  readonly key: string;
  readonly id: number;
  readonly parent: Entry | null;
  readonly tenant: string;
  children: number;
  usedAt: number;
}

/**
 * Which prefilled chunks are kept, and where: a tree of chunks per tenant and what acts on them, because keys and
 * values of a token depend on the tokens before it and on the deltas there, and because a fast answer must not
 * reveal another tenant's prompts. What is read before an activated adapter acts is its parents', or the base's, and
 * shared with all that begin so. Pure: returns which block holds what; the runner copies.
 */
export class PrefixCache {
  readonly #chunk: number;
  readonly #free: number[];
  readonly #entries = new Map<string, Entry>();
  /** Blocks by tenant. */
  readonly #counts = new Map<string, number>();
  /** A row's last chunk that is known to be kept. */
  readonly #reached = new WeakMap<PrefixOwner, Entry>();
  #ids = 0;
  #uses = 0;

  /** @param params.blocks in total. @param params.chunk tokens of one. */
  constructor({ blocks, chunk }: { blocks: number; chunk: number }) {
    this.#chunk = chunk;
    this.#free = Array.from({ length: blocks }, (_, index) => index).reverse();
  }

  /** Blocks in use. */
  get used(): number {
    return this.#entries.size;
  }

  /**
   * Tokens at the beginning of the prompt that need not be read; at least one remains, whose logits are needed.
   */
  tokensOf(row: PrefixOwner): number {
    return this.#path(row).at(-1)?.to ?? 0;
  }

  /** Whether all chunks of its prompt that can be kept have room beside those of others. */
  hasRoomFor(row: PrefixOwner): boolean {
    let missing = 0;
    for (let from = this.tokensOf(row); from < row.prompt.length;) {
      from = chunkEnd(row, from, this.#chunk);
      if (this.#mayKeep(row, from)) missing += 1;
    }
    return missing <= this.#free.length;
  }

  /** Counts as a use. @returns the prompt's first chunks, in order. */
  use(row: PrefixOwner): readonly KeptChunk[] {
    const path = this.#path(row);
    const last = path.at(-1);
    this.#touch(last ?? null);
    if (last !== undefined) this.#reached.set(row, last);
    return path;
  }

  /**
   * The row has read the chunk that ends before token `to`. If all blocks are taken, a leaf chunk is evicted:
   * the least recently used one of the tenant with the most blocks. So nobody keeps more than an even share
   * while others need blocks.
   * @returns where to store it; null = it is stored already, or is not stored.
   */
  add(row: PrefixOwner, to: number): number | null {
    const parent = this.#reached.get(row) ?? null;
    const from = parent?.to ?? 0;
    if (!this.#mayKeep(row, to) || chunkEnd(row, from, this.#chunk) !== to) return null;
    // Its parent has been evicted in the meantime.
    if (parent !== null && this.#entries.get(parent.key) !== parent) return null;
    const key = this.#key(row, parent, to);
    const known = this.#entries.get(key);
    if (known !== undefined) {
      this.#touch(known);
      this.#reached.set(row, known);
      return null;
    }
    const block = this.#free.pop() ?? this.#makeRoom(row.tenant, parent);
    if (block === null) return null;
    const { tenant } = row;
    this.#ids += 1;
    const entry = { key, id: this.#ids, parent, tenant, block, from, to, children: 0, usedAt: 0 };
    this.#entries.set(key, entry);
    this.#count(tenant, 1);
    if (parent !== null) parent.children += 1;
    this.#touch(entry);
    this.#reached.set(row, entry);
    return block;
  }

  /** Whether the chunk that ends before token `to` may be kept: the prompt's last one ends there only by chance. */
  #mayKeep(row: PrefixOwner, to: number): boolean {
    return to % this.#chunk === 0 || row.stages.some((stage) => stage.from === to);
  }

  #path(row: PrefixOwner): Entry[] {
    const path: Entry[] = [];
    if (this.#entries.size === 0) return path;
    for (;;) {
      const last = path.at(-1) ?? null;
      const to = chunkEnd(row, last?.to ?? 0, this.#chunk);
      const entry = to < row.prompt.length ? this.#entries.get(this.#key(row, last, to)) : undefined;
      if (entry === undefined) return path;
      path.push(entry);
    }
  }

  /** Tokens are compared one by one: hashes could be made to collide. @param to the chunk's end. */
  #key(row: PrefixOwner, parent: Entry | null, to: number): string {
    const from = parent?.to ?? 0;
    const acting = row.stages.findLast((stage) => stage.from <= from)?.key;
    const before = JSON.stringify([parent === null ? row.tenant : parent.id, acting]);
    return `${before} ${row.prompt.slice(from, to).join(' ')}`;
  }

  #touch(last: Entry | null): void {
    this.#uses += 1;
    for (let entry = last; entry !== null; entry = entry.parent) entry.usedAt = this.#uses;
  }

  #makeRoom(tenant: string, parent: Entry | null): number | null {
    const mine = (this.#counts.get(tenant) ?? 0) + 1;
    let [from, most] = [tenant, mine];
    for (const [other, count] of this.#counts)
      if (other !== tenant && count >= most) [from, most] = [other, count];
    let oldest: Entry | null = null;
    for (const entry of this.#entries.values()) {
      if (entry.tenant !== from || entry.children > 0 || entry === parent) continue;
      if (oldest === null || entry.usedAt < oldest.usedAt) oldest = entry;
    }
    if (oldest === null) return null;
    this.#entries.delete(oldest.key);
    this.#count(from, -1);
    if (oldest.parent !== null) oldest.parent.children -= 1;
    return oldest.block;
  }

  #count(tenant: string, change: 1 | -1): void {
    const count = (this.#counts.get(tenant) ?? 0) + change;
    if (count === 0) this.#counts.delete(tenant);
    else this.#counts.set(tenant, count);
  }
}
