/** Files in D1: their parts and records, their senders, and which of them are unused. */
import type { BlobPart } from '../../protocol/admin-api/blobs.ts';
import type { Page } from '../platform/ports.ts';
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';
import { DELETER_GONE_MS } from './limits.ts';
import { gaveRow, type SqlDatabase, type SqlStatement, readable } from '../platform/d1-database.ts';
import {
  isRecorded,
  isSameFile,
  isStored,
  LIST_PART,
  listRecorded,
  partsToJson,
  toRecord,
  type BlobRow,
} from './d1-blob-rows.ts';

type SentRecord = Omit<SentPart, 'stored'> & { stored: number };

/** The record of the file ?1 lists them. */
const STRIKE_RECORDED = `DELETE FROM stored_parts WHERE digest = ?1 AND ${isRecorded('?1', 'stored_parts.sha256')}`;
const GIVEN_IS_RECORDED = isRecorded('?1', '?2');
/** A version of the file ?1 has the proof ?2. */
const GIVEN_IS_PROOF = `EXISTS (SELECT 1 FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
  WHERE m.digest = ?1 AND m.below = 0 AND v.proof = ?2)`;
const IS_HELD = `EXISTS (SELECT 1 FROM blob_holders h JOIN blobs b ON b.digest = h.digest
  WHERE h.digest = ?1 AND h.tenant = ?2 AND b.damaged_at IS NULL AND json_valid(b.parts))`;
/** After an insertion into `stored_files`: a row that is there is touched, unless the file is being deleted. */
const TOUCHED = `ON CONFLICT (digest) DO UPDATE
  SET touched_at = MAX(touched_at, excluded.touched_at), deleting_at = NULL WHERE collecting_at IS NULL RETURNING since`;
const GIVEN_IS_STORED = isStored('?2');
/** The file ?1 is not gone. In a registry that was restored its record may be all that says so. */
const GIVEN_IS_THERE = `(EXISTS (SELECT 1 FROM stored_files f WHERE f.digest = ?1)
  OR EXISTS (SELECT 1 FROM blobs b WHERE b.digest = ?1))`;
const WANTED_IS_STORED = isStored('wanted.value');
const SENT_IS_STORED = isStored('p.sha256');
const SENT_TO_SAME_FILE = isSameFile('?7');
const READ_OF_SAME_FILE = isSameFile('?5');
const SENT_IS_RECORDED = isRecorded('?1', 'blob_parts.sha256');

