/** Webhooks in D1: who is told of what, the outbox of all messages, and which origins are away. */
import { z } from 'zod';
import { WEBHOOK_EVENTS, type WebhookEvent } from '../../protocol/admin-api/webhooks.ts';
import { gaveRow, mayAct, readable, readColumn, type SqlDatabase } from '../platform/d1-database.ts';
import type { Page } from '../platform/ports.ts';
import {
  ALERT_KEPT_MS,
  DUE_MESSAGES,
  MAX_WAITING_ALERTS,
  MAX_WAITING_OF_TENANT,
  WEBHOOK_KEPT_MS,
} from './limits.ts';
import type { Alert, OriginAbsence, WebhookMessageRow, WebhookOutbox } from './ports.ts';
import { messageBody } from './send-webhooks.ts';

export function createD1WebhookOutbox(db: SqlDatabase): WebhookOutbox {
  return {
    async add({ id, source, url, body }, at) {
      await db
        .prepare(
          // One that was erased in the meantime sends no more messages.
          `INSERT INTO webhook_messages (id, source, url, body, next_at, made_at, kept_until)
           SELECT ?1, id, ?3, ?4, ?5, ?5, ?6 FROM experiments WHERE id = ?2 ON CONFLICT DO NOTHING`,
        )
        .bind(id, source, url, body, at, at + WEBHOOK_KEPT_MS)
        .run();
    },
    async retract(id) {
      await db.prepare('DELETE FROM webhook_messages WHERE id = ? AND next_at IS NOT NULL').bind(id).run();
    },
    async due({ now, limit }) {
      const { results } = await db
        .prepare(
          `SELECT id, source, url, body, tries FROM (
             SELECT *, ROW_NUMBER() OVER (PARTITION BY source ORDER BY next_at, id) AS turn FROM (
               SELECT id, source, url, body, tries, next_at FROM webhook_messages
               WHERE next_at IS NOT NULL AND next_at <= ? ORDER BY next_at, id LIMIT ${DUE_MESSAGES}))
           ORDER BY turn, next_at, id LIMIT ?`,
        )
        .bind(now, limit)
        .all<WebhookMessageRow>();
      return results;
    },
    async done(id) {
      await db.prepare('UPDATE webhook_messages SET next_at = NULL WHERE id = ?').bind(id).run();
    },
    async later(id, nextAt) {
      await db
        .prepare(
          'UPDATE webhook_messages SET tries = tries + 1, next_at = ? WHERE id = ? AND next_at IS NOT NULL',
        )
        .bind(nextAt, id)
        .run();
    },
    async forget(before) {
      await db.prepare('DELETE FROM webhook_messages WHERE kept_until < ?').bind(before).run();
    },
  };
}

export interface WebhookRow {
  id: string;
  /** Null = the operator. */
  tenant: string | null;
  url: string;
  events: WebhookEvent[];
  /** Unix ms. */
  created_at: number;
  /** Id of the key. */
  created_by: string;
}

/** As it is stored; `owner` '' = the operator, whose come first. */
export interface WebhookRecord extends Omit<WebhookRow, 'tenant' | 'events'> {
  owner: string;
  events: string;
}

const Events = z.array(z.enum(WEBHOOK_EVENTS));

/** @throws DamagedRow */
export function toWebhook({ owner, events, ...record }: WebhookRecord): WebhookRow {
  const place = { table: 'webhooks', id: record.id, column: 'events' };
  return { ...record, tenant: owner === '' ? null : owner, events: readColumn(Events, events, place) };
}

/** How many messages wait for the webhook `w`. */
const WAITING = 'SELECT COUNT(*) FROM webhook_messages m WHERE m.source = w.id AND m.next_at IS NOT NULL';
const COLUMNS = `w.id, w.owner, w.url, w.events, w.created_at, w.created_by, (${WAITING}) AS waiting`;
/** Origins are few; of budgets there may be more than a receiver takes. ?5 = the tenant, '' = none. */
const HAS_ROOM = `(?5 = '' OR ((${WAITING}) < ${MAX_WAITING_ALERTS} AND (w.owner <> '' OR
  (${WAITING} AND m.id > 'msg:budget:' || ?5 || ':' AND m.id < 'msg:budget:' || ?5 || ';') < ${MAX_WAITING_OF_TENANT})))`;

