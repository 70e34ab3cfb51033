/** Prompts and answers that are kept for keys that ask for it. */
import type { EndedCompletion } from '../traffic/ports.ts';

/** What is said of a request beside its text. */
export interface PromptPlace {
  tenant: string;
  /** Unix ms, when it ended. */
  at: number;
  /** Of the request. */
  id: string;
  keyId: string;
  /** That served; '' = none. */
  name: string;
}

export interface PromptRow extends PromptPlace {
  /** Encrypted for its tenant, time and id. */
  sealed: string;
}

/** System of record. Throws StoreUnavailable. */
export interface KeptPrompts {
  /**
   * Keeps what is of keys that have it kept still, for as long as they say then: so that nothing comes back after a key
   * was changed, or its tenant erased. What is there already stays as it is. Of a tenant the newest are kept.
   */
  add(rows: readonly PromptRow[]): Promise<void>;
  /** The newest with this id. @param of.at of several, the one that ended then; null = whichever. @param of.now unix ms. */
  read(of: {
    tenant: string;
    id: string;
    at: number | null;
    now: number;
  }): Promise<(PromptRow & { expiresAt: number }) | null>;
  /** Leaves a row in the history of the tenant. @param reading.actor id of the key. */
  noteReading(reading: { tenant: string; id: string; actor: string; at: number }): Promise<void>;
  /**
   * What is kept of these keys ends so long after its request, if not earlier.
   * @param of.hours null = it is deleted, and the keys keep nothing from now on.
   */
  limit(of: { tenant: string; keyIds: readonly string[]; hours: number | null }): Promise<void>;
  /** Takes away some of what has expired. @param now unix ms. */
  tend(now: number): Promise<void>;
}

/** What one request asks and is answered, from its beginning to its end. */
export interface Keeping {
  /**
   * Copies an answer while it goes on.
   * @returns what goes on in its body's place.
   */
  listen(
    body: ReadableStream<Uint8Array> | null,
    answer: { ok: boolean; stream: boolean; text: boolean },
  ): ReadableStream<Uint8Array> | null;
  /** It has ended, however it did. */
  end(ended: EndedCompletion): void;
}

export interface PromptKeeper {
  /** Of a key whose prompts are kept. @param request as the client API takes it, checked. */
  open(request: unknown, keepAlive: (work: Promise<unknown>) => void): Keeping;
}
