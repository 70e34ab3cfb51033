/** Backups of all that an edge keeps, and bringing one back: what the admin API takes and answers. */
import { z } from 'zod';
import { Digest } from '../identity.ts';
import type { AdminOperationTable } from './operation.ts';

/** Rows of one answer, and of one request; less where they are long. */
export const MAX_BACKUP_ROWS = 500;
/** JSON of these rows, bytes, about. */
export const BACKUP_PAGE_BYTES = 400_000;
/** Body of a request with rows: a page, and a row that is as long as one. */
export const MAX_BACKUP_BODY_BYTES = 1_000_000;
/** Files of one question. */
export const MAX_BACKUP_FILES = 100;

const TableName = z.string().regex(/^[a-z_]{1,64}$/, 'must be the name of a table');
const RestoreId = z.string().regex(/^[0-9a-f]{32}$/, 'must be 32 hex digits');
const ColumnName = z.string().regex(/^[a-z0-9_]{1,64}$/, 'must be the name of a column');
/** Values of a row, in the order of the columns. */
const Row = z.array(z.union([z.string(), z.number(), z.null()]));
export type BackupRow = z.infer<typeof Row>;

/** Whoever makes a backup has files by these names. */
const TableRows = z.object({ name: TableName, rows: z.int().min(0) });

/** `GET /admin/backup`. */
export const BackupPlan = z
  .object({
    /** Hash of the schema that the tables have (`migrations/`). */
    schema: z.string(),
    /** Another one when names, versions or keys have changed meanwhile. */
    mark: z.string(),
    /** In the order in which they are to be brought back. */
    tables: z.array(TableRows),
  })
  .meta({ id: 'BackupPlan' });
export type BackupPlan = z.infer<typeof BackupPlan>;

/** `GET /admin/backup/rows?table=&cursor=`. */
export const BackupRows = z
  .object({
    columns: z.array(z.string()),
    rows: z.array(Row),
    /** Goes on; null at the end. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'BackupRows' });
export type BackupRows = z.infer<typeof BackupRows>;

/** `POST /admin/backup/restore`. */
export const BeginRestore = z
  .strictObject({
    /** Of the backup: who brings it back goes on with it. */
    id: RestoreId,
    dry_run: z.boolean().nullish(),
  })
  .meta({ id: 'BeginRestore' });
export const BegunRestore = z
  .object({
    /** It goes on with what was begun before. */
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
/** Those that the store does not have whole. */
export const MissingFiles = z.object({ missing: z.array(z.string()) }).meta({ id: 'MissingFiles' });

/** `POST /admin/backup/end`. */
export const EndRestore = z.strictObject({ id: RestoreId }).meta({ id: 'EndRestore' });
export const EndedRestore = z.object({ tables: z.array(TableRows) }).meta({ id: 'EndedRestore' });

const params = { digest: Digest };
const index = z.string().regex(/^\d{1,4}$/, 'must be the number of a part');

export const BACKUP_OPERATIONS = {
  'GET /admin/backup': {
    id: 'planBackup',
    tag: 'operation',
    rights: 'operator',
    summary: 'The tables of the registry, and how many rows they have. Bootstrap key only.',
    query: null,
    request: null,
    answers: { 200: { description: 'What a backup is made of.', schema: BackupPlan } },
  },
  'GET /admin/backup/rows': {
    id: 'readBackupRows',
    tag: 'operation',
    rights: 'operator',
    summary: 'A page of a table. Bootstrap key only.',
    query: z.strictObject({ table: TableName, cursor: z.string().max(2_048).optional() }),
    request: null,
    answers: { 200: { description: 'Rows; `cursor` goes on.', schema: BackupRows } },
  },
  'GET /admin/backup/parts/:digest': {
    id: 'readBackupPart',
    tag: 'operation',
    rights: 'operator',
    summary: 'A part of any file. Bootstrap key only.',
    params,
    query: z.strictObject({ index }),
    request: null,
    answers: { 200: { description: 'Its bytes.', schema: 'bytes' } },
  },
  'POST /admin/backup/restore': {
    id: 'beginRestore',
    tag: 'operation',
    rights: 'operator',
    summary: 'Begins to bring a backup back into an empty registry. Bootstrap key only.',
    query: null,
    request: BeginRestore,
    answers: { 200: { description: 'It may be brought back.', schema: BegunRestore } },
  },
  'POST /admin/backup/rows': {
    id: 'restoreRows',
    tag: 'operation',
    rights: 'operator',
    summary: 'Brings rows of a table back. Bootstrap key only.',
    query: null,
    request: RestoreRows,
    maxBytes: MAX_BACKUP_BODY_BYTES,
    answers: { 200: { description: 'How many were written.', schema: RestoredRows } },
  },
  'POST /admin/backup/files': {
    id: 'findMissingFiles',
    tag: 'operation',
    rights: 'operator',
    summary: 'Which files are still to be brought back. Bootstrap key only.',
    query: null,
    request: RestoreFiles,
    answers: { 200: { description: 'Those that are not whole.', schema: MissingFiles } },
  },
  'PUT /admin/backup/parts/:digest': {
    id: 'restorePart',
    tag: 'operation',
    rights: 'operator',
    summary: 'Brings a part of a file back; with the last one the file is there. Bootstrap key only.',
    params,
    query: z.strictObject({ index, restore: RestoreId }),
    request: 'bytes',
    answers: { 204: { description: 'It is stored.', schema: null } },
  },
  'POST /admin/backup/end': {
    id: 'endRestore',
    tag: 'operation',
    rights: 'operator',
    summary: 'Ends bringing a backup back, and counts what is there. Bootstrap key only.',
    query: null,
    request: EndRestore,
    answers: { 200: { description: 'How many rows each table has.', schema: EndedRestore } },
  },
} as const satisfies AdminOperationTable;
