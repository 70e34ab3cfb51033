/** What pages have sent with each publish token, and what became of it. */
import type { SentPart } from '../blobs/d1-blob-ledger.ts';
import { isSameFile, isStored, LIST_PART } from '../blobs/d1-blob-rows.ts';
import type { SentFile } from '../blobs/stored-file.ts';
import { SURPLUS_KEPT_MS } from '../blobs/limits.ts';
import { gaveRow, type SqlDatabase } from '../platform/d1-database.ts';
import { FORGOTTEN_UPLOADS, MAX_PAGE_TRIES } from './limits.ts';

const PART_IS_STORED = `${isStored("p.value ->> 'sha256'")} AND ${isSameFile("p.value ->> 'since'")}`;
const SENT_TO_SAME_FILE = isSameFile('?5');

/** `spent`: the token has another file already, or has published this one. `full`: it has sent enough. */
export type UploadClaim = 'taken' | 'spent' | 'full';

export function createD1PageUploads(db: SqlDatabase) {
  return {
    /**
     * Before a part is read: counts its bytes against what the token may send of this file. Atomic: of two first
     * files of a token that makes one version, one is refused.
     * @param params.most bytes. @param params.files of the token.
     */
    async claim(params: {
      token: string;
      /** Of the token. */
      tenant: string;
      digest: string;
      bytes: number;
      most: number;
      files: number;
      /** Of the token, unix ms. */
      expiresAt: number;
    }): Promise<UploadClaim> {
      const { token, tenant, digest, bytes, most, files, expiresAt } = params;
      const taken = await db
        .prepare(
          `INSERT INTO page_uploads (token, digest, tenant, bytes, parts, expires_at)
           SELECT ?1, ?2, ?7, ?3, '{}', ?4
           WHERE ?3 <= ?5 AND (EXISTS (SELECT 1 FROM page_uploads WHERE token = ?1 AND digest = ?2)
             OR (SELECT COUNT(*) FROM page_uploads WHERE token = ?1) < ?6)
           ON CONFLICT (token, digest) DO UPDATE SET bytes = bytes + excluded.bytes
             WHERE bytes + excluded.bytes <= ?5 AND version IS NULL
           RETURNING digest`,
        )
        .bind(token, digest, bytes, expiresAt, most, files, tenant)
        .first();
      if (taken !== null) return 'taken';
      const known = await db
        .prepare(
          `SELECT COUNT(*) AS files, COALESCE(SUM(digest = ?2), 0) AS own,
             COALESCE(SUM(digest = ?2 AND version IS NOT NULL), 0) AS published
           FROM page_uploads WHERE token = ?1`,
        )
        .bind(token, digest)
        .first<{ files: number; own: number; published: number }>();
      if (known === null || known.published > 0) return 'spent';
      return known.own > 0 || known.files < files ? 'full' : 'spent';
    },

    /** What was sent of a file with a token. A tenant's own uploads of the same file are kept apart from it. */
    sentWith: ({ token, digest }: { token: string; digest: string }): SentFile => ({
      async add({ index, bytes, sha256 }, { since, at }) {
        const [, added] = await db.batch([
          db.prepare(LIST_PART).bind(digest, sha256, bytes, at),
          db
            .prepare(
              `UPDATE page_uploads SET parts = json_set(parts, ?2, json(?3))
               WHERE digest = ?1 AND token = ?4 AND ${SENT_TO_SAME_FILE} RETURNING digest`,
            )
            .bind(digest, `$."${index}"`, JSON.stringify({ bytes, sha256, since, at }), token, since),
        ]);
        return gaveRow(added);
      },
      async sent() {
        const { results } = await db
          .prepare(
            `SELECT CAST(p.key AS INTEGER) AS "index", p.value ->> 'bytes' AS bytes, p.value ->> 'sha256' AS sha256,
               p.value ->> 'at' AS at, ${PART_IS_STORED} AS stored
             FROM page_uploads u CROSS JOIN json_each(u.parts) p WHERE u.digest = ?1 AND u.token = ?2 ORDER BY 1`,
          )
          .bind(digest, token)
          .all<Omit<SentPart, 'stored'> & { stored: number }>();
        return results.map((part) => ({ ...part, stored: part.stored === 1 }));
      },
      async forget(index) {
        await db
          .prepare('UPDATE page_uploads SET parts = json_remove(parts, ?) WHERE token = ? AND digest = ?')
          .bind(`$."${index}"`, token, digest)
          .run();
      },
    }),

    /**
     * An attempt to publish the file.
     * @returns the version that it became before; `spent` after too many attempts; `missing` if nothing was sent.
     */
    async attempt({
      token,
      digest,
    }: {
      token: string;
      digest: string;
    }): Promise<{ version: number | null } | 'spent' | 'missing'> {
      const row = await db
        .prepare(
          'UPDATE page_uploads SET tries = tries + 1 WHERE token = ? AND digest = ? RETURNING version, tries',
        )
        .bind(token, digest)
        .first<{ version: number | null; tries: number }>();
      if (row === null) return 'missing';
      return row.version === null && row.tries > MAX_PAGE_TRIES ? 'spent' : { version: row.version };
    },

    /** The version that a token has made; null = none. For tokens that make one. */
    async versionOf(token: string): Promise<number | null> {
      const row = await db
        .prepare('SELECT version FROM page_uploads WHERE token = ? AND version > 0')
        .bind(token)
        .first<{ version: number }>();
      return row?.version ?? null;
    },

    /**
     * Deletes some of those whose token has expired, once their parts are gone too: erasing a tenant finds these here.
     * @param now unix ms.
     */
    async tend(now: number): Promise<void> {
      await db
        .prepare(
          `DELETE FROM page_uploads WHERE (token, digest) IN (
             SELECT token, digest FROM page_uploads WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`,
        )
        .bind(now - SURPLUS_KEPT_MS, FORGOTTEN_UPLOADS)
        .run();
    },
  };
}

/** Throws StoreUnavailable. */
export type PageUploads = ReturnType<typeof createD1PageUploads>;
