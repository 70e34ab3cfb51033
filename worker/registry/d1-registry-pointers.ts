import { adaptersOf, pinOf, type Experiment } from '../../protocol/index.ts';
import { toDocument } from '../experiments/d1-experiment-rows.ts';
import { type SqlDatabase, readable, type SqlStatement } from '../platform/d1-database.ts';
import { toOwnName, toPointer, toVersion, type NameAndLive, type VersionRecord } from './d1-registry-rows.ts';
import type { StalePointer } from './ports-rooms.ts';
import type { Pointer, Registry, VersionRow } from './ports.ts';

/** With the latest experiment that was ever live; null fields when there is none. */
type PointerRecord = NameAndLive & {
  experiment_id: string | null;
  experiment_owner: string;
  experiment_document: string;
  /** That KV is still to be told of. */
  unwritten: number | null;
};

const NAMES = `SELECT v.*, n.name AS own_name, n.owner AS name_owner, n.version AS live, n.latest, n.sequence,
    n.alias, n.strict, n.about, n.removed_at AS name_removed_at, e.id AS experiment_id, e.owner AS experiment_owner, e.document AS experiment_document,
    s.change AS unwritten
  FROM names n LEFT JOIN versions v ON v.name = n.name AND v.version = n.version
  LEFT JOIN stale_pointers s ON s.name = n.name
  LEFT JOIN experiments e ON e.id = (
    SELECT x.id FROM experiments x WHERE x.name = n.name AND x.started_at IS NOT NULL
    ORDER BY x.status = 'archived', x.created_at DESC, x.id DESC LIMIT 1)`;

interface ReadName {
  record: PointerRecord;
  pointer: Pointer;
  document: Experiment | null;
}

/** @throws DamagedRow */
const readName = (record: PointerRecord): ReadName => ({
  record,
  pointer: toPointer(record),
  document:
    record.experiment_id === null ? null : toDocument(record.experiment_document, record.experiment_id),
});

/** What KV is derived from. */
export function createD1Pointers(db: SqlDatabase): Pick<Registry, 'pointer' | 'pointerToWrite' | 'pointers'> {
  /** Versions never change, so that a second read sees what the first one meant. */
  async function withExperiments(names: readonly ReadName[]): Promise<Pointer[]> {
    const adapters = names.map(({ document }) => (document === null ? [] : adaptersOf(document)));
    const versions = await versionsOf(adapters.flat());
    return names.map(({ record, pointer, document }, i) => {
      if (pointer.kind !== 'version' || record.experiment_id === null || document === null) return pointer;
      const rows = (adapters[i] ?? []).flatMap((adapter) => versions.get(adapter) ?? []);
      // Of one whose adapters are gone for good nothing is left to be told.
      if (rows.length < (adapters[i] ?? []).length) return pointer;
      return {
        ...pointer,
        experiment: {
          id: record.experiment_id,
          owner: record.experiment_owner,
          document,
          versions: [...new Set(rows)],
        },
      };
    });
  }

  /** By `name@version`. */
  async function versionsOf(adapters: readonly string[]): Promise<Map<string, VersionRow>> {
    if (adapters.length === 0) return new Map();
    const { results } = await db
      .prepare(
        `SELECT v.* FROM versions v WHERE (v.name, v.version) IN (
           SELECT json_extract(value, '$.name'), json_extract(value, '$.version') FROM json_each(?))`,
      )
      .bind(JSON.stringify(adapters.map(pinOf)))
      .all<VersionRecord>();
    return new Map(readable(results, toVersion).map((row) => [`${row.name}@${row.version}`, row]));
  }

  async function pointerToWrite(wanted: string): ReturnType<Registry['pointerToWrite']> {
    const record = await db.prepare(`${NAMES} WHERE n.name = ?`).bind(wanted).first<PointerRecord>();
    const [pointer] = record === null ? [] : await withExperiments([readName(record)]);
    return { pointer: pointer ?? { kind: 'none' }, change: record?.unwritten ?? null };
  }

  return {
    pointerToWrite,
    pointer: async (wanted) => (await pointerToWrite(wanted)).pointer,

    async pointers({ cursor, limit }) {
      const { results } = await db
        .prepare(`${NAMES} WHERE n.name > ? ORDER BY n.name LIMIT ?`)
        .bind(cursor ?? '', limit)
        .all<PointerRecord>();
      const names = readable(results, (record) => ({ ...readName(record), name: toOwnName(record) }));
      const pointers = await withExperiments(names);
      return {
        items: names.map(({ name }, i) => ({ name, pointer: pointers[i] as Pointer })),
        cursor: results.length === limit ? (results.at(-1)?.own_name ?? null) : null,
      };
    },
  };
}

/**
 * Id of the change whose transaction this stands in. The newest row of history is never deleted, so that no two changes
 * have the same.
 */
export const THIS_CHANGE = '(SELECT MAX(id) FROM history)';

/** Notes that KV is to be told of a name; stands behind the change's row of history. @param at unix ms. */
export const notePointer = (db: SqlDatabase, name: string, at: number): SqlStatement =>
  db
    .prepare(
      `INSERT INTO stale_pointers (name, since, change) VALUES (?, ?, ${THIS_CHANGE})
       ON CONFLICT (name) DO UPDATE SET since = excluded.since, change = excluded.change`,
    )
    .bind(name, at);

export function createD1StalePointers(db: SqlDatabase): Pick<Registry, 'stalePointers' | 'pointersWritten'> {
  return {
    async stalePointers({ limit, newest }) {
      const { results } = await db
        .prepare(
          newest
            ? 'SELECT name, since, change FROM stale_pointers ORDER BY since DESC, name DESC LIMIT ?'
            : 'SELECT name, since, change FROM stale_pointers ORDER BY since, name LIMIT ?',
        )
        .bind(limit)
        .all<StalePointer>();
      return results;
    },

    async pointersWritten(pointers) {
      if (pointers.length === 0) return;
      await db
        .prepare(
          `DELETE FROM stale_pointers WHERE (name, change) IN (
             SELECT json_extract(value, '$.name'), json_extract(value, '$.change') FROM json_each(?))`,
        )
        .bind(JSON.stringify(pointers))
        .run();
    },
  };
}