export function createD1BlobLedger(db: SqlDatabase) {
  const record = async (digest: string): Promise<BlobRecord | null> => {
    const row = await db
      .prepare('SELECT digest, bytes, parts FROM blobs WHERE digest = ?')
      .bind(digest)
      .first<BlobRow>();
    return row && toRecord(row);
  };
  return {
    /** The finished file's record, whoever sent it. */
    record,
    /**
     * Somebody is about to store a part of the file, or relies on it. Takes the mark of garbage away, and keeps it away
     * for as long as the collector waits.
     * @returns since when the file has been there, unix ms: another time after it was deleted and sent again. null while
     * it is being deleted: nobody may add to it or rely on it before that has ended.
     */
    async touch({ digest, at }: { digest: string; at: number }): Promise<number | null> {
      const touched = await db
        .prepare(`INSERT INTO stored_files (digest, since, touched_at) VALUES (?1, ?2, ?2) ${TOUCHED}`)
        .bind(digest, at)
        .first<{ since: number }>();
      return touched?.since ?? null;
    },
    /**
     * The tenant relies on the whole file that it holds; like `touch`.
     * @returns false when it does not hold it, or no more.
     */
    async rely({ digest, tenant, at }: { digest: string; tenant: string; at: number }): Promise<boolean> {
      const relied = await db
        .prepare(
          `INSERT INTO stored_files (digest, since, touched_at) SELECT ?1, ?3, ?3 WHERE ${IS_HELD} ${TOUCHED}`,
        )
        .bind(digest, tenant, at)
        .first();
      return relied !== null;
    },
    /**
     * A record was stored of a file that was deleted meanwhile. Whoever is still deleting the file may have missed it:
     * another takes over later, and deletes it.
     * @returns whether the caller deletes it, with the claim `at`: the file was not sent again.
     */
    async claimLeft({ digest, at }: { digest: string; at: number }): Promise<boolean> {
      const [, claimed] = await db.batch([
        db
          .prepare(
            'UPDATE stored_files SET collecting_at = collecting_at + 1 WHERE digest = ? AND collecting_at > 0',
          )
          .bind(digest),
        db
          .prepare(
            `INSERT OR IGNORE INTO stored_files (digest, since, touched_at, collecting_at) VALUES (?1, ?2, 0, ?2)
             RETURNING digest`,
          )
          .bind(digest, at),
      ]);
      return gaveRow(claimed);
    },
    /** It is deleted. If this is not said, the collector does it again. */
    async leftIsGone({ digest, claim }: { digest: string; claim: number }): Promise<void> {
      await db
        .prepare('DELETE FROM stored_files WHERE digest = ? AND collecting_at = ?')
        .bind(digest, claim)
        .run();
    },
    /**
     * The bytes of a part are about to be stored.
     * @returns false while they are being deleted, and when the whole file is gone: nobody would delete them with it.
     */
    async storing({
      digest,
      part,
      at,
    }: {
      digest: string;
      part: BlobRecord['parts'][number];
      at: number;
    }): Promise<boolean> {
      const [, stored] = await db.batch([
        db
          .prepare(
            `INSERT INTO stored_parts (digest, sha256, bytes, kept_at)
             SELECT ?1, ?2, ?3, ?4 WHERE NOT ${GIVEN_IS_RECORDED} AND ${GIVEN_IS_THERE}
             ON CONFLICT (digest, sha256) DO UPDATE SET kept_at = MAX(kept_at, excluded.kept_at)
               WHERE collecting_at IS NULL`,
          )
          .bind(digest, part.sha256, part.bytes, at),
        db
          .prepare(`SELECT 1 AS stored WHERE ${GIVEN_IS_STORED} AND ${GIVEN_IS_THERE}`)
          .bind(digest, part.sha256),
      ]);
      return gaveRow(stored);
    },
    /** Whoever deleted the file may have missed the bytes of a part: unless it is kept, the next collection deletes it. */
    async leave({ digest, part }: { digest: string; part: BlobRecord['parts'][number] }): Promise<void> {
      await db.prepare(LIST_PART).bind(digest, part.sha256, part.bytes, 0).run();
    },
    /**
     * The bytes of a part are stored. Whoever deleted the file meanwhile may have deleted them or missed them, so they are
     * listed in any case.
     * @param params.since of `touch`, before they were stored. @returns false when the file was deleted since.
     */
    async addPart({
      digest,
      tenant,
      part,
      since,
      at,
    }: {
      digest: string;
      tenant: string;
      part: BlobPart;
      since: number;
      at: number;
    }): Promise<boolean> {
      const [, added] = await db.batch([
        db.prepare(LIST_PART).bind(digest, part.sha256, part.bytes, at),
        db
          .prepare(
            `INSERT INTO blob_parts (digest, tenant, part, bytes, sha256, at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ${SENT_TO_SAME_FILE}
             ON CONFLICT (digest, tenant, part) DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256,
               at = excluded.at
             RETURNING digest`,
          )
          .bind(digest, tenant, part.index, part.bytes, part.sha256, at, since),
      ]);
      return gaveRow(added);
    },
    /** All parts that this tenant sent, by index. */
    async sent(digest: string, tenant: string): Promise<SentPart[]> {
      const { results } = await db
        .prepare(
          `SELECT p.part AS "index", p.bytes, p.sha256, p.at,
             ${SENT_IS_STORED} AS stored
           FROM blob_parts p WHERE p.digest = ?1 AND p.tenant = ?2 ORDER BY p.part`,
        )
        .bind(digest, tenant)
        .all<SentRecord>();
      return results.map((part) => ({ ...part, stored: part.stored === 1 }));
    },
    /** The tenant's part has to be sent again. */
    async forgetPart({
      digest,
      tenant,
      index,
    }: {
      digest: string;
      tenant: string;
      index: number;
    }): Promise<void> {
      await db
        .prepare('DELETE FROM blob_parts WHERE digest = ? AND tenant = ? AND part = ?')
        .bind(digest, tenant, index)
        .run();
    },
    /** Keeps the parts from the collector. @returns false when one is not stored or is being deleted. */
    async keep({
      digest,
      sha256s,
      at,
    }: {
      digest: string;
      sha256s: readonly string[];
      at: number;
    }): Promise<boolean> {
      const wanted = [...new Set(sha256s)];
      const list = JSON.stringify(wanted);
      const [, there] = await db.batch([
        db
          .prepare(
            `UPDATE stored_parts SET kept_at = MAX(kept_at, ?2) WHERE digest = ?1 AND collecting_at IS NULL
               AND sha256 IN (SELECT value FROM json_each(?3))`,
          )
          .bind(digest, at, list),
        db.prepare(`SELECT value FROM json_each(?2) wanted WHERE ${WANTED_IS_STORED}`).bind(digest, list),
      ]);
      return there?.results.length === wanted.length;
    },
    /**
     * The parts have been read and make the file. They become its record when it has none, when its bytes were found
     * damaged, or when they are fewer.
     * @param params.since of `touch`, before they were read.
     * @returns the file's record from here on; null when it has been deleted since, even if it was sent again.
     */
    async finish({
      digest,
      record: made,
      since,
      at,
    }: {
      digest: string;
      record: BlobRecord;
      since: number;
      at: number;
    }): Promise<BlobRecord | null> {
      const [, finished] = await db.batch([
        // Cached readers of the old record may still need its parts: they stay for another while.
        db.prepare(listRecorded('?1', '?2')).bind(digest, at),
        db
          .prepare(
            `INSERT INTO blobs (digest, bytes, parts, touched_at)
             SELECT ?1, ?2, ?3, ?4 WHERE ${READ_OF_SAME_FILE}
               AND NOT EXISTS (SELECT 1 FROM json_each(?6) wanted WHERE NOT ${WANTED_IS_STORED})
             ON CONFLICT (digest) DO UPDATE SET damaged_at = NULL,
               touched_at = CASE WHEN blobs.damaged_at IS NOT NULL OR NOT json_valid(blobs.parts)
                   OR json_array_length(excluded.parts) < json_array_length(blobs.parts)
                   OR excluded.parts = blobs.parts THEN excluded.touched_at
                 ELSE blobs.touched_at END,
               parts = CASE WHEN blobs.damaged_at IS NOT NULL OR NOT json_valid(blobs.parts) THEN excluded.parts
                 WHEN json_array_length(excluded.parts) < json_array_length(blobs.parts) THEN excluded.parts
                 ELSE blobs.parts END
             RETURNING digest`,
          )
          .bind(
            ...[digest, made.bytes, partsToJson(digest, made), at, since],
            JSON.stringify(made.parts.map(({ sha256 }) => sha256)),
          ),
        db.prepare(STRIKE_RECORDED).bind(digest),
      ]);
      return gaveRow(finished) ? record(digest) : null;
    },
    /**
     * Marks the tenant as holder of the whole file: what it has sent of it is told no more.
     * @returns false when there is none, or none any more.
     */
    async hold({ digest, tenant, at }: { digest: string; tenant: string; at: number }): Promise<boolean> {
      const [held] = await db.batch([
        db
          .prepare(
            `INSERT INTO blob_holders (digest, tenant, at)
             SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM blobs WHERE digest = ?1)
             ON CONFLICT (digest, tenant) DO UPDATE SET at = blob_holders.at RETURNING digest`,
          )
          .bind(digest, tenant, at),
        db
          .prepare(
            `DELETE FROM blob_parts WHERE digest = ?1 AND tenant = ?2
               AND EXISTS (SELECT 1 FROM blob_holders h WHERE h.digest = ?1 AND h.tenant = ?2)`,
          )
          .bind(digest, tenant),
      ]);
      return gaveRow(held);
    },
    /** Whether it is the proof of a version of the file. */
    async isProof(digest: string, sha256: string): Promise<boolean> {
      return (
        (await db.prepare(`SELECT 1 AS found WHERE ${GIVEN_IS_PROOF}`).bind(digest, sha256).first()) !== null
      );
    },
    /** All finished files, by digest. */
    async records({
      cursor,
      limit,
    }: {
      cursor: string | null;
      limit: number;
    }): Promise<Page<{ digest: string; record: BlobRecord }>> {
      const { results } = await db
        .prepare('SELECT digest, bytes, parts FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?')
        .bind(cursor ?? '', limit)
        .all<BlobRow>();
      return {
        items: readable(results, (row) => ({ digest: row.digest, record: toRecord(row) })),
        cursor: results.length === limit ? (results.at(-1)?.digest ?? null) : null,
      };
    },
    async holds(digest: string, tenant: string): Promise<boolean> {
      const row = await db.prepare(`SELECT 1 AS held WHERE ${IS_HELD}`).bind(digest, tenant).first();
      return row !== null;
    },
    /** Unix ms when the parts of its record were last read whole and made the file; null = not known. */
    async readBackAt(digest: string): Promise<number | null> {
      const row = await db
        .prepare('SELECT touched_at FROM blobs WHERE digest = ?')
        .bind(digest)
        .first<{ touched_at: number }>();
      return row?.touched_at ?? null;
    },
    /** They were just now. */
    async noteReadBack({ digest, at }: { digest: string; at: number }): Promise<void> {
      await db
        .prepare('UPDATE blobs SET touched_at = MAX(touched_at, ?) WHERE digest = ?')
        .bind(at, digest)
        .run();
    },
    /**
     * Its bytes cannot be read: nobody holds it until somebody has sent it again, and parts of its record that were sent
     * before, however lately, count as not sent.
     */
    async markDamaged({ digest, at }: { digest: string; at: number }): Promise<void> {
      await db.batch([
        db.prepare('UPDATE blobs SET damaged_at = ? WHERE digest = ?').bind(at, digest),
        db.prepare(`DELETE FROM blob_parts WHERE digest = ?1 AND ${SENT_IS_RECORDED}`).bind(digest),
      ]);
    },
    /**
     * The parts of its record are all there again, and make the file: whoever held it holds it.
     * @returns false when there is no such file any more.
     */
    async mended({ digest, at }: { digest: string; at: number }): Promise<boolean> {
      const [mended] = await db.batch([
        db
          .prepare(
            'UPDATE blobs SET damaged_at = NULL, touched_at = MAX(touched_at, ?) WHERE digest = ? RETURNING digest',
          )
          .bind(at, digest),
        db.prepare(STRIKE_RECORDED).bind(digest),
      ]);
      return mended?.results.length === 1;
    },
  };
}

