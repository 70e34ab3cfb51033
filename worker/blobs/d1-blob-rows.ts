/** Rows of files in D1: what a file's record lists, and what is listed by itself. */
import { z } from 'zod';
import { BlobRecord } from '../../protocol/adapter-manifest.ts';
import { Digest } from '../../protocol/identity.ts';
import { readColumn } from '../platform/d1-database.ts';

/** The hash of a `part` of the record of `b`: a file in one piece has its own. */
const PART_SHA256 = "COALESCE(part.value ->> 'sha256', b.digest)";
/** Files `b` and each `part` of their records. */
const RECORDS = `blobs b, json_each(CASE WHEN json_valid(b.parts) THEN b.parts ELSE '[]' END) part`;

/** Whether the record of the file lists the part; both are expressions of SQL. */
export const isRecorded = (digest: string, sha256: string): string =>
  `EXISTS (SELECT 1 FROM ${RECORDS} WHERE b.digest = ${digest} AND ${PART_SHA256} = ${sha256})`;

/** Whether the bytes of a part of ?1 may be read: neither it nor its file is being deleted. */
export const isStored = (sha256: string): string => `(${isRecorded('?1', sha256)} OR EXISTS (
  SELECT 1 FROM stored_parts s WHERE s.digest = ?1 AND s.sha256 = ${sha256} AND s.collecting_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM stored_files f WHERE f.digest = ?1 AND f.collecting_at IS NOT NULL))`;

/** Whether the file ?1 was not deleted since `touch` gave that time of it, and is not being deleted. @param since SQL. */
export const isSameFile = (since: string): string =>
  `EXISTS (SELECT 1 FROM stored_files f WHERE f.digest = ?1 AND f.since = ${since} AND f.collecting_at IS NULL)`;

/** Lists the part ?2 of ?1 with ?3 bytes by itself, unless it is listed: its bytes are stored since ?4. */
export const LIST_PART = `INSERT OR IGNORE INTO stored_parts (digest, sha256, bytes, kept_at)
  SELECT ?1, ?2, ?3, ?4 WHERE NOT ${isRecorded('?1', '?2')}`;

/**
 * Lists the parts of the file's record by themselves, before the record goes.
 * @param kept when they were last relied on; like the file's digest, an expression of SQL.
 */
export const listRecorded = (digest: string, kept: string, where = 'true'): string =>
  `INSERT INTO stored_parts (digest, sha256, bytes, kept_at)
   SELECT b.digest, ${PART_SHA256}, part.value ->> 'bytes', ${kept} FROM ${RECORDS}
   WHERE b.digest = ${digest} AND ${where}
   ON CONFLICT (digest, sha256) DO UPDATE SET kept_at = MAX(kept_at, excluded.kept_at)`;

export interface BlobRow {
  digest: string;
  bytes: number;
  parts: string;
}

const StoredPart = z.strictObject({ bytes: z.int(), sha256: Digest.optional() });
const storedParts = (digest: string) =>
  z
    .array(StoredPart)
    .transform((parts) => parts.map(({ bytes, sha256 = digest }) => ({ bytes, sha256 })))
    .pipe(BlobRecord.shape.parts);

/** A file in one piece has its own hash, which is in the row already. */
export const partsToJson = (digest: string, { parts }: BlobRecord): string =>
  JSON.stringify(parts.map(({ bytes, sha256 }) => (sha256 === digest ? { bytes } : { bytes, sha256 })));

/** @throws DamagedRow */
export const toRecord = ({ digest, bytes, parts }: BlobRow): BlobRecord => ({
  bytes,
  parts: readColumn(storedParts(digest), parts, { table: 'blobs', id: digest, column: 'parts' }),
});
