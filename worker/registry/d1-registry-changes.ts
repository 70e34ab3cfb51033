/** What changes of a name write: first its line of history, and the name as it is from then on. */
import { NOTHING_SAID, sameJson, err, ok, type Result } from '../../protocol/index.ts';
import { type SqlDatabase, type SqlStatement, isUniqueViolation } from '../platform/d1-database.ts';
import { notePointer } from './d1-registry-pointers.ts';
import { proofToJson, toJson } from './d1-registry-rows.ts';
import { notFreeFor } from './d1-rooms.ts';
import { isInUse, withdrawals } from './d1-withdrawals.ts';
import type { ChangeNote } from './ports-rooms.ts';
import type { ChangeAction, NameRow, Conflict, Registry, VersionRow } from './ports.ts';

/** What a change leaves in history. */
export interface Entry extends ChangeNote {
  action: ChangeAction;
  from: number | null;
  to: number | null;
  target?: string | null;
}

/** What must not be true when the change is made, for what the sequence number of one name does not guard. */
export interface Guard {
  sql: string;
  values: (string | number | null)[];
}

/** Where a guard holds the actor is NULL, which the column does not take: the whole transaction fails. */
export const historyRow = (
  db: SqlDatabase,
  name: Pick<NameRow, 'name' | 'owner' | 'sequence'>,
  entry: Entry,
  guards: readonly Guard[] = [],
): SqlStatement =>
  db
    .prepare(
      // eslint-disable-next-line no-restricted-syntax -- guards are constants of this room; the values are bound
      `INSERT INTO history (name, sequence, at, actor, owner, action, from_version, to_version, target, why)
       VALUES (?, ?, ?, CASE WHEN ${guards.map(({ sql }) => sql).join(' OR ') || '0'} THEN NULL ELSE ? END, ?, ?, ?, ?, ?, ?)`,
    )
    .bind(
      name.name,
      name.sequence,
      entry.at,
      ...guards.flatMap(({ values }) => values),
      entry.actor,
      name.owner,
      entry.action,
      entry.from,
      entry.to,
      entry.target ?? null,
      entry.why ?? null,
    );

/** What was removed of a name stays noted only while the name is. */
export const nameRow = (db: SqlDatabase, name: NameRow): SqlStatement =>
  db
    .prepare(
      `INSERT INTO names (name, owner, version, latest, sequence, alias, strict, about)
       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9)
       ON CONFLICT (name) DO UPDATE SET version = excluded.version, latest = excluded.latest,
         sequence = excluded.sequence, alias = excluded.alias, strict = excluded.strict,
         about = excluded.about,
         removed_at = CASE WHEN ?8 THEN removed_at END, removal = CASE WHEN ?8 THEN removal END,
         removed_version = CASE WHEN ?8 THEN removed_version END,
         removed_alias = CASE WHEN ?8 THEN removed_alias END`,
    )
    .bind(
      name.name,
      name.owner,
      name.version,
      name.latest,
      name.sequence,
      name.alias,
      name.strict ? 1 : 0,
      name.removedAt === null ? 0 : 1,
      sameJson(name.about, NOTHING_SAID) ? null : JSON.stringify(name.about),
    );

/** A name that did not exist when it was read is not free any more, or the key that takes it has been revoked. */
const taken = (name: string, claimant: string | null | undefined, actor: string): Guard[] =>
  claimant == null
    ? []
    : [
        notFreeFor(claimant, name),
        { sql: 'EXISTS (SELECT 1 FROM keys k WHERE k.id = ? AND k.revoked_at IS NOT NULL)', values: [actor] },
      ];

/** An erasure takes a name's history with it, so that its next sequence number is free again. */
export const isGone = ({ name, sequence }: Pick<NameRow, 'name' | 'sequence'>): Guard => ({
  sql: 'NOT EXISTS (SELECT 1 FROM names c WHERE c.name = ? AND c.sequence = ?)',
  values: [name, sequence],
});

/**
 * The registry's writes. Each is one transaction that begins with its row of history, and notes the name where what it
 * points at changes: whoever dies before KV is told leaves that to the schedule.
 */