export function createD1Webhooks(db: SqlDatabase) {
  /** A message for each webhook that is to hear of it. */
  const alert = ({ id, tenant, event, data }: Alert, at: number) =>
    db
      .prepare(
        `INSERT INTO webhook_messages (id, source, url, body, next_at, made_at, kept_until)
         SELECT ?1 || ':' || w.id, w.id, w.url, ?2, ?3, ?3, ?4 FROM webhooks w
         WHERE w.owner IN (?5, '') AND EXISTS (SELECT 1 FROM json_each(w.events) WHERE value = ?6)
           AND ${HAS_ROOM} ON CONFLICT DO NOTHING`,
      )
      .bind(id, messageBody(event, at, data), at, at + ALERT_KEPT_MS, tenant ?? '', event);

  return {
    /** The statement that adds it also checks `max`, and that the key which adds it may still act. */
    async add(row: WebhookRow, max: number): Promise<'added' | 'full' | 'revoked'> {
      const [added, acting] = await db.batch([
        db
          .prepare(
            // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
            `INSERT INTO webhooks (id, owner, url, events, created_at, created_by) SELECT ?1, ?2, ?3, ?4, ?5, ?6
             WHERE (SELECT COUNT(*) FROM webhooks WHERE owner = ?2) < ?7 AND ${mayAct('?6')} RETURNING id`,
          )
          .bind(
            row.id,
            row.tenant ?? '',
            row.url,
            JSON.stringify(row.events),
            row.created_at,
            row.created_by,
            max,
          ),
        // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
        db.prepare(`SELECT 1 WHERE ${mayAct('?1')}`).bind(row.created_by),
      ]);
      if (gaveRow(added)) return 'added';
      return gaveRow(acting) ? 'full' : 'revoked';
    },
    async get(id: string): Promise<WebhookRow | null> {
      const record = await db.prepare('SELECT * FROM webhooks WHERE id = ?').bind(id).first<WebhookRecord>();
      return record && toWebhook(record);
    },
    /** A page by owner and id. @param params.tenant null = everybody's, the operator's first. */
    async list({
      tenant,
      cursor,
      limit,
    }: {
      tenant: string | null;
      cursor: string | null;
      limit: number;
    }): Promise<Page<WebhookRow & { waiting: number }>> {
      const [owner = '', id = ''] = (cursor ?? '').split(' ');
      const { results } = await (
        tenant === null
          ? db
              .prepare(
                `SELECT ${COLUMNS} FROM webhooks w WHERE (w.owner, w.id) > (?, ?) ORDER BY w.owner, w.id LIMIT ?`,
              )
              .bind(owner, id, limit)
          : db
              .prepare(
                `SELECT ${COLUMNS} FROM webhooks w WHERE w.owner = ? AND w.id > ? ORDER BY w.id LIMIT ?`,
              )
              .bind(tenant, id, limit)
      ).all<WebhookRecord & { waiting: number }>();
      const last = results.length === limit ? results.at(-1) : undefined;
      return {
        items: readable(results, ({ waiting, ...record }) => ({ ...toWebhook(record), waiting })),
        cursor: last === undefined ? null : `${last.owner} ${last.id}`,
      };
    },
    /** With its messages. */
    async remove(id: string): Promise<void> {
      await db.batch([
        db.prepare('DELETE FROM webhook_messages WHERE source = ?').bind(id),
        db.prepare('DELETE FROM webhooks WHERE id = ?').bind(id),
      ]);
    },

    /** Due at once, of each webhook that is to hear of them, and once each. @param at unix ms. */
    async tell(alerts: readonly Alert[], at: number): Promise<void> {
      await db.batch(alerts.map((one) => alert(one, at)));
    },

    /** Origins that do not answer. */
    async absences(): Promise<OriginAbsence[]> {
      const { results } = await db
        .prepare('SELECT origin, since, told FROM origin_absences')
        .all<Omit<OriginAbsence, 'told'> & { told: number }>();
      return results.map((row) => ({ ...row, told: row.told === 1 }));
    },
    /** What has changed since, and the alerts of it. @param change.over they answer again. */
    async changeAbsences(
      change: {
        begun: readonly string[];
        told: readonly string[];
        over: readonly string[];
        alerts: readonly Alert[];
      },
      at: number,
    ): Promise<void> {
      const listed = (ids: readonly string[]) => JSON.stringify(ids);
      await db.batch([
        ...change.alerts.map((one) => alert(one, at)),
        db
          .prepare(
            'INSERT OR IGNORE INTO origin_absences (origin, since) SELECT value, ?2 FROM json_each(?1)',
          )
          .bind(listed(change.begun), at),
        db
          .prepare('UPDATE origin_absences SET told = 1 WHERE origin IN (SELECT value FROM json_each(?))')
          .bind(listed(change.told)),
        db
          .prepare('DELETE FROM origin_absences WHERE origin IN (SELECT value FROM json_each(?))')
          .bind(listed(change.over)),
      ]);
    },
  };
}

/** System of record of webhooks, and of what they were told. Throws StoreUnavailable. */
export type WebhookLedger = ReturnType<typeof createD1Webhooks>;