/**
 * Who sent which bytes. A digest is no capability: having sent them is. What one tenant sent is kept apart from what
 * others did, so that no answer depends on them. Throws StoreUnavailable.
 */
export type BlobLedger = ReturnType<typeof createD1BlobLedger>;

/** A row of `stored_files`, with the total of its parts. */
interface FileRecord {
  digest: string;
  finished: number;
  bytes: number;
  touched_at: number;
  deleting_at: number | null;
  collecting_at: number | null;
}

/** Decided inside each statement, so that a concurrent publication is not missed. */
const UNUSED = 'NOT EXISTS (SELECT 1 FROM chain_members m WHERE m.digest = stored_files.digest)';
const FINISHED = 'EXISTS (SELECT 1 FROM blobs b WHERE b.digest = stored_files.digest)';
/** Of the file ?1 those of the list ?2, while the claim ?3 stands. */
const FORGET_PARTS = ['blob_parts', 'stored_parts'].map(
  (table) => `DELETE FROM ${table} WHERE digest = ?1 AND sha256 IN (SELECT value FROM json_each(?2)) AND (
    EXISTS (SELECT 1 FROM stored_files f WHERE f.digest = ?1 AND f.collecting_at = ?3)
    OR EXISTS (SELECT 1 FROM stored_parts p WHERE p.digest = ?1 AND p.sha256 = ${table}.sha256 AND p.collecting_at = ?3))`,
);
/** In `upkeep`. */
const JOB = 'garbage';