export function createD1Changes(
  db: SqlDatabase,
  readName: Registry['name'],
): Pick<Registry, 'publish' | 'flip' | 'retire' | 'alias' | 'setStrict' | 'setAbout' | 'repaired'> {
  /** Two changes that read the same state want the same sequence number: one of them violates the key. */
  async function change(
    next: NameRow,
    entry: Entry,
    more: SqlStatement[] = [],
    guards: readonly Guard[] = [],
  ): Promise<Result<NameRow, Conflict>> {
    const sequence = next.sequence - 1;
    const all = sequence === 0 ? guards : [...guards, isGone({ name: next.name, sequence })];
    try {
      await db.batch([historyRow(db, next, entry, all), nameRow(db, next), ...more]);
      return ok(next);
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      return err({ kind: 'conflict', name: await readName(next.name) });
    }
  }

  return {
    publish({ row, stage, before, action = 'publish', why, claimant, sentBy }) {
      const from = before?.version ?? null;
      const next: NameRow = {
        name: row.name,
        owner: before?.owner ?? row.owner,
        version: stage ? from : row.version,
        latest: row.version,
        sequence: (before?.sequence ?? 0) + 1,
        alias: null,
        strict: before?.strict ?? false,
        about: before?.about ?? NOTHING_SAID,
        removedAt: null,
      };
      const entry: Entry = {
        actor: row.createdBy,
        at: row.createdAt,
        action: stage ? 'stage' : action,
        from,
        to: row.version,
        why: why ?? null,
      };
      const guards = [
        standsOnRetired(row),
        ...taken(row.name, before === null ? claimant : null, row.createdBy),
        ...(sentBy == null ? [] : [isReleased(row.digest, sentBy)]),
      ];
      const noted = stage ? [] : [notePointer(db, row.name, row.createdAt)];
      return change(next, entry, [...insertVersion(db, row), ...noted], guards);
    },

    flip: ({ before, to, action = 'promote', ...note }) =>
      change(
        { ...before, version: to, sequence: before.sequence + 1 },
        { ...note, action, from: before.version, to },
        [notePointer(db, before.name, note.at)],
      ),

    retire: ({ before, version, digest, ...note }) =>
      change(
        { ...before, sequence: before.sequence + 1 },
        { ...note, action: 'retire', from: before.version, to: version },
        [
          db
            .prepare(
              'UPDATE versions SET retired_at = ? WHERE name = ? AND version = ? AND retired_at IS NULL',
            )
            .bind(note.at, before.name, version),
          ...withdrawals(db, { ...{ name: before.name, owner: before.owner }, version, digest }, note.at),
        ],
        [isInUse({ name: before.name, owner: before.owner, version })],
      ),

    alias: ({ before, name, owner, target, claimant, ...note }) =>
      change(
        {
          name,
          owner: before?.owner ?? owner,
          version: null,
          latest: 0,
          sequence: (before?.sequence ?? 0) + 1,
          alias: target,
          strict: false,
          about: before?.about ?? NOTHING_SAID,
          removedAt: null,
        },
        {
          ...note,
          action: target === null ? 'unalias' : 'alias',
          from: null,
          to: null,
          target: target ?? before?.alias ?? null,
        },
        [notePointer(db, name, note.at)],
        [
          ...taken(name, before === null ? claimant : null, note.actor),
          ...(target === null ? [] : [isRemoved(target)]),
        ],
      ),

    setStrict: ({ before, strict, ...note }) =>
      change(
        { ...before, strict, sequence: before.sequence + 1 },
        { ...note, action: strict ? 'strict' : 'unstrict', from: before.version, to: null },
        [notePointer(db, before.name, note.at)],
      ),

    setAbout: ({ before, about, ...note }) =>
      change(
        { ...before, about, sequence: before.sequence + 1 },
        { ...note, action: 'edit', from: before.version, to: null },
      ),

    repaired: ({ before, ...note }) =>
      change(
        { ...before, sequence: before.sequence + 1 },
        { ...note, action: 'repair', from: before.version, to: before.version, target: before.alias },
      ),
  };
}

/** An adapter that this one was made on top of was retired or removed while it was being tried. */
const standsOnRetired = ({ chain }: VersionRow): Guard => ({
  sql: `EXISTS (
    SELECT 1 FROM json_each(?) below WHERE NOT EXISTS (
      SELECT 1 FROM versions v WHERE v.name = json_extract(below.value, '$.name')
        AND v.digest = json_extract(below.value, '$.digest') AND v.retired_at IS NULL AND v.removed_at IS NULL))`,
  values: [JSON.stringify(chain.slice(0, -1))],
});

/** An erasure of the tenant, or of another name with this file, has let go of it meanwhile. */
const isReleased = (digest: string, tenant: string): Guard => ({
  sql: 'NOT EXISTS (SELECT 1 FROM blob_holders h WHERE h.digest = ? AND h.tenant = ?)',
  values: [digest, tenant],
});

const isRemoved = (name: string): Guard => ({
  sql: 'EXISTS (SELECT 1 FROM names r WHERE r.name = ? AND r.removed_at IS NOT NULL)',
  values: [name],
});

function insertVersion(db: SqlDatabase, row: VersionRow): SqlStatement[] {
  const chain = JSON.stringify(row.chain);
  return [
    db
      .prepare(
        `INSERT INTO versions (name, version, digest, owner, chain, chain_id, parent, base_id, base_digest, bytes,
          rank, rank_sum, created_at, created_by, proof, evaluation, retired_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .bind(
        row.name,
        row.version,
        row.digest,
        row.owner,
        chain,
        row.chainId,
        row.parent,
        row.base.id,
        row.base.digest,
        row.bytes,
        row.rank,
        row.rankSum,
        row.createdAt,
        row.createdBy,
        proofToJson(row.proof),
        toJson(row.evaluation),
        row.retiredAt,
      ),
    db
      .prepare(
        `INSERT OR IGNORE INTO chain_members (digest, name, version)
         SELECT json_extract(value, '$.digest'), ?, ? FROM json_each(?)`,
      )
      .bind(row.name, row.version, chain),
    db
      .prepare(
        'UPDATE stored_files SET touched_at = MAX(touched_at, ?), deleting_at = NULL WHERE digest = ? AND collecting_at IS NULL',
      )
      .bind(row.createdAt, row.digest),
  ];
}
