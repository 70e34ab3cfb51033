import type { SqlDatabase, SqlStatement } from '../platform/d1-database.ts';
import type { ChangeNote } from '../registry/ports-rooms.ts';
import {
  FILES,
  hasItem,
  ITEMS,
  numbered,
  OF_TENANT,
  OTHERS_EXPERIMENTS,
  OUTSIDE,
  OWN,
  STANDING,
  USED,
  WHOLE_YET,
  WITH_CHAIN,
} from './item-rows.ts';
import type { Erasure } from './ports.ts';

/** Stands in others' chains in the place of what was erased; such versions are never served. */
const ERASED = { name: 'erased', owner: 'erased', digest: '0'.repeat(64) };

/** Ids of earlier ones of the same target that have not ended. */
const OLD = `SELECT o.id FROM erasures o JOIN erasures me ON me.id = ?1
  WHERE o.kind = me.kind AND o.target = me.target AND o.owner = me.owner AND o.id <> ?1 AND o.step <> 'planned'`;

/** Versions `v` that stay and have one in their chain that goes, in use or not. */
const IN_CHAIN = `${WITH_CHAIN} AND NOT ${hasItem('v')} AND EXISTS (SELECT 1 FROM json_each(v.chain) c
  WHERE c.value ->> 'digest' = own.digest AND c.value ->> 'name' = own.name)`;

/** The entry `c` of a chain is one that goes. */
const GOES = `EXISTS (SELECT 1 FROM ${ITEMS} WHERE i.erasure = ?1 AND i.gone = 0
  AND own.name = c.value ->> 'name' AND own.digest = c.value ->> 'digest')`;

/** Behind the row of history, so that no later change is struck off with it. */
const NOTE =
  'INSERT INTO stale_pointers (name, since, change) SELECT name, ?2, (SELECT MAX(id) FROM history) FROM';
const NOTED = 'ON CONFLICT (name) DO UPDATE SET since = excluded.since, change = excluded.change';

/**
 * All that an erasure does at once. Names point at nothing from then on, as removed ones do, but can be restored by
 * nobody; keys are revoked; what others have made on top of it is withdrawn, and says no more what that was.
 */
export function beginning(
  db: SqlDatabase,
  { id, owner, usage }: Erasure,
  { cascade, record, actor, at, why }: ChangeNote & { cascade: boolean; record: boolean },
): SqlStatement[] {
  const run = (sql: string, ...values: (string | number | null)[]) => numbered(db, sql, [id, ...values]);
  const inTheWay = cascade
    ? `EXISTS (SELECT 1 ${STANDING} AND v.owner = ?2)`
    : `EXISTS (SELECT 1 ${STANDING}) OR EXISTS (SELECT 1 ${OUTSIDE}) OR EXISTS (SELECT 1 ${OTHERS_EXPERIMENTS})`;
  const history = run(
    `INSERT INTO history (name, sequence, at, actor, owner, action, why)
     SELECT label, (SELECT MIN(0, COALESCE(MIN(sequence), 0)) - 1 FROM history WHERE name = label), ?3,
       CASE WHEN ${inTheWay} THEN NULL ELSE ?4 END, owner, 'erase', ?5
     FROM (SELECT owner, CASE kind WHEN 'tenant' THEN '**' WHEN 'below' THEN target || '/**' ELSE target END AS label
       FROM erasures WHERE id = ?1)`,
    ...[owner, at, actor, why ?? null],
  );
  return [
    // Whoever is publishing one of them just now finds its place in history taken.
    run(
      `INSERT OR IGNORE INTO history (name, sequence, at, actor, owner, action, from_version)
       SELECT name, sequence + 1, ?2, ?3, owner, 'remove', version FROM names WHERE name IN (${WHOLE_YET})`,
      ...[at, actor],
    ),
    // After those, so that it is the newest row: they will be deleted, and no id may come again.
    ...(record ? [history] : []),
    run(
      `INSERT OR IGNORE INTO erasure_items (erasure, name, version, gone)
       SELECT ?1, name, version, gone FROM erasure_items WHERE erasure IN (${OLD})`,
    ),
    run(
      `INSERT OR IGNORE INTO erasure_files (erasure, digest, origins)
       SELECT ?1, digest, origins FROM erasure_files WHERE erasure IN (${OLD})`,
    ),
    run(`DELETE FROM erasure_items WHERE erasure IN (${OLD})`),
    run(`DELETE FROM erasure_files WHERE erasure IN (${OLD})`),
    run(`DELETE FROM erasures WHERE id IN (${OLD})`),
    run(
      `INSERT INTO erasure_files (erasure, digest) SELECT ?1, digest FROM (${FILES}) WHERE true
       ON CONFLICT (erasure, digest) DO UPDATE SET origins = NULL`,
      owner,
    ),
    run(
      `${NOTE} (${WHOLE_YET}
         UNION SELECT n.name FROM names n WHERE (n.name, n.version) IN (SELECT v.name, v.version ${IN_CHAIN})
         UNION SELECT e.name FROM experiments e WHERE e.started_at IS NOT NULL AND e.id IN (SELECT u.experiment ${USED})
         UNION SELECT e.name FROM experiments e JOIN experiment_versions u ON u.experiment = e.id
           WHERE e.started_at IS NOT NULL AND (u.name, u.version) IN (SELECT v.name, v.version ${IN_CHAIN}))
       WHERE true ${NOTED}`,
      at,
    ),
    run(
      `UPDATE versions SET withdrawn_at = COALESCE(withdrawn_at, ?2),
         parent = CASE WHEN substr(parent, 1, instr(parent, '@') - 1) IN (SELECT own.name ${OWN}) THEN NULL ELSE parent END,
         chain = (SELECT json_group_array(json(CASE WHEN ${GOES}
             THEN json_set(c.value, '$.name', ?3, '$.owner', ?4, '$.digest', ?5) ELSE c.value END))
           FROM json_each(versions.chain) c)
       WHERE (name, version) IN (SELECT v.name, v.version ${IN_CHAIN})`,
      ...[at, ERASED.name, ERASED.owner, ERASED.digest],
    ),
    run(
      `DELETE FROM chain_members WHERE (digest, name, version) IN (
         SELECT m.digest, m.name, m.version ${WITH_CHAIN} AND NOT ${hasItem('v')}
           AND NOT EXISTS (SELECT 1 FROM json_each(v.chain) c WHERE c.value ->> 'digest' = m.digest))`,
    ),
    run(
      `UPDATE versions SET removed_at = 0, removal = NULL WHERE (name, version) IN (SELECT own.name, own.version ${OWN})`,
    ),
    run(`DELETE FROM pins WHERE name IN (${WHOLE_YET})`),
    run(
      `UPDATE names SET version = NULL, alias = NULL, about = NULL, strict = 0, sequence = sequence + 1, removed_at = 0,
         removal = NULL, removed_version = NULL, removed_alias = NULL WHERE name IN (${WHOLE_YET})`,
    ),
    run(
      `UPDATE keys SET revoked_at = COALESCE(revoked_at, ?3) WHERE tenant = ?2 AND ${OF_TENANT}`,
      ...[owner, at],
    ),
    run(
      "UPDATE erasures SET step = 'keys', place = '', touched_at = ?2, usage = ?3 WHERE id = ?1",
      ...[at, usage ? 1 : 0],
    ),
  ];
}