export function createD1Garbage(db: SqlDatabase) {
  return {
    /**
     * Files that are not in use and were last touched before `touchedBefore`, by digest.
     * @param params.scan files looked at, at most; a page may therefore be empty and have a cursor.
     */
    async unused({
      touchedBefore,
      cursor,
      scan,
      limit,
    }: {
      touchedBefore: number;
      cursor: string | null;
      scan: number;
      limit: number;
    }): Promise<Page<UnusedFile>> {
      const [{ results }, last] = await Promise.all([
        db
          .prepare(
            `SELECT digest, touched_at, deleting_at, collecting_at, ${FINISHED} AS finished, COALESCE(
               (SELECT b.bytes FROM blobs b WHERE b.digest = stored_files.digest),
               (SELECT SUM(p.bytes) FROM stored_parts p WHERE p.digest = stored_files.digest),
               (SELECT SUM(p.bytes) FROM blob_parts p WHERE p.digest = stored_files.digest), 0) AS bytes
             FROM (SELECT * FROM stored_files WHERE digest > ? ORDER BY digest LIMIT ?) stored_files
             WHERE (touched_at < ? OR collecting_at IS NOT NULL) AND ${UNUSED}
             ORDER BY digest LIMIT ?`,
          )
          .bind(cursor ?? '', scan, touchedBefore, limit)
          .all<FileRecord>(),
        db
          .prepare('SELECT digest FROM stored_files WHERE digest > ? ORDER BY digest LIMIT 1 OFFSET ?')
          .bind(cursor ?? '', scan - 1)
          .first<{ digest: string }>(),
      ]);
      const full = results.length === limit ? results.at(-1) : undefined;
      return { items: results.map(toFile), cursor: (full ?? last)?.digest ?? null };
    },
    /** @returns false when it was touched or published meanwhile, or is marked. */
    async mark({
      digest,
      touchedBefore,
      at,
    }: {
      digest: string;
      touchedBefore: number;
      at: number;
    }): Promise<boolean> {
      const marked = await db
        .prepare(
          `UPDATE stored_files SET deleting_at = ?
           WHERE digest = ? AND touched_at < ? AND deleting_at IS NULL AND collecting_at IS NULL AND ${UNUSED}
           RETURNING digest`,
        )
        .bind(at, digest, touchedBefore)
        .first();
      return marked !== null;
    },
    /**
     * From here on the file cannot be used, everybody who sent it has to send it again, and the caller alone deletes it:
     * `at` is its claim.
     * @returns false when it was touched or published meanwhile, or its mark is not that old.
     */
    async beginCollecting({
      digest,
      markedBefore,
      at,
    }: {
      digest: string;
      markedBefore: number;
      at: number;
    }): Promise<boolean> {
      const [began] = await db.batch([
        db
          .prepare(
            `UPDATE stored_files SET collecting_at = ?
             WHERE digest = ? AND deleting_at < ? AND collecting_at IS NULL AND ${UNUSED} RETURNING digest`,
          )
          .bind(at, digest, markedBefore),
        ...forgetting(digest),
      ]);
      return gaveRow(began);
    },
    /** The same for a file that was never finished, marked or not. */
    async beginDropping({
      digest,
      touchedBefore,
      at,
    }: {
      digest: string;
      touchedBefore: number;
      at: number;
    }): Promise<boolean> {
      const [began] = await db.batch([
        db
          .prepare(
            `UPDATE stored_files SET collecting_at = ?
             WHERE digest = ? AND touched_at < ? AND collecting_at IS NULL AND NOT ${FINISHED} AND ${UNUSED}
             RETURNING digest`,
          )
          .bind(at, digest, touchedBefore),
        ...forgetting(digest),
      ]);
      return gaveRow(began);
    },
    /**
     * Goes on with a file whose deletion was begun, with the claim `at`.
     * @returns false when somebody else deletes it, or it is deleted.
     */
    async takeOver({ digest, at }: { digest: string; at: number }): Promise<boolean> {
      const taken = await db
        .prepare(
          `UPDATE stored_files SET collecting_at = ?
           WHERE digest = ? AND (collecting_at = 0 OR collecting_at < ?) RETURNING digest`,
        )
        .bind(at, digest, at - DELETER_GONE_MS)
        .first();
      return taken !== null;
    },
    /**
     * Says that whoever has the claim goes on.
     * @returns its claim from here on, and parts of the file, by hash; null when another has taken over.
     */
    async goOn({
      digest,
      claim,
      at,
      limit,
    }: {
      digest: string;
      claim: number;
      at: number;
      limit: number;
    }): Promise<{ claim: number; parts: string[]; others: boolean } | null> {
      const [mine, parts, others] = await db.batch([
        db
          .prepare(
            `UPDATE stored_files SET collecting_at = MAX(collecting_at, ?) WHERE digest = ? AND collecting_at = ?
             RETURNING collecting_at AS claim`,
          )
          .bind(at, digest, claim),
        db
          .prepare(
            `SELECT sha256 FROM stored_parts WHERE digest = ? AND (collecting_at IS NULL OR collecting_at < ?)
             ORDER BY sha256 LIMIT ?`,
          )
          .bind(digest, at - DELETER_GONE_MS, limit),
        db
          .prepare('SELECT 1 AS others FROM stored_parts WHERE digest = ? AND collecting_at >= ? LIMIT 1')
          .bind(digest, at - DELETER_GONE_MS),
      ]);
      const [row] = (mine?.results ?? []) as { claim: number }[];
      if (row === undefined) return null;
      const found = (parts?.results ?? []) as { sha256: string }[];
      return { claim: row.claim, parts: found.map(({ sha256 }) => sha256), others: gaveRow(others) };
    },
    /** Another may go on with it at once. */
    async letGo({ digest, claim }: { digest: string; claim: number }): Promise<void> {
      await db
        .prepare('UPDATE stored_files SET collecting_at = 0 WHERE digest = ? AND collecting_at = ?')
        .bind(digest, claim)
        .run();
    },
    /** Those parts are gone, if nobody has taken the claim over: of the file, or of the only part. */
    async partsCollected({ digest, sha256s, claim }: CollectedParts): Promise<void> {
      const gone = JSON.stringify(sha256s);
      await db.batch(FORGET_PARTS.map((sql) => db.prepare(sql).bind(digest, gone, claim)));
    },
    /**
     * All of its bytes are gone that were listed.
     * @returns false when others were stored meanwhile by whose upload was under way, or another has taken over.
     */
    async collected({ digest, claim }: { digest: string; claim: number }): Promise<boolean> {
      const answers = await db.batch([
        ...forgetting(digest),
        db
          .prepare(
            `DELETE FROM stored_files WHERE digest = ?1 AND collecting_at = ?2
               AND NOT EXISTS (SELECT 1 FROM stored_parts p WHERE p.digest = ?1) RETURNING digest`,
          )
          .bind(digest, claim),
      ]);
      return gaveRow(answers.at(-1));
    },
    /** Parts beside records that nobody has kept since, the oldest first. */
    async surplus({ keptBefore, limit }: { keptBefore: number; limit: number }): Promise<SurplusPart[]> {
      const { results } = await db
        .prepare(
          `SELECT digest, sha256, bytes FROM stored_parts WHERE kept_at < ?
           ORDER BY kept_at LIMIT ?`,
        )
        .bind(keptBefore, limit)
        .all<SurplusPart>();
      return results;
    },
    /** @returns whether the part is still surplus, and from here on being deleted, by the caller alone: `at` is its claim. */
    async beginPart({
      digest,
      sha256,
      keptBefore,
      at,
    }: {
      digest: string;
      sha256: string;
      keptBefore: number;
      at: number;
    }): Promise<boolean> {
      const [, , began] = await db.batch([
        // In a registry that was restored: a backup reads one table after the other.
        db.prepare(`${STRIKE_RECORDED} AND sha256 = ?2`).bind(digest, sha256),
        // Of a version that is gone; another one has it, too.
        db
          .prepare(`DELETE FROM stored_parts WHERE digest = ?1 AND sha256 = ?2 AND ${GIVEN_IS_PROOF}`)
          .bind(digest, sha256),
        db
          .prepare(
            `UPDATE stored_parts SET collecting_at = ?1
             WHERE digest = ?2 AND sha256 = ?3 AND kept_at < ?4 AND (collecting_at IS NULL OR collecting_at < ?5)
               AND NOT EXISTS (SELECT 1 FROM stored_files f WHERE f.digest = ?2 AND f.collecting_at IS NOT NULL)
             RETURNING sha256`,
          )
          .bind(at, digest, sha256, keptBefore, at - DELETER_GONE_MS),
      ]);
      return gaveRow(began);
    },
    /** Keeps the surplus parts of a file for another while. */
    async postpone({ digest, at }: { digest: string; at: number }): Promise<void> {
      await db
        .prepare('UPDATE stored_parts SET kept_at = ? WHERE digest = ? AND collecting_at IS NULL')
        .bind(at, digest)
        .run();
    },
    /** Where the schedule goes on; null = at the beginning. */
    async position(): Promise<string | null> {
      const row = await db
        .prepare('SELECT cursor FROM upkeep WHERE job = ?')
        .bind(JOB)
        .first<{ cursor: string }>();
      return row?.cursor || null;
    },
    async setPosition(cursor: string | null): Promise<void> {
      await db
        .prepare(
          `INSERT INTO upkeep (job, cursor) VALUES (?, ?)
           ON CONFLICT (job) DO UPDATE SET cursor = excluded.cursor`,
        )
        .bind(JOB, cursor ?? '')
        .run();
    },
  };

  /** Of a file that is being deleted: nobody has it any more, and its parts are listed by themselves. */
  function forgetting(digest: string): SqlStatement[] {
    const collecting =
      'EXISTS (SELECT 1 FROM stored_files f WHERE f.digest = ?1 AND f.collecting_at IS NOT NULL)';
    return [
      listRecorded('?1', '0', collecting),
      ...['blobs', 'blob_holders', 'blob_parts'].map(
        (table) => `DELETE FROM ${table} WHERE digest = ?1 AND ${collecting}`,
      ),
    ].map((sql) => db.prepare(sql).bind(digest));
  }
}

