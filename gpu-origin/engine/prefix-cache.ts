/**
 * Which prefilled chunks are kept, and where: a tree of whole chunks for each tenant and chain, since keys and values of
 * a token depend on the tokens before it and on the row's delta, and nobody shall find out by a fast answer what another
 * tenant has asked. Pure: says which block holds what; the runner copies.
 */

/** What is known of a row. */
export interface PrefixOwner {
  readonly tenant: string;
  /** '' = the base. */
  readonly chainId: string;
  readonly prompt: readonly number[];
}

interface Entry {
  readonly key: string;
  readonly id: number;
  readonly parent: Entry | null;
  readonly tenant: string;
  readonly block: number;
  /** Chunks up to its end. */
  readonly depth: number;
  children: number;
  usedAt: number;
  dropped: boolean;
}

export class PrefixCache {
  readonly #chunk: number;
  readonly #free: number[];
  readonly #entries = new Map<string, Entry>();
  /** Blocks by tenant. */
  readonly #counts = new Map<string, number>();
  /** The last chunk of a row that is known to be kept. */
  readonly #reached = new WeakMap<PrefixOwner, Entry>();
  #ids = 0;
  #uses = 0;

  /** @param params.blocks that there are. @param params.chunk tokens of one. */
  constructor({ blocks, chunk }: { blocks: number; chunk: number }) {
    this.#chunk = chunk;
    this.#free = Array.from({ length: blocks }, (_, index) => index).reverse();
  }

  /** Blocks in use. */
  get used(): number {
    return this.#entries.size;
  }

  /** Tokens at the beginning of the prompt that need not be read; one at least remains, whose logits are wanted. */
  tokensOf(row: PrefixOwner): number {
    return this.#path(row).length * this.#chunk;
  }

  /** Counts as a use of them. @returns the blocks that hold the prompt's first chunks, in order. */
  use(row: PrefixOwner): readonly number[] {
    const path = this.#path(row);
    this.#touch(path.at(-1) ?? null);
    const last = path.at(-1);
    if (last !== undefined) this.#reached.set(row, last);
    return path.map(({ block }) => block);
  }

  /**
   * The row has read the whole chunk that ends before token `to`. Where all blocks are taken, a chunk that nothing
   * builds on makes room, the one that was not used for the longest time of the tenant that has most: so nobody has more
   * than an even share while another wants it.
   * @returns where to keep it; null = it is kept already, or is not to be.
   */
  add(row: PrefixOwner, to: number): number | null {
    const depth = to / this.#chunk;
    const parent = this.#reached.get(row) ?? null;
    // What it builds on has been given up meanwhile.
    if ((parent?.depth ?? 0) !== depth - 1 || parent?.dropped === true) return null;
    const key = this.#key(row, parent, depth - 1);
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
    const entry = {
      key,
      id: this.#ids,
      parent,
      tenant,
      block,
      depth,
      children: 0,
      usedAt: 0,
      dropped: false,
    };
    this.#entries.set(key, entry);
    this.#count(tenant, 1);
    if (parent !== null) parent.children += 1;
    this.#touch(entry);
    this.#reached.set(row, entry);
    return block;
  }

  #path(row: PrefixOwner): Entry[] {
    const path: Entry[] = [];
    const most = Math.floor((row.prompt.length - 1) / this.#chunk);
    if (this.#entries.size === 0) return path;
    for (let depth = 0; depth < most; depth += 1) {
      const entry = this.#entries.get(this.#key(row, path.at(-1) ?? null, depth));
      if (entry === undefined) break;
      path.push(entry);
    }
    return path;
  }

  /** Tokens are compared one by one: a hash could be made to collide. */
  #key(row: PrefixOwner, parent: Entry | null, chunk: number): string {
    const before = parent === null ? JSON.stringify([row.tenant, row.chainId]) : String(parent.id);
    const from = chunk * this.#chunk;
    return `${before} ${row.prompt.slice(from, from + this.#chunk).join(' ')}`;
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
    oldest.dropped = true;
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
