/** Changes of names in D1: each inserts its history row first, then updates the name. */
import { BELOW, belowValues, NEAREST, nearestValues, notFreeFor } from './d1-claim-rows.ts';
import type { RoomView } from '../../protocol/admin-api/rooms.ts';
import { NOTHING_SAID } from '../../protocol/admin-api/names.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { sameJson } from '../../protocol/identity.ts';
import { type SqlDatabase, type SqlStatement, isUniqueViolation, mayAct } from '../platform/d1-database.ts';
import { BOOTSTRAP_KEY_ID } from '../access/ports.ts';
import { notePointer, THIS_CHANGE, toJson, DEPENDS } from './d1-registry-rows.ts';
import {
  type ChangeNote,
  type ChangeAction,
  type NameRow,
  type PageUpload,
  type Conflict,
  type Registry,
  type VersionRow,
  MAX_OWNERS_BELOW,
  type Claim,
  type Rooms,
  type Stopped,
} from './ports.ts';

/** What a change records in history. */
export interface Entry extends ChangeNote {
  action: ChangeAction;
  from: number | null;
  to: number | null;
  target?: string | null;
}

/**
 * A condition that must be false when the change is made, for what one name's sequence number does not
 * protect.
 */
export interface Guard {
  sql: string;
  values: (string | number | null)[];
}

/** If a guard is true, the actor is NULL, which the column rejects: the whole transaction fails. */
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

/** The columns about the removal are kept only while the name is removed. */
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

/** True if the key has been revoked, or erased with its tenant. */
const mayNotAct = (actor: string): Guard => ({ sql: `NOT ${mayAct('?')}`, values: [actor, actor] });

/** True if a name that did not exist when it was read is no longer free, or the creating key may not act. */
const taken = (name: string, claimant: string | null | undefined, actor: string): Guard[] =>
  claimant == null ? [] : [notFreeFor(claimant, name), mayNotAct(actor)];

/** An erasure deletes a name's history, so its next sequence number would be free again. */
export const isGone = ({ name, sequence }: Pick<NameRow, 'name' | 'sequence'>): Guard => ({
  sql: 'NOT EXISTS (SELECT 1 FROM names c WHERE c.name = ? AND c.sequence = ?)',
  values: [name, sequence],
});

/**
 * The registry's writes. Each is one transaction that starts with its history row. It also notes the name if
 * its pointer changes: if the request dies before KV is updated, the schedule does it.
 */
