/** Rows of names and versions in D1, and the pointers made from them. */
import { z } from 'zod';
import { ManifestChainEntry } from '../../protocol/adapter-manifest.ts';
import { AboutName, NOTHING_SAID } from '../../protocol/admin-api/names.ts';
import { adaptersOf, type Experiment } from '../../protocol/experiment.ts';
import { pinOf } from '../../protocol/identity.ts';
import { StoredEvaluation } from '../../protocol/origin-wire.ts';
import { TrainingCard } from '../../protocol/training.ts';
import { readColumn, type SqlDatabase, readable, type SqlStatement } from '../platform/d1-database.ts';
import type {
  ChangeAction,
  DescribedVersion,
  HistoryRow,
  NameRow,
  UsableName,
  VersionRow,
  Pointer,
  StalePointer,
  Registry,
} from './ports.ts';
import { toDocument } from '../experiments/d1-experiment-rows.ts';

/** A row of `versions`, without its training card. */
export interface VersionRecord {
  name: string;
  version: number;
  digest: string;
  owner: string;
  chain: string;
  chain_id: string;
  parent: string | null;
  base_id: string;
  base_digest: string;
  bytes: number;
  rank: number;
  rank_sum: number;
  created_at: number;
  created_by: string;
  proof: string | null;
  evaluation: string | null;
  retired_at: number | null;
  withdrawn_at: number | null;
  removed_at: number | null;
}

/** The columns of {@link VersionRecord}. A page of names is read with their versions: cards would be megabytes of it. */
export const VERSION = `v.name, v.version, v.digest, v.owner, v.chain, v.chain_id, v.parent, v.base_id, v.base_digest, v.bytes,
  v.rank, v.rank_sum, v.created_at, v.created_by, v.proof, v.evaluation, v.retired_at, v.withdrawn_at, v.removed_at`;

/** A row of `names`. */
export type NameRecord = Omit<NameRow, 'strict' | 'about' | 'removedAt'> & {
  strict: number;
  about: string | null;
  removed_at: number | null;
};
export const NAME =
  'SELECT name, owner, version, latest, sequence, alias, strict, about, removed_at FROM names';

/** `v` is in use and built on `own`: its chain contains that digest and name. */
export const STANDS_ON = `v.retired_at IS NULL AND v.removed_at IS NULL AND EXISTS (
  SELECT 1 FROM json_each(v.chain) below WHERE below.key < json_array_length(v.chain) - 1
    AND below.value ->> 'digest' = own.digest AND below.value ->> 'name' = own.name)`;

/** A version, with the name that points to it. */
export type UsableRecord = VersionRecord & { own_name: string; name_owner: string };

/** A row of `names` with its live version, whose fields are null if there is none. */
type NameAndLive = Omit<VersionRecord, 'version'> & {
  version: number | null;
  own_name: string;
  name_owner: string;
  /** From the name's row. */
  live: number | null;
  latest: number;
  sequence: number;
  alias: string | null;
  strict: number;
  about: string | null;
  name_removed_at: number | null;
};

/** A row of `history`. */
export interface HistoryRecord {
  id: number;
  name: string;
  sequence: number;
  at: number;
  actor: string;
  owner: string;
  action: ChangeAction;
  from_version: number | null;
  to_version: number | null;
  target: string | null;
  why: string | null;
}

/** `v` is in use, and its chain contains the adapter `m.digest` below its own, under the bound name. */
export const DEPENDS = `v.retired_at IS NULL AND v.removed_at IS NULL AND EXISTS (
  SELECT 1 FROM json_each(v.chain) member
  WHERE member.key < json_array_length(v.chain) - 1
    AND json_extract(member.value, '$.digest') = m.digest
    AND json_extract(member.value, '$.name') = ?)`;

export const toJson = (value: object | null): string | null =>
  value === null ? null : JSON.stringify(value);

const column = <T>(schema: z.ZodType<T>, text: string, { name, version }: VersionRecord, column: string): T =>
  readColumn(schema, text, { table: 'versions', id: `${name}@${version}`, column });

/** @throws DamagedRow */
export const toVersion = (record: VersionRecord): VersionRow => ({
  name: record.name,
  version: record.version,
  digest: record.digest,
  owner: record.owner,
  chain: column(z.array(ManifestChainEntry), record.chain, record, 'chain'),
  chainId: record.chain_id,
  parent: record.parent,
  base: { id: record.base_id, digest: record.base_digest },
  bytes: record.bytes,
  rank: record.rank,
  rankSum: record.rank_sum,
  createdAt: record.created_at,
  createdBy: record.created_by,
  proof: record.proof,
  evaluation:
    record.evaluation === null ? null : column(StoredEvaluation, record.evaluation, record, 'evaluation'),
  // Callers treat removed versions like retired ones.
  retiredAt: record.retired_at ?? record.removed_at,
  withdrawnAt: record.withdrawn_at,
});

