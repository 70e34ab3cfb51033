/** How tenants share the machine: whose turn it is in the queue, and how many rows of the batch each may hold. Pure. */

/** What a token that was served counts. */
export const PROMPT_TOKEN_WEIGHT = 1;
/** A generated token costs a step of its own; the paper's weights are 1 and 2. */
export const OUTPUT_TOKEN_WEIGHT = 2;
/** Counters kept for tenants that have nothing queued. */
const MAX_IDLE_TENANTS = 4_096;

/**
 * Who waits, and whose turn it is: the virtual token counter of "Fairness in Serving Large Language Models"
 * (Sheng et al., OSDI 2024, Algorithm 2). Each tenant's counter grows with the tokens it was served; the tenant with the
 * smallest goes first. Whoever comes back after a pause is lifted to the smallest counter in the queue, so that
 * idleness cannot be saved up.
 */
export class FairQueue<Item extends { readonly tenant: string }> {
  readonly #queues = new Map<string, Item[]>();
  readonly #counters = new Map<string, number>();
  /** Counter of the tenant that left the queue last. */
  #lastLeft = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** What waits of one tenant, in order. */
  of(tenant: string): readonly Item[] {
    return this.#queues.get(tenant) ?? [];
  }

  counterOf(tenant: string): number {
    return this.#counters.get(tenant) ?? 0;
  }

