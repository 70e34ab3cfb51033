/** Types of webhooks: messages, and what alerts are about. */
import type { WebhookEvent } from '../../protocol/admin-api/webhooks.ts';

export interface WebhookMessageRow {
  /** Identifies the event, so that it is sent once: its source and subject. */
  id: string;
  /** Id of the experiment or the webhook that it is of. */
  source: string;
  url: string;
  /** JSON. */
  body: string;
  /** Failed attempts. */
  tries: number;
}

/** The outbox. Throws StoreUnavailable. */
export interface WebhookOutbox {
  /** Of an experiment. Due at once; does nothing if a message with this id was ever added. @param at unix ms. */
  add(message: Omit<WebhookMessageRow, 'tries'>, at: number): Promise<void>;
  /** It did not happen after all. A sent one stays. */
  retract(id: string): Promise<void>;
  /** Due ones, those first that have waited longest; each source in turn. */
  due(params: { now: number; limit: number }): Promise<WebhookMessageRow[]>;
  /** It was sent, or given up: it is no longer due. */
  done(id: string): Promise<void>;
  /** A sending has failed. */
  later(id: string, nextAt: number): Promise<void>;
  /** Deletes those that were to be remembered until earlier than this, unix ms. */
  forget(before: number): Promise<void>;
}

/** What the webhooks of a tenant and of the operator are told. */
export interface Alert {
  /** Identifies the event: each webhook gets it once. */
  id: string;
  /** Whose webhooks hear of it beside the operator’s; null = those alone. */
  tenant: string | null;
  event: WebhookEvent;
  /** Names and figures only. */
  data: Readonly<Record<string, string | number | null>>;
}

/** An origin that does not answer. */
export interface OriginAbsence {
  origin: string;
  /** Unix ms. */
  since: number;
  told: boolean;
}