export function createD1Changes(
  db: SqlDatabase,
  readName: Registry['name'],
): Pick<Registry, 'publish' | 'flip' | 'retire' | 'alias' | 'setStrict' | 'setAbout' | 'repaired'> {
  /** Two changes based on the same state use the same sequence number: one of them violates the key. */
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
    publish({ row, stage, before, action = 'publish', why, claimant, sentBy, upload = null }) {
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
        // An erasure that began meanwhile leaves the name's row for a while: a revoked key would begin it anew.
        ...(before?.removedAt === 0 ? [mayNotAct(row.createdBy)] : []),
        ...(sentBy == null ? [] : [isReleased(row, sentBy)]),
        ...(upload === null
          ? []
          : [
              isSpent(upload, row.digest),
              ...(upload.keyId === BOOTSTRAP_KEY_ID ? [] : [mayNotPublish(upload, row.createdAt)]),
              ...(upload.job === undefined ? [] : [jobHasEnded(upload.job)]),
            ]),
      ];
      const noted = stage ? [] : [notePointer(db, row.name, row.createdAt)];
      const spent = upload === null ? [] : [spend(db, upload, row)];
      return change(next, entry, [...insertVersion(db, row), ...noted, ...spent], guards);
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

/** True if an adapter of the chain was retired or removed during the trial. */
const standsOnRetired = ({ chain }: VersionRow): Guard => ({
  sql: `EXISTS (
    SELECT 1 FROM json_each(?) below WHERE NOT EXISTS (
      SELECT 1 FROM versions v WHERE v.name = json_extract(below.value, '$.name')
        AND v.digest = json_extract(below.value, '$.digest') AND v.retired_at IS NULL AND v.removed_at IS NULL))`,
  values: [JSON.stringify(chain.slice(0, -1))],
});

/**
 * True if an erasure of the tenant, or of another name with this file, has released it in the meantime. If it was sent
 * again since, its proof is missing.
 */
const isReleased = ({ digest, proof }: VersionRow, tenant: string): Guard => ({
  sql: `(NOT EXISTS (SELECT 1 FROM blob_holders h WHERE h.digest = ? AND h.tenant = ?) OR (? IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM stored_parts p WHERE p.digest = ? AND p.sha256 = ? AND p.collecting_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
      WHERE m.digest = ? AND m.below = 0 AND v.proof = ?)))`,
  values: [digest, tenant, proof, digest, proof, digest, proof],
});

/** True if the page's upload has become a version already, or is not there. */
const isSpent = ({ token }: PageUpload, digest: string): Guard => ({
  sql: `NOT EXISTS (SELECT 1 FROM page_uploads u WHERE u.token = ? AND u.digest = ? AND u.version IS NULL)`,
  values: [token, digest],
});

/** True if the key was revoked, has expired, or has lost the right. Admin keys train too. */
const mayNotPublish = ({ keyId, right = 'publish' }: PageUpload, at: number): Guard => ({
  sql: `NOT EXISTS (SELECT 1 FROM keys k WHERE k.id = ? AND (k.kind = 'api' OR ? = 'train')
    AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?)
    AND json_extract(k.rights, '$.' || ?) = 1)`,
  values: [keyId, right, at, right],
});

/** True if the fine-tuning job was cancelled or erased meanwhile. */
const jobHasEnded = (job: string): Guard => ({
  sql: 'NOT EXISTS (SELECT 1 FROM training_jobs j WHERE j.id = ? AND j.finished_at IS NULL)',
  values: [job],
});

const spend = (
  db: SqlDatabase,
  { token }: PageUpload,
  { digest, version }: Pick<VersionRow, 'digest' | 'version'>,
): SqlStatement =>
  db
    .prepare('UPDATE page_uploads SET version = ? WHERE token = ? AND digest = ?')
    .bind(version, token, digest);

const isRemoved = (name: string): Guard => ({
  sql: 'EXISTS (SELECT 1 FROM names r WHERE r.name = ? AND r.removed_at IS NOT NULL)',
  values: [name],
});

function insertVersion(db: SqlDatabase, row: Parameters<Registry['publish']>[0]['row']): SqlStatement[] {
  const chain = JSON.stringify(row.chain);
  return [
    db
      .prepare(
        `INSERT INTO versions (name, version, digest, owner, chain, chain_id, parent, base_id, base_digest, bytes,
          rank, rank_sum, created_at, created_by, proof, evaluation, retired_at, training)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
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
        row.proof,
        toJson(row.evaluation),
        row.retiredAt,
        toJson(row.training ?? null),
      ),
    db
      .prepare(
        `INSERT OR IGNORE INTO chain_members (digest, below, name, version)
         SELECT value ->> 'digest', key < json_array_length(?3) - 1, ?1, ?2 FROM json_each(?3)`,
      )
      .bind(row.name, row.version, chain),
    // From here on the version lists it.
    ...(row.proof === null
      ? []
      : [db.prepare('DELETE FROM stored_parts WHERE digest = ? AND sha256 = ?').bind(row.digest, row.proof)]),
    db
      .prepare(
        'UPDATE stored_files SET touched_at = MAX(touched_at, ?), deleting_at = NULL WHERE digest = ? AND collecting_at IS NULL',
      )
      .bind(row.createdAt, row.digest),
  ];
}

const CHANGE = `INSERT INTO history (name, sequence, at, actor, owner, action, from_version, to_version, target, why)
  SELECT ?, (SELECT MIN(0, COALESCE(MIN(sequence), 0)) - 1 FROM history WHERE name = ?), ?, ?, `;

export function createD1Rooms(db: SqlDatabase): Rooms {
  /** Records in its current tenant's history that it loses the room, unless that is `but`. */
  const taken = (change: Parameters<Rooms['release']>[0], but: string): SqlStatement =>
    db
      .prepare(
        `${CHANGE} tenant, 'unreserve', NULL, NULL, tenant, ? FROM rooms WHERE name = ? AND tenant <> ?`,
      )
      .bind(change.name, change.name, change.at, change.actor, change.why ?? null, change.name, but);

  const tenantOf = async (name: string): Promise<string | null> =>
    (await db.prepare('SELECT tenant FROM rooms WHERE name = ?').bind(name).first<{ tenant: string }>())
      ?.tenant ?? null;

  return {
    async around(name) {
      const { results } = await db
        .prepare(
          `SELECT 'own' AS place, name AS path, owner, 'name' AS kind FROM names WHERE name = ?
           UNION ALL SELECT 'above', * FROM (${NEAREST})
           UNION ALL SELECT 'below', '', owner, '' FROM (${BELOW} ORDER BY 1 LIMIT ${MAX_OWNERS_BELOW})`,
        )
        .bind(name, ...nearestValues(name), ...belowValues(name))
        .all<{ place: 'own' | 'above' | 'below'; path: string; owner: string; kind: Claim['by'] }>();
      const nearest = results.find(({ place }) => place === 'above');
      return {
        own: results.find(({ place }) => place === 'own')?.owner ?? null,
        above: nearest === undefined ? null : { path: nearest.path, owner: nearest.owner, by: nearest.kind },
        below: results.filter(({ place }) => place === 'below').map(({ owner }) => owner),
      };
    },

    async rooms({ tenant, cursor, limit }) {
      const { results } = await db
        .prepare('SELECT * FROM rooms WHERE name > ? AND (? IS NULL OR tenant = ?) ORDER BY name LIMIT ?')
        .bind(cursor ?? '', tenant, tenant, limit)
        .all<RoomView>();
      return {
        items: results,
        cursor: results.length === limit ? (results.at(-1)?.name ?? null) : null,
      };
    },

    async reserve(change) {
      const { name, tenant, at, actor, why = null } = change;
      const before = await tenantOf(name);
      await db.batch([
        taken(change, tenant),
        db
          .prepare(
            `${CHANGE} ?, 'reserve', NULL, NULL, ?, ?
             WHERE NOT EXISTS (SELECT 1 FROM rooms WHERE name = ? AND tenant = ?)`,
          )
          .bind(name, name, at, actor, tenant, tenant, why, name, tenant),
        db
          .prepare(
            `INSERT INTO rooms (name, tenant, created_at, created_by) VALUES (?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE SET tenant = excluded.tenant, created_at = excluded.created_at,
               created_by = excluded.created_by WHERE tenant <> excluded.tenant`,
          )
          .bind(name, tenant, at, actor),
      ]);
      return before !== tenant;
    },

    async release(change) {
      const before = await tenantOf(change.name);
      // No tenant can have this name.
      await db.batch([taken(change, ''), db.prepare('DELETE FROM rooms WHERE name = ?').bind(change.name)]);
      return before !== null;
    },
  };
}

type Retiring = Pick<VersionRow, 'name' | 'version' | 'digest' | 'owner'>;

/** Versions in use that are built on it; takes digest and name. */
const STANDING = `FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
  WHERE m.digest = ? AND ${DEPENDS}`;

/** Others' versions that stop working when it is retired; takes {@link stoppingValues}. */
const STOPPING = `SELECT v.name, v.version ${STANDING} AND v.owner <> ? AND v.withdrawn_at IS NULL
  AND NOT EXISTS (
    SELECT 1 FROM versions o WHERE o.name = ? AND o.digest = ? AND o.version <> ? AND o.retired_at IS NULL
      AND o.removed_at IS NULL)`;
const stoppingValues = ({ name, version, digest, owner }: Retiring): (string | number)[] => [
  ...[digest, name, owner],
  ...[name, digest, version],
];

/** Experiments that use it, or versions that were withdrawn with its file; takes name, version and digest. */
const CONCERNED = `FROM (SELECT ? AS name, ? AS version UNION ALL
    SELECT m.name, m.version FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
    WHERE m.digest = ? AND v.withdrawn_at IS NOT NULL) c
  CROSS JOIN experiment_versions u ON u.name = c.name AND u.version = c.version
  CROSS JOIN experiments e ON e.id = u.experiment WHERE e.status <> 'archived'`;

/**
 * True if a version in use of the same owner is built on this one, or the owner's experiment uses it. Also
 * checked earlier, but it may change in the meantime.
 */
const isInUse = ({ name, version, owner }: Omit<Retiring, 'digest'>) => ({
  sql: `(EXISTS (
    SELECT 1 FROM versions own JOIN chain_members m ON m.digest = own.digest
    JOIN versions v ON v.name = m.name AND v.version = m.version
    WHERE own.name = ? AND own.version = ? AND v.owner = ? AND ${DEPENDS})
   OR EXISTS (
    SELECT 1 FROM experiment_versions u JOIN experiments e ON e.id = u.experiment
    WHERE u.name = ? AND u.version = ? AND e.owner = ? AND e.status <> 'archived'))`,
  values: [name, version, owner, name, name, version, owner],
});

/**
 * Withdraws others' versions, and notes the pointers that lead to them. Runs after the statement that retires
 * the version.
 */
function withdrawals(db: SqlDatabase, row: Retiring, at: number): SqlStatement[] {
  const { name, version, digest } = row;
  return [
    db
      .prepare(`UPDATE versions SET withdrawn_at = ? WHERE (name, version) IN (${STOPPING})`)
      .bind(at, ...stoppingValues(row)),
    db
      .prepare(
        `INSERT INTO stale_pointers (name, since, change)
         SELECT n.name, ?, ${THIS_CHANGE} FROM chain_members m
         JOIN versions v ON v.name = m.name AND v.version = m.version
         JOIN names n ON n.name = v.name AND n.version = v.version
         WHERE m.digest = ? AND v.withdrawn_at IS NOT NULL
         UNION SELECT e.name, ?, ${THIS_CHANGE} ${CONCERNED} AND e.started_at IS NOT NULL
         ON CONFLICT (name) DO UPDATE SET since = excluded.since, change = excluded.change`,
      )
      .bind(at, digest, at, name, version, digest),
  ];
}

export function createD1Withdrawals(db: SqlDatabase): Pick<Registry, 'dependents' | 'stops'> {
  return {
    async dependents({ name, digest, owner }, limit) {
      const { results } = await db
        .prepare(`SELECT v.name, v.version ${STANDING} AND v.owner = ? ORDER BY v.name, v.version LIMIT ?`)
        .bind(digest, name, owner, limit)
        .all<{ name: string; version: number }>();
      return results;
    },

    async stops(row) {
      const { name, version } = row;
      const values = stoppingValues(row);
      const stopped = await db
        .prepare(
          `SELECT (SELECT COUNT(*) FROM (${STOPPING})) AS versions,
             (SELECT COUNT(DISTINCT e.id) FROM experiment_versions u JOIN experiments e ON e.id = u.experiment
              WHERE e.status <> 'archived'
                AND ((u.name = ? AND u.version = ?) OR (u.name, u.version) IN (${STOPPING}))) AS experiments`,
        )
        .bind(...values, name, version, ...values)
        .first<Stopped>();
      return stopped ?? { versions: 0, experiments: 0 };
    },
  };
}
