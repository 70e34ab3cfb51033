/** Ports of what origins have in memory before anybody asks for it. */
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
  /** @returns false when it would be one more than `max`; a name that is pinned already stays as it is. */
  add(row: PinRow, max: number): Promise<boolean>;
  /** @returns whether it was pinned. */
  remove(name: string): Promise<boolean>;
  /** By name. */
  list(): Promise<PinRow[]>;
}

/** What work at the origins needs of what asked for it. */
export interface PinLife {
  signal: AbortSignal;
  keepAlive: (work: Promise<unknown>) => void;
}

/** The bases that the origins serve. */
export interface Bases {
  /** Their ids, the default one first, where the configuration says them; else there is one, which the origins tell. */
  readonly declared: readonly string[] | null;
  /** Their ids, the default one first; asks an origin only where the configuration does not say them. */
  ids(): Promise<Result<readonly string[], ApiError>>;
  /**
   * What the origins of a base say of it; known from earlier for a while, also when they do not answer.
   * @param id null = the default one. Where the configuration does not say it, there is one base, whatever is asked for.
   */
  info(id: string | null): Promise<Result<BaseInfo, ApiError>>;
}

/** A chain, and the base that it is for. */
export interface BasedChain {
  /** Id of the base. */
  base: string;
  chain: readonly ChainEntry[];
}

/** The origins' memory, as far as pins go. Never throws. */
export interface OriginPins {
  /**
   * An origin is asked once what it has, and for what it lacks; where it cannot be reached, for nothing more in the same
   * round, since each question may wait for a minute.
   */
  round(life: PinLife): {
    /** Has each origin of the base load the chain, brought to it if need be, and keep it. */
    pin(wanted: BasedChain): Promise<OriginPin[]>;
    /** Has each origin let go of every other pinned adapter. @returns whether all of them have. */
    keepPinned(digests: readonly string[]): Promise<boolean>;
  };
}

/** Adapters that origins load before they are asked for. Never throws. */
export interface OriginWarmth {
  /** Has the origin that would serve the name load the chain, brought to it if need be; the next one where it cannot. */
  warm(call: PinLife & BasedChain & { name: string }): Promise<WarmedOrigin[]>;
  /** Has every origin of the base that holds the adapter `was` in memory load the chain that now takes its place. */
  follow(call: PinLife & BasedChain & { was: string }): Promise<void>;
}

/** Files that origins hold on their disks. Never throws. */
export interface HeldFiles {
  /** @returns the part's bytes, compared with its hash, from whichever origin has them; null when none does. */
  part(
    digest: string,
    part: { /** In the file, bytes. */ begin: number; bytes: number; sha256: string },
  ): Promise<Uint8Array<ArrayBuffer> | null>;
}

/** A pinned name and what became of it. */
export interface PinReport extends PinRow {
  /** What is live; null = nothing, and nothing is held. */
  live: { name: string; version: number } | null;
  origins: OriginPin[];
}

/** Brings what the origins hold in line with the pins. */
export interface PinSync {
  /** New chains are loaded before old ones are let go. Repeating it changes nothing. @throws StoreUnavailable */
  sync(life: PinLife): Promise<PinReport[]>;
}

/** An origin in one minute. */
export interface OriginMinute {
  origin: string;
  /** Where the minute begins, unix s. */
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
  /** The last of a minute stays. */
  note(minutes: readonly OriginMinute[]): Promise<void>;
  /** The most of each step, oldest first. @param from unix s, a multiple of `step`. @param to first that is not read. */
  read(params: { origin: string; from: number; to: number; step: number }): Promise<OriginMinute[]>;
  /** @param before unix s. */
  forget(before: number): Promise<void>;
}

/** What files are, as the registry knows them; by digest, name and version. Throws StoreUnavailable. */
export interface FileNames {
  of(digests: readonly string[], limit: number): Promise<NamedFile[]>;
}
