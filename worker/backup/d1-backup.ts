import { z } from 'zod';
import {
  BACKUP_PAGE_BYTES,
  MAX_BACKUP_ROWS,
  type BackupRow,
  type BackupPlan,
  type BackupRows,
  type EndedRestore,
} from '../../protocol/admin-api/backup.ts';
import type { SqlDatabase } from '../platform/d1-database.ts';
import type { Page } from '../platform/ports.ts';

/** Part of `upkeep`: its cursor is the id of the backup being restored. */
const JOB = 'restore';
/** Tables that garbage collection depends on come last: it treats unreferenced files as garbage. */
const LAST = ['stored_files', 'stored_parts'];
/** Told like a table, and no table: versions' proofs lie beside their files. They need the versions. */
export const PROOFS = 'proofs';
/**
 * Data that expires: a backup would outlive it, and restore it. Notes of what KV lacks are of no use either: a
 * restore compares all of KV, and a note would write a key that was revoked since before it does.
 */
const LEFT_OUT = [
  'd1_migrations',
  'kept_prompts',
  'page_uploads',
  'preferences',
  'row_files',
  'schema_hash',
  'stale_rights',
  'training_deletions',
  'training_events',
  'training_jobs',
];
/** Tables that may lie in a database of their own (`DB_USAGE`). */
export const USAGE_TABLES: readonly string[] = [
  'traffic',
  'traffic_marks',
  'usage',
  'usage_batches',
  'usage_days',
];
/** An empty registry may have keys, of whoever tries it out; a row of any of these tables means it is in use. */
const FULL = ['names', 'versions', 'history', 'blobs', 'experiments'];

/**
 * Of each index that a change moves, the row at its end: nothing is counted. Changes of names, and notes of those of API
 * keys and grants, have numbers that only grow. Versions that are forgotten leave from the beginning of their index; an
 * erasure touches its row with every page.
 */
const MARK = `SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'history'), 0)
  || ' ' || COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'stale_rights'), 0)
  || ' ' || COALESCE((SELECT created_at || id FROM keys ORDER BY created_at DESC, id DESC LIMIT 1), '')
  || ' ' || COALESCE((SELECT revoked_at || id FROM keys INDEXED BY keys_revoked WHERE revoked_at IS NOT NULL
    ORDER BY revoked_at DESC, id DESC LIMIT 1), '')
  || ' ' || COALESCE((SELECT name || '@' || version FROM versions INDEXED BY versions_removed WHERE removed_at > 0
    ORDER BY removed_at, name, version LIMIT 1), '')
  || ' ' || (SELECT COUNT(*) || ' ' || COALESCE(MAX(touched_at), 0) FROM erasures) AS mark`;

const Key = z.array(z.union([z.string(), z.number()])).min(1);

interface Column {
  name: string;
  /** Its place in the primary key, from 1; 0 = none. */
  pk: number;
}

/**
 * Names of tables and columns come from the schema only, never from a request: requested ones are looked up
 * among them.
 */
