/** Preferences between two requests, and who may learn from them. */
import type { PromptPlace } from '../prompts/ports.ts';

/** A kept request that a preference names. */
export interface PreferredRequest extends Pick<PromptPlace, 'at' | 'id' | 'keyId' | 'name'> {
  /** Hash of who asked. */
  user: string;
  /** Its key had `improve` when it ended. */
  improve: boolean;
}

/** `null` of a side: it is not kept, or no longer. */
export interface Preference {
  /** When it was told, unix ms. */
  at: number;
  chosen: string;
  rejected: string;
  chosenRequest: PreferredRequest | null;
  rejectedRequest: PreferredRequest | null;
}

/** D1's record. Throws StoreUnavailable. */
export interface Preferences {
  /**
   * Stores it for as long as its key keeps prompts now; the newest of a tenant stay.
   * @returns `refused`: the key does not keep prompts, or does not have `improve`.
   */
  add(preference: {
    tenant: string;
    keyId: string;
    chosen: string;
    rejected: string;
    at: number;
  }): Promise<'recorded' | 'known' | 'refused'>;
  /** All of a tenant that have not expired, oldest first. @param of.now unix ms. */
  list(of: { tenant: string; now: number }): Promise<Preference[]>;
  /** Encrypted texts of requests, by {@link placeKey}. */
  texts(of: {
    tenant: string;
    requests: readonly { at: number; id: string }[];
    now: number;
  }): Promise<Map<string, string>>;
  /** @returns those of the keys that have `improve` now. */
  consenting(of: { tenant: string; keyIds: readonly string[] }): Promise<Set<string>>;
  /** Leaves a row in the tenant's history. @param reading.actor id of the key. */
  noteReading(reading: { tenant: string; name: string; actor: string; at: number }): Promise<void>;
  /** Deletes some expired entries. @param now unix ms. */
  tend(now: number): Promise<void>;
}

export const placeKey = ({ at, id }: { at: number; id: string }): string => `${at} ${id}`;