/** What collecting garbage needs. A file is in use while any version, staged or retired, has it in its chain. Throws StoreUnavailable. */
export type GarbageLedger = ReturnType<typeof createD1Garbage>;

const toFile = (record: FileRecord): UnusedFile => ({
  digest: record.digest,
  bytes: record.bytes,
  finished: record.finished === 1,
  touchedAt: record.touched_at,
  deletingAt: record.deleting_at,
  collectingAt: record.collecting_at,
});

/** A part that a tenant sent. */
export interface SentPart extends BlobPart {
  /** Unix ms. */
  at: number;
  /** Its bytes may be read: they were not deleted since, and lie under their hash. */
  stored: boolean;
}

/** A file of which bytes may be stored, and that no version's chain contains. */
export interface UnusedFile {
  digest: string;
  /** Of the whole file, or of what was sent of it. */
  bytes: number;
  /** It has a record. */
  finished: boolean;
  /** Unix ms. */
  touchedAt: number;
  /** When it was marked as garbage. */
  deletingAt: number | null;
  /** When its deletion began, which has not ended. */
  collectingAt: number | null;
}

interface CollectedParts {
  digest: string;
  sha256s: readonly string[];
  claim: number;
}

/** A stored part that is none of its file's record. */
export interface SurplusPart {
  digest: string;
  sha256: string;
  bytes: number;
}
