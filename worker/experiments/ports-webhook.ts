/** Port of what experiments tell by webhooks. One contract suite (test/contracts). */

export interface WebhookMessageRow {
  /** What happened, so that it is told once: of the experiment, its seed and what it is about. */
  id: string;
  experiment: string;
  url: string;
  /** JSON. */
  body: string;
  /** Sendings that have failed. */
  tries: number;
}

/** What is to be sent. Throws StoreUnavailable. */
export interface WebhookOutbox {
  /** To be sent at once; nothing when a message of this id was ever added. @param at unix ms. */
  add(message: Omit<WebhookMessageRow, 'tries'>, at: number): Promise<void>;
  /** It did not happen after all. One that was sent stays. */
  retract(id: string): Promise<void>;
  /** Those whose time has come, oldest first. */
  due(params: { now: number; limit: number }): Promise<WebhookMessageRow[]>;
  /** It was sent, or is given up: it is due no more. */
  done(id: string): Promise<void>;
  /** A sending has failed. */
  later(id: string, nextAt: number): Promise<void>;
  /** Forgets messages that were made before, unix ms. */
  forget(before: number): Promise<void>;
}
