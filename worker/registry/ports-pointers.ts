/** Ports of what KV says of a name. */
import type { NameEntry } from '../../protocol/index.ts';
import type { Lookup, BulkIndex } from '../platform/ports.ts';
import type { Pointer } from './ports.ts';

/** What each name points at, a live version or another name, as the hot path reads it. */
export interface NameIndex extends BulkIndex<NameEntry> {
  /** A manifest or `{name, alias}`. @throws StoreUnavailable */
  put(entry: NameEntry): Promise<void>;
  /**
   * Leaves a signed mark: the name points at nothing any more.
   * @param ttl seconds that the mark stays; for good unless given. @throws StoreUnavailable
   */
  remove(name: string, ttl?: number): Promise<void>;
}

/** The one writer of names in KV: two changes at once can never leave a pointer in inverted order. */
export interface PointerWriter {
  /**
   * Copies what the registry says of the name now to KV, at most one write a second a name; calls that come meanwhile
   * share the next write. What fails is tried again later by itself.
   * @param options.mark where the registry knows of nothing to point at, leaves a signed mark; otherwise nothing is
   * written then.
   * @param options.erased the name is being forgotten: the mark goes by itself when no isolate can remember the name.
   * @returns once a state is in KV that was read after the call. @throws StoreUnavailable
   */
  sync(name: string, options?: { mark?: boolean; erased?: boolean }): Promise<void>;
}

/** Asks the system of record about names that the index does not have. */
export interface AbsenceCheck {
  /** What a name points at after all; `absent` when it does not exist, or nobody can say. Never throws. */
  confirm(name: string): Promise<Lookup<Pointer>>;
  /**
   * For a name that is there, but not for who asks: asks as much as `confirm` does, about a name that nobody can have.
   * Never throws.
   */
  pretend(name: string): Promise<void>;
}
