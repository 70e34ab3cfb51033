/** Ports of what origins have in memory before anybody asks for it. */
import type { ChainEntry, OriginPin, WarmedOrigin } from '../../protocol/index.ts';

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

/** Every origin's memory, as far as pins go. Never throws. */
export interface OriginPins {
  /** Has each origin load the chain, brought to it if need be, and keep it. */
  pin(chain: readonly ChainEntry[], life: PinLife): Promise<OriginPin[]>;
  /** Has each origin let go of every other pinned adapter. @returns whether all of them have. */
  keepPinned(digests: readonly string[], life: PinLife): Promise<boolean>;
}

/** Adapters that origins load before they are asked for. Never throws. */
export interface OriginWarmth {
  /** Has the origin that would serve the name load the chain, brought to it if need be; the next one where it cannot. */
  warm(call: PinLife & { name: string; chain: readonly ChainEntry[] }): Promise<WarmedOrigin[]>;
  /** Has every origin that holds the adapter `was` in memory load the chain that now takes its place. */
  follow(call: PinLife & { was: string; chain: readonly ChainEntry[] }): Promise<void>;
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
