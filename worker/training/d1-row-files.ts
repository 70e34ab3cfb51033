import { mayAct, type SqlDatabase } from '../platform/d1-database.ts';
import {
  DELETION_RETRY_MS,
  FILES_PER_RUN,
  MAX_TENANT_FILES,
  MAX_TENANT_ROWS_BYTES,
  UPLOAD_DEAD_MS,
} from './limits.ts';
import type { GoingFile, RowFile, RowFiles } from './ports.ts';

interface Row {
  id: string;
  tenant: string;
  filename: string;
  bytes: number;
  lines: number;
  parts: number;
  sha256: string;
  created_at: number;
  expires_at: number;
}

const COLUMNS = 'id, tenant, filename, bytes, lines, parts, sha256, created_at, expires_at';
/** Of tenant ?1 at time ?2. */
const READY = "tenant = ?1 AND state = 'ready' AND expires_at > ?2";
const OF_TENANT = 'FROM row_files WHERE tenant = ?2';

const toFile = ({ created_at: createdAt, expires_at: expiresAt, ...row }: Row): RowFile => ({
  ...row,
  createdAt,
  expiresAt,
});

export function createD1RowFiles(db: SqlDatabase): RowFiles {
  return {
    async begin({ id, tenant, keyId, bytes, at, expiresAt }) {
      const begun = await db
        .prepare(
          // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
          `INSERT INTO row_files (id, tenant, state, touched_at, filename, bytes, lines, parts, sha256, created_at, expires_at)
           SELECT ?1, ?2, 'receiving', ?5, '', ?4, 0, 0, '', ?5, ?6
           WHERE ${mayAct('?3')} AND (SELECT COUNT(*) ${OF_TENANT}) < ?7
             AND (SELECT COALESCE(SUM(bytes), 0) ${OF_TENANT}) + ?4 <= ?8
           RETURNING id`,
        )
        .bind(id, tenant, keyId, bytes, at, expiresAt, MAX_TENANT_FILES, MAX_TENANT_ROWS_BYTES)
        .first();
      return begun !== null;
    },

    async grow({ id, parts, at }) {
      const grown = await db
        .prepare(
          "UPDATE row_files SET parts = ?2, touched_at = ?3 WHERE id = ?1 AND state = 'receiving' RETURNING id",
        )
        .bind(id, parts, at)
        .first();
      return grown !== null;
    },

    async finish({ id, tenant, filename, bytes, lines, parts, sha256, expiresAt }) {
      const finished = await db
        .prepare(
          `UPDATE row_files SET state = 'ready', filename = ?3, bytes = ?4, lines = ?5, parts = ?6, sha256 = ?7, expires_at = ?8
           WHERE id = ?1 AND tenant = ?2 AND state = 'receiving' RETURNING id`,
        )
        .bind(id, tenant, filename, bytes, lines, parts, sha256, expiresAt)
        .first();
      return finished !== null;
    },

    async get({ id, tenant, now }) {
      const row = await db
        .prepare(`SELECT ${COLUMNS} FROM row_files WHERE ${READY} AND id = ?3`)
        .bind(tenant, now, id)
        .first<Row>();
      return row === null ? null : toFile(row);
    },

    async list({ tenant, after, newestFirst, limit, now }) {
      const { results } = await db
        .prepare(
          newestFirst
            ? `SELECT ${COLUMNS} FROM row_files WHERE ${READY} AND (?3 IS NULL OR id < ?3) ORDER BY id DESC LIMIT ?4`
            : `SELECT ${COLUMNS} FROM row_files WHERE ${READY} AND (?3 IS NULL OR id > ?3) ORDER BY id LIMIT ?4`,
        )
        .bind(tenant, now, after, limit)
        .all<Row>();
      return results.map(toFile);
    },

    remove: ({ id, tenant, state = 'ready', at }) =>
      db
        .prepare(
          `UPDATE row_files SET state = 'going', touched_at = ?3 WHERE id = ?1 AND tenant = ?2 AND state = ?4
           RETURNING id, parts`,
        )
        .bind(id, tenant, at, state)
        .first<GoingFile>(),

    async erase({ tenant, limit, at }) {
      const { results } = await db
        .prepare(
          `UPDATE row_files SET state = 'going', touched_at = ?3, tenant = '', filename = '', sha256 = ''
           WHERE id IN (SELECT id FROM row_files WHERE tenant = ?1 LIMIT ?2) RETURNING id, parts`,
        )
        .bind(tenant, limit, at)
        .all<GoingFile>();
      return results;
    },

    async gone(ids) {
      await db
        .prepare("DELETE FROM row_files WHERE id IN (SELECT value FROM json_each(?)) AND state = 'going'")
        .bind(JSON.stringify(ids))
        .run();
    },

    async due(now) {
      const { results } = await db
        .prepare(
          `UPDATE row_files SET state = 'going', touched_at = ?1 WHERE id IN (
             SELECT id FROM row_files WHERE state = 'receiving' AND touched_at <= ?1 - ${UPLOAD_DEAD_MS}
             UNION ALL SELECT id FROM row_files WHERE state = 'ready' AND expires_at <= ?1
             UNION ALL SELECT id FROM row_files WHERE state = 'going' AND touched_at <= ?1 - ${DELETION_RETRY_MS}
             LIMIT ?2)
           RETURNING id, parts`,
        )
        .bind(now, FILES_PER_RUN)
        .all<GoingFile>();
      return results;
    },
  };
}