export function createD1Backup(db: SqlDatabase, usageDb: SqlDatabase) {
  const databaseOf = (table: string): SqlDatabase => (USAGE_TABLES.includes(table) ? usageDb : db);

  async function tables(): Promise<string[]> {
    const { results } = await db
      .prepare(
        `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN (SELECT value FROM json_each(?))
           AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' ORDER BY name`,
      )
      .bind(JSON.stringify([...LEFT_OUT, ...USAGE_TABLES]))
      .all<{ name: string }>();
    const names = [...results.map(({ name }) => name), ...USAGE_TABLES].sort();
    return [...names.filter((name) => !LAST.includes(name)), ...LAST.filter((name) => names.includes(name))];
  }

  async function columnsOf(table: string): Promise<Column[] | null> {
    if (!(await tables()).includes(table)) return null;
    const { results } = await databaseOf(table)
      .prepare('SELECT name, pk FROM pragma_table_info(?)')
      .bind(table)
      .all<Column>();
    return results;
  }

  /** How many of the next rows fit one answer: hundreds of long ones do not fit an isolate. */
  async function pageOf(of: {
    table: string;
    all: readonly string[];
    names: string;
    where: string;
    after: readonly (string | number)[];
  }): Promise<number> {
    const length = of.all.map((name) => `COALESCE(LENGTH("${name}"), 0)`).join(' + ');
    const page = await databaseOf(of.table)
      .prepare(
        // eslint-disable-next-line no-restricted-syntax -- names of the schema's own table and columns
        `SELECT COALESCE(SUM(size <= ${BACKUP_PAGE_BYTES}), 0) AS fit FROM (
           SELECT SUM(length) OVER (ORDER BY ${of.names} ROWS UNBOUNDED PRECEDING) AS size FROM (
             SELECT ${of.names}, ${length} AS length FROM "${of.table}" ${of.where} ORDER BY ${of.names} LIMIT ?))`,
      )
      .bind(...of.after, MAX_BACKUP_ROWS)
      .first<{ fit: number }>();
    return page?.fit ?? 0;
  }

  const begun = async (): Promise<string | null> =>
    (await db.prepare('SELECT cursor FROM upkeep WHERE job = ?').bind(JOB).first<{ cursor: string }>())
      ?.cursor ?? null;

  const isFull = async (): Promise<boolean> => {
    const any = FULL.map((table) => `EXISTS (SELECT 1 FROM ${table})`).join(' OR ');
    // eslint-disable-next-line no-restricted-syntax -- made of the constants above
    return (await db.prepare(`SELECT 1 AS found WHERE ${any}`).first()) !== null;
  };

  return {
    async plan(): Promise<BackupPlan> {
      const names = await tables();
      const [schema, mark] = await db.batch([db.prepare('SELECT hash FROM schema_hash'), db.prepare(MARK)]);
      return {
        schema: (schema?.results[0] as { hash: string } | undefined)?.hash ?? '',
        mark: (mark?.results[0] as { mark: string } | undefined)?.mark ?? '',
        tables: [...names.filter((name) => !LAST.includes(name)), PROOFS, ...LAST].map((name) => ({ name })),
      };
    },

    /** Rows of each table, in the order of a plan. It reads all of them, each table in a request to D1 of its own. */
    async counts(): Promise<EndedRestore['tables']> {
      const counts: EndedRestore['tables'] = [];
      for (const name of await tables()) {
        const row = await databaseOf(name)
          // eslint-disable-next-line no-restricted-syntax -- a name of the schema's own tables
          .prepare(`SELECT COUNT(*) AS rows FROM "${name}"`)
          .first<{ rows: number }>();
        counts.push({ name, rows: row?.rows ?? 0 });
      }
      return counts;
    },

    /** @returns null when there is no such table, or the cursor is none of it. */
    async rows({ table, cursor }: { table: string; cursor: string | null }): Promise<BackupRows | null> {
      const columns = await columnsOf(table);
      if (columns === null) return null;
      const key = columns
        .filter(({ pk }) => pk > 0)
        .sort((a, b) => a.pk - b.pk)
        .map(({ name }) => name);
      const after = cursor === null ? null : readCursor(cursor, key.length);
      if (after === undefined) return null;
      const names = key.map((name) => `"${name}"`).join(', ');
      const where = after === null ? '' : `WHERE (${names}) > (${key.map(() => '?').join(', ')})`;
      const all = columns.map(({ name }) => name);
      const limit = Math.max(1, await pageOf({ table, all, names, where, after: after ?? [] }));
      // One more says whether there are others: some may have been added since the page was counted.
      const { results } = await databaseOf(table)
        // eslint-disable-next-line no-restricted-syntax -- names of the schema's own table and columns
        .prepare(`SELECT * FROM "${table}" ${where} ORDER BY ${names} LIMIT ?`)
        .bind(...(after ?? []), limit + 1)
        .all<Record<string, string | number | null>>();
      const rows = within(results.slice(0, limit).map((row) => all.map((name) => row[name] ?? null)));
      const last = results[rows.length - 1];
      const over = rows.length === results.length;
      return {
        columns: all,
        rows,
        cursor: over || last === undefined ? null : JSON.stringify(key.map((name) => last[name])),
      };
    },

    /** Proofs of versions, by name and version. @returns null when the cursor is invalid. */
    async proofs({
      cursor,
      limit,
    }: {
      cursor: string | null;
      limit: number;
    }): Promise<Page<{ digest: string; proof: string }> | null> {
      const after = cursor === null ? ['', 0] : readCursor(cursor, 2);
      if (after === undefined) return null;
      const { results } = await db
        .prepare(
          `SELECT name, version, digest, proof FROM versions WHERE (name, version) > (?, ?)
           ORDER BY name, version LIMIT ?`,
        )
        .bind(...after, limit)
        .all<{ name: string; version: number; digest: string; proof: string | null }>();
      const last = results.length === limit ? results.at(-1) : undefined;
      return {
        items: results.flatMap(({ digest, proof }) => (proof === null ? [] : [{ digest, proof }])),
        cursor: last === undefined ? null : JSON.stringify([last.name, last.version]),
      };
    },

    /**
     * Notes that the backup is being brought back.
     * @returns `full` when the registry has names, versions or files; `used` when a database of usage alone has any, which
     * rows of the backup would replace; `other` when another backup is being brought back.
     */
    async begin({
      id,
      dryRun,
    }: {
      id: string;
      dryRun: boolean;
    }): Promise<'begun' | 'resumed' | 'full' | 'used' | 'other'> {
      const other = await begun();
      if (other !== null) return other === id ? 'resumed' : 'other';
      if (await isFull()) return 'full';
      if (usageDb !== db && (await usageDb.prepare('SELECT 1 AS found FROM usage LIMIT 1').first()) !== null)
        return 'used';
      if (!dryRun)
        await db
          .prepare('INSERT INTO upkeep (job, cursor) VALUES (?, ?) ON CONFLICT DO NOTHING')
          .bind(JOB, id)
          .run();
      return dryRun || (await begun()) === id ? 'begun' : 'other';
    },

    isBegun: async (id: string): Promise<boolean> => (await begun()) === id,

    /**
     * A row that is there already is replaced.
     * @returns why not, when the table, or a column, is none of this registry's.
     */
    async write({
      table,
      columns: given,
      rows,
    }: {
      table: string;
      columns: readonly string[];
      rows: readonly BackupRow[];
    }): Promise<string | null> {
      const columns = await columnsOf(table);
      if (columns === null)
        return `Table '${table}' does not exist here. Restore with the version of graft that made the backup.`;
      const known = new Set(columns.map(({ name }) => name));
      const unknown = given.find((name) => !known.has(name));
      if (unknown !== undefined)
        return (
          `Table '${table}' has no column '${unknown}' here. Restore with the version of graft that made ` +
          'the backup.'
        );
      if (rows.some((row) => row.length !== given.length))
        return `A row of '${table}' has a different number of values than columns.`;
      await databaseOf(table)
        .prepare(
          // eslint-disable-next-line no-restricted-syntax -- names that were found among the schema's own
          `INSERT OR REPLACE INTO "${table}" (${given.map((name) => `"${name}"`).join(', ')})
           SELECT ${given.map((_, at) => `value ->> ${at}`).join(', ')} FROM json_each(?)`,
        )
        .bind(JSON.stringify(rows))
        .run();
      return null;
    },

    async end(id: string): Promise<void> {
      await db.prepare('DELETE FROM upkeep WHERE job = ? AND cursor = ?').bind(JOB, id).run();
    },
  };
}

/** Throws StoreUnavailable. */
export type BackupLedger = ReturnType<typeof createD1Backup>;

/** @returns undefined when it is invalid. */
function readCursor(cursor: string, length: number): (string | number)[] | undefined {
  try {
    const key = Key.parse(JSON.parse(cursor));
    return key.length === length ? key : undefined;
  } catch {
    return undefined;
  }
}

/** As many as fit one answer; at least one. */
function within(rows: readonly BackupRow[]): BackupRow[] {
  let bytes = 0;
  const first = rows.findIndex(
    (row, at) => (bytes += JSON.stringify(row).length) > BACKUP_PAGE_BYTES && at > 0,
  );
  return rows.slice(0, first === -1 ? undefined : first);
}
