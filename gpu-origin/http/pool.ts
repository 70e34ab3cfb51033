/**
 * What an origin knows of its pool: its own rows and demand, and its peers' as edges carry it. An origin calls
 * nobody.
 */
import { decayed, meanHeld, rowsAtOnce, USUAL_HELD_MS } from '../../protocol/demand.ts';
import {
  chainHash,
  MAX_NOTED_CHAINS,
  NOTED_ROWS,
  originHash,
  POOL_WRITE_MS,
  PoolAsk,
  PoolNotes,
  readPoolNotes,
  TURN_FILL,
  writePoolNotes,
  type OriginNote,
} from '../../protocol/pool-notes.ts';

/** Chains whose demand is followed, some 200 bytes each; the least recently requested is forgotten. */
const MAX_FOLLOWED_CHAINS = 2_000;
/** A peer's load counts for this long: rows run for seconds. */
const PEER_LOAD_MS = 5_000;

type Chain = readonly { digest: string }[];

interface Demand {
  chain: Chain;
  /** Requests in the window, decayed to the time `at`. */
  seen: number;
  /** Unix ms. */
  at: number;
  heldMs: number;
}

interface PoolParams {
  id: string;
  /** Unix ms. */
  now: () => number;
  load: () => { rows: number; slots: number };
  /** Whether the chain is in memory. */
  holds: (chain: Chain) => boolean;
}

export class OriginPool {
  readonly #params: PoolParams;
  readonly #id: number;
  readonly #peers: PoolNotes;
  /** By {@link chainHash}. */
  readonly #demands = new Map<number, Demand>();
  #written: { at: number; own: string; pool: string } | null = null;

  constructor(params: PoolParams) {
    this.#params = params;
    this.#id = originHash(params.id);
    this.#peers = new PoolNotes(params.now);
  }

  /** Requests for it were accepted. */
  arrived(chain: Chain, requests = 1): void {
    if (chain.length > 0) this.#follow(chain).seen += requests;
  }

  /** It was loaded ahead of requests. */
  loaded(chain: Chain): void {
    this.#follow(chain);
  }

  /** A request for it has left its row. */
  held(chain: Chain, ms: number): void {
    const known = this.#demands.get(chainHash(chain));
    if (known !== undefined) known.heldMs = meanHeld(known.heldMs, ms);
  }

  /** @param header an edge's {@link POOL_HEADER}. Nobody tells an origin of itself. */
  hear(header: string | undefined): void {
    const now = this.#params.now();
    for (const { origin, note, ageMs } of (header === undefined ? null : readPoolNotes(header)) ?? [])
      if (origin !== this.#id) this.#peers.add(origin, note, { at: now - ageMs });
  }

  /**
   * Whether an edge should ask another origin: this one is crowded, and not all of its peers are.
   * @param ask its {@link ASK_HEADER}.
   */
  turnsAway(ask: string | undefined): boolean {
    if (ask?.endsWith(' turn') !== true || !PoolAsk.safeParse(ask).success) return false;
    const { rows, slots } = this.#params.load();
    if (rows < slots * TURN_FILL) return false;
    const since = this.#params.now() - PEER_LOAD_MS;
    const fills = [...this.#peers.all()]
      .filter(([, { at }]) => at >= since)
      .map(([, peer]) => peer.rows / peer.slots);
    return fills.length === 0 || Math.min(...fills) < rows / slots;
  }

  /** @param ask an edge's {@link ASK_HEADER}. @returns the answer's {@link POOL_HEADER}; null = it wants none. */
  tell(ask: string | undefined): string | null {
    const wanted = PoolAsk.safeParse(ask);
    if (!wanted.success) return null;
    const now = this.#params.now();
    if (this.#written === null || now - this.#written.at >= POOL_WRITE_MS) {
      const own = [this.#id, { ...this.note(), at: now }] as const;
      this.#written = {
        at: now,
        own: writePoolNotes([own], now),
        pool: writePoolNotes([own, ...this.#peers.all()], now),
      };
    }
    return wanted.data.startsWith('pool') ? this.#written.pool : this.#written.own;
  }

  /** Its own. */
  note(): OriginNote {
    const elsewhere = new Map<number, number>();
    for (const [, { chains }] of this.#peers.all())
      for (const [chain, rows] of chains) elsewhere.set(chain, (elsewhere.get(chain) ?? 0) + rows);
    const noted: [number, number][] = [];
    for (const [hash, demand] of this.#demands) {
      const rows = rowsAtOnce(this.#seen(demand), demand.heldMs);
      if (rows + (elsewhere.get(hash) ?? 0) >= NOTED_ROWS && this.#params.holds(demand.chain))
        noted.push([hash, rows]);
    }
    const most = noted.sort((a, b) => b[1] - a[1]).slice(0, MAX_NOTED_CHAINS);
    return { ...this.#params.load(), chains: new Map(most) };
  }

  #follow(chain: Chain): Demand {
    const hash = chainHash(chain);
    const now = this.#params.now();
    const known = this.#demands.get(hash);
    const demand =
      known === undefined
        ? { chain, seen: 0, at: now, heldMs: USUAL_HELD_MS }
        : { ...known, seen: this.#seen(known), at: now };
    this.#demands.delete(hash);
    this.#demands.set(hash, demand);
    if (this.#demands.size > MAX_FOLLOWED_CHAINS)
      this.#demands.delete(this.#demands.keys().next().value as number);
    return demand;
  }

  #seen({ seen, at }: Demand): number {
    return decayed(seen, this.#params.now() - at);
  }
}
