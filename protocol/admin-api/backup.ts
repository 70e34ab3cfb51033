/** Backing up and restoring everything that an edge keeps: requests and answers of the admin API. */
import { z } from 'zod';
import { Digest } from '../identity.ts';
import type { AdminOperationTable } from './operation.ts';

/** Rows in one answer or request of a backup. Long rows lower it. */
export const MAX_BACKUP_ROWS = 500;
/** JSON of these rows, bytes, approximately. */
export const BACKUP_PAGE_BYTES = 400_000;
/** Body of a request with rows, bytes: room for a page and one very long row. */
export const MAX_BACKUP_BODY_BYTES = 1_000_000;
/** Files per request. */
export const MAX_BACKUP_FILES = 100;

const TableName = z.string().regex(/^[a-z_]{1,64}$/, 'must be the name of a table');
const RestoreId = z.string().regex(/^[0-9a-f]{32}$/, 'must be 32 hex digits');
const ColumnName = z.string().regex(/^[a-z0-9_]{1,64}$/, 'must be the name of a column');
/** Values of a row, in the order of the columns. */
const Row = z.array(z.union([z.string(), z.number(), z.null()]));
export type BackupRow = z.infer<typeof Row>;

const TableRows = z.object({ name: TableName, rows: z.int().min(0) });

/** `GET /admin/backup`. */
export const BackupPlan = z
  .object({
    /** Hash of the schema that the tables have (`migrations/`). */
    schema: z.string(),
    /**
     * Changes whenever names, versions, grants or API keys change, and when an admin key is made or revoked. It says
     * nothing else.
     */
    mark: z.string(),
    /** In the order in which they must be restored. Their rows are not counted: that would read all of them. */
    tables: z.array(z.object({ name: TableName })),
  })
  .meta({ id: 'BackupPlan' });
export type BackupPlan = z.infer<typeof BackupPlan>;

/** `GET /admin/backup/rows?table=&cursor=`. */
export const BackupRows = z
  .object({
    columns: z.array(z.string()),
    rows: z.array(Row),
    /** Cursor of the next page; null at the end. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'BackupRows' });
export type BackupRows = z.infer<typeof BackupRows>;

/** `POST /admin/backup/restore`. */
export const BeginRestore = z
  .strictObject({
    /** Identifies the backup, so that its restore can continue. */
    id: RestoreId,
    dry_run: z.boolean().nullish(),
  })
  .meta({ id: 'BeginRestore' });
export const BegunRestore = z
  .object({
    /** An earlier restore of this backup continues. */
    resumed: z.boolean(),
  })
  .meta({ id: 'BegunRestore' });

/** `POST /admin/backup/rows`. */
export const RestoreRows = z
  .strictObject({
    id: RestoreId,
    table: TableName,
    columns: z.array(ColumnName).min(1).max(100),
    rows: z.array(Row).min(1).max(MAX_BACKUP_ROWS),
  })
  .meta({ id: 'RestoreRows' });
export const RestoredRows = z.object({ rows: z.int().min(0) }).meta({ id: 'RestoredRows' });

/** `POST /admin/backup/files`. */
export const RestoreFiles = z
  .strictObject({
    id: RestoreId,
    digests: z.array(Digest).min(1).max(MAX_BACKUP_FILES),
  })
  .meta({ id: 'RestoreFiles' });
/** Files that are not complete in the store. */
export const MissingFiles = z.object({ missing: z.array(z.string()) }).meta({ id: 'MissingFiles' });

/** `POST /admin/backup/end`. */
export const EndRestore = z.strictObject({ id: RestoreId }).meta({ id: 'EndRestore' });
export const EndedRestore = z.object({ tables: z.array(TableRows) }).meta({ id: 'EndedRestore' });
export type EndedRestore = z.infer<typeof EndedRestore>;

const params = { digest: Digest };
const index = z.string().regex(/^\d{1,4}$/, 'must be the number of a part');

export const BACKUP_OPERATIONS = {
  'GET /admin/backup': {
    id: 'planBackup',
    tag: 'operation',
    rights: 'operator',
    summary: "Lists the registry's tables. Bootstrap key only.",
    query: null,
    request: null,
    answers: { 200: { description: 'What a backup consists of.', schema: BackupPlan } },
  },
  'GET /admin/backup/rows': {
    id: 'readBackupRows',
    tag: 'operation',
    rights: 'operator',
    summary: 'Reads a page of a table. Bootstrap key only.',
    query: z.strictObject({ table: TableName, cursor: z.string().max(2_048).optional() }),
    request: null,
    answers: { 200: { description: 'Rows; pass `cursor` to get the next page.', schema: BackupRows } },
  },
  'GET /admin/backup/parts/:digest': {
    id: 'readBackupPart',
    tag: 'operation',
    rights: 'operator',
    summary: 'Reads a part of any file. Bootstrap key only.',
    params,
    query: z.strictObject({ index }),
    request: null,
    answers: { 200: { description: "The part's bytes.", schema: 'bytes' } },
  },
  'POST /admin/backup/restore': {
    id: 'beginRestore',
    tag: 'operation',
    rights: 'operator',
    summary: 'Starts restoring a backup into an empty registry. Bootstrap key only.',
    query: null,
    request: BeginRestore,
    answers: { 200: { description: 'The restore may start.', schema: BegunRestore } },
  },
  'POST /admin/backup/rows': {
    id: 'restoreRows',
    tag: 'operation',
    rights: 'operator',
    summary: 'Restores rows of a table. Bootstrap key only.',
    query: null,
    request: RestoreRows,
    maxBytes: MAX_BACKUP_BODY_BYTES,
    answers: { 200: { description: 'How many rows were written.', schema: RestoredRows } },
  },
  'POST /admin/backup/files': {
    id: 'findMissingFiles',
    tag: 'operation',
    rights: 'operator',
    summary: 'Lists the files that are still to be restored. Bootstrap key only.',
    query: null,
    request: RestoreFiles,
    answers: { 200: { description: 'The incomplete files.', schema: MissingFiles } },
  },
  'PUT /admin/backup/parts/:digest': {
    id: 'restorePart',
    tag: 'operation',
    rights: 'operator',
    summary: 'Restores a part of a file; the last part completes the file. Bootstrap key only.',
    params,
    query: z.strictObject({ index, restore: RestoreId }),
    request: 'bytes',
    answers: { 204: { description: 'The part is stored.', schema: null } },
  },
  'POST /admin/backup/end': {
    id: 'endRestore',
    tag: 'operation',
    rights: 'operator',
    summary: 'Ends the restore and counts the rows. Bootstrap key only.',
    query: null,
    request: EndRestore,
    answers: { 200: { description: 'How many rows each table has.', schema: EndedRestore } },
  },
} as const satisfies AdminOperationTable;
