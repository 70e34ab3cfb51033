import type { SqlDatabase } from '../platform/d1-database.ts';
import type { WebhookMessageRow, WebhookOutbox } from './ports-webhook.ts';

export function createD1WebhookOutbox(db: SqlDatabase): WebhookOutbox {
  return {
    async add({ id, experiment, url, body }, at) {
      await db
        .prepare(
          // One that was erased meanwhile is told of no more.
          `INSERT INTO webhook_messages (id, experiment, url, body, next_at, made_at)
           SELECT ?1, id, ?3, ?4, ?5, ?5 FROM experiments WHERE id = ?2 ON CONFLICT DO NOTHING`,
        )
        .bind(id, experiment, url, body, at)
        .run();
    },
    async retract(id) {
      await db.prepare('DELETE FROM webhook_messages WHERE id = ? AND next_at IS NOT NULL').bind(id).run();
    },
    async due({ now, limit }) {
      const { results } = await db
        .prepare(
          `SELECT id, experiment, url, body, tries FROM webhook_messages
           WHERE next_at IS NOT NULL AND next_at <= ? ORDER BY next_at, id LIMIT ?`,
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
      await db.prepare('DELETE FROM webhook_messages WHERE made_at < ?').bind(before).run();
    },
  };
}
