import { err, ok, type ApiError, type Result } from '../../../protocol/index.ts';
import { rankSumExceeded, unavailableAdapter, type Lease } from './adapter-entry.ts';
import type { EngineObserver } from '../observer.ts';
import type { ChainMember, ModelRunner, ResidentAdapter, RowDelta } from '../ports.ts';

/** Composed deltas that are kept although no row uses them: they are made again in milliseconds. */
const MAX_IDLE = 64;

interface Composed {
  readonly delta: RowDelta;
  readonly digests: ReadonlySet<string>;
  references: number;
}

/** Composed deltas by chain id, so that rows with the same chain share one. They live on their members' memory. */
export class ChainDeltas {
  readonly #runner: Pick<ModelRunner, 'compose' | 'base'>;
  readonly #observer: EngineObserver;
  /** Least recently used first. */
  readonly #composed = new Map<string, Composed>();
  #bytes = 0;
  #heldBytes = 0;

  constructor(runner: Pick<ModelRunner, 'compose' | 'base'>, observer: EngineObserver) {
    this.#runner = runner;
    this.#observer = observer;
  }

  /** Beyond the members' own, bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** … of those that rows use or are about to use. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  get size(): number {
    return this.#composed.size;
  }

  /** By how much `heldBytes` grows when one more uses the chain; null when it is not composed yet. */
  bytesToUse(chainId: string): number | null {
    const entry = this.#composed.get(chainId);
    if (entry === undefined) return null;
    return entry.references > 0 ? 0 : entry.delta.bytes;
  }

  /**
   * Composes the delta of a chain as soon as all its adapters are ready; `leave` gives it back. Call between steps only.
   * @returns null while one loads; an error when one has failed, or the ranks are too many for the base.
   */
  outcomeOf(lease: Lease): Result<RowDelta, ApiError> | null {
    const adapters = new Map<string, ResidentAdapter>();
    for (const { digest, status } of lease.entries) {
      if (status.kind === 'failed') return err(status.error);
      if (status.kind === 'ready') adapters.set(digest, status.adapter);
    }
    if (adapters.size < lease.entries.length) return null;
    const members = lease.chain.map(({ digest, scale }) => ({ adapter: adapters.get(digest)!, scale }));
    const rankSum = members.reduce((sum, member) => sum + member.adapter.rank, 0);
    const limit = this.#runner.base.max_rank_sum;
    if (rankSum > limit) return err(rankSumExceeded(rankSum, limit));
    try {
      const delta = this.#use(lease.chainId, members);
      lease.composed = true;
      return ok(delta);
    } catch (error) {
      this.#observer.onFault?.({ where: 'compose', error, requestIds: [] });
      return err(unavailableAdapter(members[0]!.adapter.digest));
    }
  }

  #use(chainId: string, members: readonly ChainMember[]): RowDelta {
    let entry = this.#composed.get(chainId);
    if (entry === undefined) {
      const delta = this.#runner.compose(members);
      entry = { delta, digests: new Set(members.map((member) => member.adapter.digest)), references: 0 };
      this.#bytes += delta.bytes;
    }
    if (entry.references === 0) this.#heldBytes += entry.delta.bytes;
    entry.references += 1;
    this.#composed.delete(chainId);
    this.#composed.set(chainId, entry);
    return entry.delta;
  }

  leave({ chainId, composed }: Lease): void {
    if (!composed) return;
    const entry = this.#composed.get(chainId);
    if (entry === undefined || entry.references === 0) throw new Error('the chain is not in use');
    entry.references -= 1;
    if (entry.references === 0) this.#heldBytes -= entry.delta.bytes;
    const idle = [...this.#composed].filter(([, other]) => other.references === 0);
    if (idle.length > MAX_IDLE) this.#drop(idle[0]![0]);
  }

  /** Drops the least recently used delta that no row uses. @returns false when there is none. */
  evictOne(): boolean {
    for (const [chainId, entry] of this.#composed) {
      if (entry.references > 0 || entry.delta.bytes === 0) continue;
      this.#drop(chainId);
      return true;
    }
    return false;
  }

  /** The adapter goes: nothing may be made of it any more. */
  forget(digest: string): void {
    for (const [chainId, entry] of this.#composed) {
      if (!entry.digests.has(digest)) continue;
      if (entry.references > 0) throw new Error('a row uses a chain of the adapter');
      this.#drop(chainId);
    }
  }

  #drop(chainId: string): void {
    this.#bytes -= this.#composed.get(chainId)?.delta.bytes ?? 0;
    this.#composed.delete(chainId);
  }
}