  /** @param at `front`: before all others of its tenant. */
  add(item: Item, at: 'front' | 'back' = 'back'): void {
    const queue = this.#queues.get(item.tenant);
    this.#size += 1;
    if (queue !== undefined) {
      if (at === 'front') queue.unshift(item);
      else queue.push(item);
      return;
    }
    const floor =
      this.#queues.size === 0
        ? this.#lastLeft
        : Math.min(...[...this.#queues.keys()].map((tenant) => this.counterOf(tenant)));
    this.#counters.set(item.tenant, Math.max(this.counterOf(item.tenant), floor));
    this.#queues.set(item.tenant, [item]);
    if (this.#counters.size > this.#queues.size + MAX_IDLE_TENANTS) this.#forget();
  }

  remove(item: Item): void {
    const queue = this.#queues.get(item.tenant);
    const at = queue?.indexOf(item) ?? -1;
    if (queue === undefined || at < 0) throw new Error('the item is not in the queue');
    queue.splice(at, 1);
    this.#size -= 1;
    if (queue.length > 0) return;
    this.#queues.delete(item.tenant);
    this.#lastLeft = this.counterOf(item.tenant);
  }

  /** @param cost weighted tokens that the tenant was served. */
  charge(tenant: string, cost: number): void {
    this.#counters.set(tenant, this.counterOf(tenant) + cost);
  }

  /** Everything that waits: the least served tenant first, then in order of arrival. */
  *ordered(): Generator<Item> {
    const tenants = [...this.#queues.keys()];
    if (tenants.length > 1) tenants.sort((a, b) => this.counterOf(a) - this.counterOf(b));
    for (const tenant of tenants) yield* [...(this.#queues.get(tenant) ?? [])];
  }

  /** Drops the half of the idle tenants that were served least: their counters would be lifted anyway. */
  #forget(): void {
    const idle = [...this.#counters].filter(([tenant]) => !this.#queues.has(tenant));
    idle.sort((a, b) => a[1] - b[1]);
    for (const [tenant] of idle.slice(0, MAX_IDLE_TENANTS / 2)) this.#counters.delete(tenant);
  }
}

/** What is known of a row or of a sequence that waits. */
interface Owned {
  readonly tenant: string;
}

interface RunningRow extends Owned {
  /** Tokens of it in the KV cache. */
  readonly length: number;
  /** … of which so many were added since it joined the batch, or came back to it. */
  readonly ran: number;
  /** It sits steps out: nothing is lost while another row has its place. */
  readonly late?: boolean;
}

/**
 * A row gets on by a sixteenth of its length before it makes room for somebody, or by so many tokens: it may then be
 * moved out and back, 46 kB a token of the default base each way. Of a row of 1,000 tokens that is 1 % of the time of
 * its 64 steps, of shorter ones less.
 */
const MAX_MIN_RUN_TOKENS = 64;
const MIN_RUN_SHARE = 1 / 16;
/** A prompt is set aside only for one that has at most this share of what it has left: of two long ones the first goes on. */
const SHORTER_SHARE = 1 / 2;
/**
 * Where there are more tenants than rows, one without a row takes that of the tenant that was served most, after so
 * many tokens: most answers end before.
 */
const TURN_TOKENS = 256;

/** Has it been in the batch for long enough to be moved? */
export const mayMakeRoom = ({ length, ran, late }: RunningRow): boolean =>
  late === true || ran >= Math.min(MAX_MIN_RUN_TOKENS, Math.ceil(length * MIN_RUN_SHARE));

interface Prompt extends RunningRow {
  readonly prompt: { readonly length: number };
}

const leftOf = ({ prompt, length }: Prompt): number => Math.max(0, prompt.length - length);

/**
 * May a prompt that is read be set aside for what waits? Prompts are read one at a time, and a chunk of 128 tokens takes
 * some 100 ms on a processor of two cores: who asks something short would wait seconds for one of 2,000.
 * @param counterOf weighted tokens that a tenant was served.
 */
export const goesBefore = (
  waiting: Prompt,
  reading: Prompt,
  counterOf: (tenant: string) => number,
): boolean =>
  waiting.tenant !== reading.tenant &&
  leftOf(waiting) <= leftOf(reading) * SHORTER_SHARE &&
  counterOf(waiting.tenant) <= counterOf(reading.tenant);

/**
 * How many rows of the batch each tenant may hold while others wait, and whose row makes room for them: rows by tenant,
 * and what an even share is among all that have rows or want them.
 */
export class RowShares<Row extends RunningRow> {
  readonly #rows: readonly Row[];
  readonly #counts = new Map<string, number>();
  /** Every tenant that wants it gets so many. */
  readonly #sure: number;
  /** Nobody has more while somebody with less waits. */
  readonly #most: number;

  /**
   * @param params.rows all that are in the batch; nobody is let in while one of them is in prefill.
   * @param params.ready what waits and could run at once.
   */
  constructor(params: { slots: number; rows: readonly Row[]; ready: Iterable<Owned> }) {
    const { slots, rows, ready } = params;
    this.#rows = rows;
    for (const { tenant } of rows) this.#counts.set(tenant, this.#of(tenant) + 1);
    const tenants = new Set(this.#counts.keys());
    for (const { tenant } of ready) tenants.add(tenant);
    this.#sure = Math.floor(slots / Math.max(1, tenants.size));
    this.#most = Math.ceil(slots / Math.max(1, tenants.size));
  }

  /**
   * Who gets the next free row.
   * @param ready in the order of the fair queue.
   * @returns the first whose tenant has less than the rows that are sure to it; else less than an even share rounded
   * up; else the first of all: a free row is nobody's.
   */
  first<Waiting extends Owned>(ready: Iterable<Waiting>): Waiting | null {
    let best: Waiting | null = null;
    let bestRank = Infinity;
    for (const waiting of ready) {
      const rank = this.#rank(waiting.tenant);
      if (rank < bestRank) [best, bestRank] = [waiting, rank];
      if (rank === 0) break;
    }
    return best;
  }

  /**
   * Which row is set aside so that one of `tenant` can run; null: none, it waits for one that ends. It is a row of the
   * tenant that has most rows (of those, that was served most). Taking it brings both tenants nearer to an even share,
   * or gives a tenant without a row its turn, so that no row goes back and forth. Of that tenant's rows it is the one
   * that came last: older ones get on with their answers, as they would in the queue, and it is the shortest to move.
   * @param served weighted tokens that a tenant was served.
   */
  toSetAside(tenant: string, served: (tenant: string) => number): Row | null {
    const mine = this.#of(tenant);
    let chosen: Row | null = null;
    for (const row of this.#rows) {
      if (!this.#makesRoom(row, tenant, mine, served)) continue;
      if (chosen === null || this.#isBefore(row, chosen, served)) chosen = row;
    }
    return chosen;
  }

  #makesRoom(row: Row, tenant: string, mine: number, served: (tenant: string) => number): boolean {
    if (row.tenant === tenant || !mayMakeRoom(row)) return false;
    const theirs = this.#of(row.tenant);
    if (mine < this.#sure && theirs > this.#sure) return true;
    if (mine < this.#most && theirs > this.#most) return true;
    return mine === 0 && row.ran >= TURN_TOKENS && served(row.tenant) > served(tenant);
  }

  #isBefore(row: Row, other: Row, served: (tenant: string) => number): boolean {
    const byRows = this.#of(row.tenant) - this.#of(other.tenant);
    if (byRows !== 0) return byRows > 0;
    const byService = served(row.tenant) - served(other.tenant);
    if (byService !== 0) return byService > 0;
    return row.ran <= other.ran;
  }

  #rank(tenant: string): 0 | 1 | 2 {
    const rows = this.#of(tenant);
    if (rows < this.#sure) return 0;
    return rows < this.#most ? 1 : 2;
  }

  #of(tenant: string): number {
    return this.#counts.get(tenant) ?? 0;
  }
}
