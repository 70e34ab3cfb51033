/**
 * What edges and origins tell each other of a pool's origins, in the header `x-graft-pool`: notes with an origin's
 * load and the chains that many ask for. They have hashes and counts; no names, tenants, prompts or clock times.
 */
import { z } from 'zod';
import { base64url, decodeBase64url, fnv1aMixed } from './identity.ts';

/** Notes, in an edge's request and in an origin's answer. */
export const POOL_HEADER = 'x-graft-pool';
/**
 * What an edge with several origins wants with an answer: `own`, the origin's own note, or `pool`, all that it has.
 * `turn` behind it: if the origin is crowded, it may refuse, and the edge asks another one.
 */
export const ASK_HEADER = 'x-graft-ask';
export const PoolAsk = z.enum(['own', 'pool', 'own turn', 'pool turn']);
/** On the refusal of an origin that is crowded (`x-graft-turned: true`). */
export const TURNED_HEADER = 'x-graft-turned';

/** Notes older than this are forgotten: a chain that many ask for stays in memory for so long at least. */
export const POOL_NOTE_MS = 120_000;
/** An isolate asks for all notes of a pool again after this time: they take about 20 bytes for each origin. */
export const POOL_ASK_MS = 1_000;
/** An origin writes its notes again after this time. */
export const POOL_WRITE_MS = 200;
/** Chains in an origin's note. Of 16 rows no more than 8 chains can have 2 each. */
export const MAX_NOTED_CHAINS = 8;
/** Notes in an answer: 9 kB of text at most, where HTTP servers take 16. */
export const MAX_NOTES = 128;
/** Notes in a request: the newest. */
export const MAX_CARRIED_NOTES = 8;
/** Rows that a chain occupies at all origins, from which it is noted. */
export const NOTED_ROWS = 2;
/** From so many requests a row on, an origin may turn requests away: another one usually has room. */
export const TURN_FILL = 1.25;

export interface OriginNote {
  /** Running or waiting. */
  rows: number;
  /** Rows that run at once; at least 1. */
  slots: number;
  /** Chains that it has in memory, by {@link chainHash} -> rows that their requests at this origin take. */
  chains: ReadonlyMap<number, number>;
}

export const originHash = (id: string): number => fnv1aMixed(id);
/** Scales don't matter for what is in memory. */
export const chainHash = (chain: readonly { digest: string }[]): number =>
  fnv1aMixed(chain.map(({ digest }) => digest).join('\n'));

interface Known extends OriginNote {
  /** Unix ms. */
  at: number;
  /** Hash of the origin that said so; its own, unless it is hearsay. */
  by: number;
}

/** The newest note of each origin. */
export class PoolNotes {
  readonly #now: () => number;
  readonly #known = new Map<number, Known>();

  /** @param now unix ms. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param at unix ms. @returns false if a newer one is known. */
  add(origin: number, note: OriginNote, { at, by = origin }: { at: number; by?: number }): boolean {
    const known = this.#known.get(origin);
    if (known !== undefined && (known.at > at || (known.at === at && by !== origin))) return false;
    this.#known.set(origin, { ...note, at, by });
    if (this.#known.size > MAX_NOTES) this.#known.delete(this.#known.keys().next().value as number);
    return true;
  }

  of(origin: number): Readonly<Known> | null {
    const known = this.#known.get(origin);
    return known === undefined || this.#now() - known.at > POOL_NOTE_MS ? null : known;
  }

  /** @returns those that are not too old. */
  *all(): Generator<[number, Readonly<Known>]> {
    for (const [origin, known] of this.#known)
      if (this.#now() - known.at > POOL_NOTE_MS) this.#known.delete(origin);
      else yield [origin, known];
  }

  /** Of the header; all of them. */
  write(): string {
    return writePoolNotes([...this.all()], this.#now());
  }

  /**
   * Those that came from the origins themselves, the newest {@link MAX_CARRIED_NOTES}: what one origin says of others
   * is not passed on, so a lie ends with those who hear it.
   */
  writeCarried(): string {
    const own = [...this.all()].filter(([origin, { by }]) => by === origin);
    const newest = own.sort((a, b) => b[1].at - a[1].at).slice(0, MAX_CARRIED_NOTES);
    return writePoolNotes(newest, this.#now());
  }
}

/** An origin's hash, rows, slots, age, number of chains; then a hash and rows for each chain. */
const HEAD_BYTES = 11;
const CHAIN_BYTES = 5;
const AGE_UNIT_MS = 10;
const ROWS_UNIT = 0.5;
const MAX_CHARACTERS = Math.ceil((MAX_NOTES * (HEAD_BYTES + MAX_NOTED_CHAINS * CHAIN_BYTES) * 4) / 3);
const Written = z
  .string()
  .max(MAX_CHARACTERS)
  .regex(/^[A-Za-z0-9_-]+$/);

export function writePoolNotes(
  notes: readonly (readonly [number, OriginNote & { at: number }])[],
  now: number,
): string {
  const bytes: number[] = [];
  const push = (value: number, size: number): void => {
    const most = Math.min(Math.max(0, Math.round(value)), 256 ** size - 1);
    for (let shift = size - 1; shift >= 0; shift -= 1) bytes.push(Math.floor(most / 256 ** shift) % 256);
  };
  for (const [origin, { rows, slots, chains, at }] of notes) {
    const told = [...chains].sort((a, b) => b[1] - a[1]).slice(0, MAX_NOTED_CHAINS);
    push(origin, 4);
    push(rows, 2);
    push(slots, 2);
    // Up: an age that is passed on must not shrink.
    push(Math.ceil((now - at) / AGE_UNIT_MS), 2);
    push(told.length, 1);
    for (const [chain, occupied] of told) {
      push(chain, 4);
      push(occupied / ROWS_UNIT, 1);
    }
  }
  return base64url(Uint8Array.from(bytes));
}

/** @returns null if malformed. A chain's rows are at most twice the slots, whatever is claimed. */
export function readPoolNotes(
  header: string | null,
): { origin: number; note: OriginNote; ageMs: number }[] | null {
  const text = Written.safeParse(header);
  if (!text.success || text.data.length % 4 === 1) return null;
  const bytes = decodeBase64url(text.data);
  let at = 0;
  const take = (size: number): number => {
    let value = 0;
    for (const end = at + size; at < end; at += 1) value = value * 256 + (bytes[at] ?? 0);
    return value;
  };
  const notes = [];
  while (at < bytes.length) {
    if (at + HEAD_BYTES > bytes.length) return null;
    const [origin, rows, slots] = [take(4), take(2), take(2)];
    const ageMs = take(2) * AGE_UNIT_MS;
    const count = take(1);
    if (slots === 0 || count > MAX_NOTED_CHAINS || at + count * CHAIN_BYTES > bytes.length) return null;
    const chains = new Map<number, number>();
    for (let i = 0; i < count; i += 1) {
      const chain = take(4);
      chains.set(chain, Math.min(2 * slots, take(1) * ROWS_UNIT));
    }
    notes.push({ origin, note: { rows, slots, chains }, ageMs });
  }
  return notes;
}
