/** Types for what origins keep in memory. */
import type { NamedFile, OriginPin, WarmedOrigin } from '../../protocol/admin-api/origins.ts';
import type { ApiError, Result } from '../../protocol/api-error.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';

export interface PinRow {
  name: string;
  /** Unix ms. */
  at: number;
  /** Id of the key that pinned it. */
  actor: string;
}

/** System of record of pins. Throws StoreUnavailable. */
export interface PinLedger {
  /** @returns false if this would be more than `max`; does nothing for a name that is already pinned. */
  add(row: PinRow, max: number): Promise<boolean>;
  /** @returns whether it was pinned. */
  remove(name: string): Promise<boolean>;
  /** Ordered by name. */
  list(): Promise<PinRow[]>;
}

/** Lifetime of work at the origins. */
export interface PinLife {
  signal: AbortSignal;
  keepAlive: (work: Promise<unknown>) => void;
}

/** … of a round of pins. */
export interface PinRoundLife extends PinLife {
  /** No chain is loaded after this: an origin that is busy loads for a minute. Absent = all are. */
  loading?: AbortSignal;
}

/** The bases that the origins serve. */
export interface Bases {
  /**
   * Their ids, the default one first, if the configuration names them; otherwise there is one, which the
   * origins report.
   */
  readonly declared: readonly string[] | null;
  /** Their ids, the default one first; asks an origin only if the configuration does not name them. */
  ids(): Promise<Result<readonly string[], ApiError>>;
  /**
   * A base's description from its origins, cached for a while, also if they do not respond.
   * @param id null = the default one. Ignored if the configuration names no bases: then there is only one.
   */
  info(id: string | null): Promise<Result<BaseInfo, ApiError>>;
}

/** A chain and its base. */
export interface BasedChain {
  /** Id of the base. */
  base: string;
  chain: readonly ChainEntry[];
}

/** Pins in the origins' memory. Never throws. */
export interface OriginPins {
  /**
   * Asks each origin once for its pins, and for what is missing. An unreachable origin is skipped for the
   * rest of the round, since each call may take a minute.
   */
  round(life: PinRoundLife): {
    /** Has each origin of the base load and keep the chain; copies missing files to it. */
    pin(wanted: BasedChain): Promise<OriginPin[]>;
    /**
     * Has each origin release all other pinned adapters.
     * @returns whether all of them did.
     */
    keepPinned(digests: readonly string[]): Promise<boolean>;
  };
}

/** Loads adapters before they are requested. Never throws. */
export interface OriginWarmth {
  /**
   * Has the origin that would serve the name load the chain, copying missing files to it; tries the next one
   * if it fails.
   */
  warm(call: PinLife & BasedChain & { name: string }): Promise<WarmedOrigin[]>;
  /** Has every origin of the base that has the adapter `was` in memory load the chain that replaces it. */
  follow(call: PinLife & BasedChain & { was: string }): Promise<void>;
}

/** Files on the origins' disks. Never throws. */
export interface HeldFiles {
  /** @returns the part's bytes, with a verified hash, from any origin that has them; null if none does. */
  part(
    digest: string,
    part: { /** In the file, bytes. */ begin: number; bytes: number; sha256: string },
  ): Promise<Uint8Array<ArrayBuffer> | null>;
}

/** A pinned name and its state. */
export interface PinReport extends PinRow {
  /** The live version; null = none, so nothing is held. */
  live: { name: string; version: number } | null;
  origins: OriginPin[];
}

/** Updates the origins' memory to match the pins. */
export interface PinSync {
  /**
   * Loads new chains before it releases old ones. Repeating it is harmless.
   * @throws StoreUnavailable
   */
  sync(life: PinRoundLife): Promise<PinReport[]>;
}

/** An origin's load in one minute. */
export interface OriginMinute {
  origin: string;
  /** Start of the minute, unix s. */
  at: number;
  rowsRunning: number;
  requestsWaiting: number;
  slots: number;
  adaptersResident: number;
  adapterBytes: number;
  memoryBytes: number;
}

/** How busy origins were. Throws StoreUnavailable. */
export interface OriginHistoryLedger {
  /** The last note of a minute wins. */
  note(minutes: readonly OriginMinute[]): Promise<void>;
  /**
   * The maximum of each step, oldest first.
   * @param params.from unix s, a multiple of `step`.
   * @param params.to exclusive.
   */
  read(params: { origin: string; from: number; to: number; step: number }): Promise<OriginMinute[]>;
  /** @param before unix s. */
  forget(before: number): Promise<void>;
}

/** What the registry knows about files, ordered by digest, name and version. Throws StoreUnavailable. */
export interface FileNames {
  of(digests: readonly string[], limit: number): Promise<NamedFile[]>;
}