/** @throws DamagedRow */
export const toDescribed = (record: VersionRecord & { training: string | null }): DescribedVersion => ({
  ...toVersion(record),
  training: record.training === null ? null : column(TrainingCard, record.training, record, 'training'),
});

export const toHistory = ({ from_version, to_version, ...rest }: HistoryRecord): HistoryRow => ({
  ...rest,
  from: from_version,
  to: to_version,
});

/** @throws DamagedRow */
export const toName = ({ removed_at, ...record }: NameRecord): NameRow => ({
  ...record,
  strict: record.strict === 1,
  about:
    record.about === null
      ? NOTHING_SAID
      : readColumn(AboutName, record.about, { table: 'names', id: record.name, column: 'about' }),
  removedAt: removed_at,
});

const toOwnName = (record: NameAndLive): NameRow =>
  toName({
    name: record.own_name,
    owner: record.name_owner,
    version: record.live,
    latest: record.latest,
    sequence: record.sequence,
    alias: record.alias,
    strict: record.strict,
    about: record.about,
    removed_at: record.name_removed_at,
  });

export const toUsable = (record: UsableRecord): UsableName => ({
  name: record.own_name,
  owner: record.name_owner,
  version: toVersion(record),
});

function toPointer(record: NameAndLive): Pointer {
  if (record.alias !== null) return { kind: 'alias', target: record.alias };
  if (record.version !== null)
    return {
      kind: 'version',
      row: toVersion({ ...record, version: record.version }),
      strict: record.strict === 1,
    };
  return { kind: record.latest === 0 || record.name_removed_at !== null ? 'gone' : 'none' };
}

/** With its latest experiment that was ever live; null fields if there is none. */
type PointerRecord = NameAndLive & {
  experiment_id: string | null;
  experiment_owner: string;
  experiment_document: string;
  /** The change that KV does not have yet. */
  unwritten: number | null;
};

const NAMES = `SELECT ${VERSION}, n.name AS own_name, n.owner AS name_owner, n.version AS live, n.latest, n.sequence,
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

/** The source of what is in KV. */
export function createD1Pointers(db: SqlDatabase): Pick<Registry, 'pointer' | 'pointerToWrite' | 'pointers'> {
  /** Versions never change, so a second read returns what the first one referred to. */
  async function withExperiments(names: readonly ReadName[]): Promise<Pointer[]> {
    const adapters = names.map(({ document }) => (document === null ? [] : adaptersOf(document)));
    const versions = await versionsOf(adapters.flat());
    return names.map(({ record, pointer, document }, i) => {
      if (pointer.kind !== 'version' || record.experiment_id === null || document === null) return pointer;
      const rows = (adapters[i] ?? []).flatMap((adapter) => versions.get(adapter) ?? []);
      // If its adapters are gone for good, KV needs nothing.
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
        `SELECT ${VERSION} FROM versions v WHERE (v.name, v.version) IN (
           SELECT json_extract(value, '$.name'), json_extract(value, '$.version') FROM json_each(?))`,
      )
      .bind(JSON.stringify(adapters.map(pinOf)))
      .all<VersionRecord>();
    return new Map(readable(results, toVersion).map((row) => [`${row.name}@${row.version}`, row]));
  }

  /** A name may be erased after it was noted: its note ends too, or it would be written for ever. */
  async function noteOfNone(name: string): Promise<number | null> {
    const note = await db
      .prepare('SELECT change FROM stale_pointers WHERE name = ?')
      .bind(name)
      .first<{ change: number }>();
    return note?.change ?? null;
  }

  async function read(name: string): Promise<{ pointer: Pointer; record: PointerRecord | null }> {
    const record = await db.prepare(`${NAMES} WHERE n.name = ?`).bind(name).first<PointerRecord>();
    const [pointer] = record === null ? [] : await withExperiments([readName(record)]);
    return { pointer: pointer ?? { kind: 'none' }, record };
  }

  return {
    async pointerToWrite(name) {
      const { pointer, record } = await read(name);
      if (record === null) return { pointer, change: await noteOfNone(name) };
      // A version was staged before KV was told that the name serves nothing any more.
      const isUntold = pointer.kind === 'none' && record.unwritten !== null;
      return { pointer: isUntold ? { kind: 'gone' } : pointer, change: record.unwritten };
    },
    pointer: async (name) => (await read(name)).pointer,

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

/** Id of the change that this transaction makes: its row of history is the newest, and ids are never used again. */
export const THIS_CHANGE = '(SELECT MAX(id) FROM history)';

/**
 * Notes that KV needs an update of the name. Must come after the change's history row.
 * @param at unix ms.
 */
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
