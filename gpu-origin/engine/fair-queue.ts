/**
 * Who waits, and whose turn it is: the virtual token counter of "Fairness in Serving Large Language Models"
 * (Sheng et al., OSDI 2024, Algorithm 2). Each tenant's counter grows with the tokens it was served; the tenant with the
 * smallest goes first. Whoever comes back after a pause is lifted to the smallest counter in the queue, so that
 * idleness cannot be saved up.
 */
export const PROMPT_TOKEN_WEIGHT = 1;
/** A generated token costs a step of its own; the paper's weights are 1 and 2. */
export const OUTPUT_TOKEN_WEIGHT = 2;
/** Counters kept for tenants that have nothing queued. */
const MAX_IDLE_TENANTS = 4_096;

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
