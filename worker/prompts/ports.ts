/** Prompts and answers that are kept for keys that ask for it. */
import type { EndedCompletion } from '../traffic/ports.ts';

/** Metadata of a request. */
export interface PromptPlace {
  tenant: string;
  /** Unix ms, when it ended. */
  at: number;
  /** Of the request. */
  id: string;
  keyId: string;
  /** That answered; '' = none. */
  name: string;
}

export interface PromptRow extends PromptPlace {
  /** Hash of the user who asked, or of the key if none is named. */
  user: string;
  /** Encrypted for its tenant, time and id. */
  sealed: string;
}

/** D1's record. Throws StoreUnavailable. */
export interface KeptPrompts {
  /**
   * Stores texts of keys that still keep prompts, for the time then set: nothing may reappear after a key was
   * changed, or its tenant erased. Existing entries stay. Per tenant the newest are kept, and before others those that a
   * preference names.
   */
  add(rows: readonly PromptRow[]): Promise<void>;
  /**
   * The newest with this id. @param of.at of several, the one that ended then; null = any. @param of.now unix
   * ms.
   */
  read(of: {
    tenant: string;
    id: string;
    at: number | null;
    now: number;
  }): Promise<(PromptRow & { expiresAt: number }) | null>;
  /** Leaves a row in the history of the tenant. @param reading.actor id of the key. */
  noteReading(reading: { tenant: string; id: string; actor: string; at: number }): Promise<void>;
  /**
   * Shortens the lifetime of what is kept of these keys.
   * @param of.hours after the request; null = delete it, and keep nothing from now on.
   */
  limit(of: { tenant: string; keyIds: readonly string[]; hours: number | null }): Promise<void>;
  /** Deletes some expired entries. @param now unix ms. */
  tend(now: number): Promise<void>;
}

/** One request's prompt and answer, from start to end. */
export interface Keeping {
  /**
   * Copies an answer while it passes. @param answer.ok whether it is to be kept.
   * @returns the body to pass on.
   */
  listen(
    body: ReadableStream<Uint8Array> | null,
    answer: { ok: boolean; stream: boolean },
  ): ReadableStream<Uint8Array> | null;
  /** It has ended, however it did. */
  end(ended: EndedCompletion): void;
}

export interface PromptKeeper {
  /** @param request validated by the client API. @param user see {@link PromptRow.user}. */
  open(request: unknown, user: () => Promise<string>, keepAlive: (work: Promise<unknown>) => void): Keeping;
}
