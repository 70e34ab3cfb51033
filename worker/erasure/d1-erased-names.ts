import type { SqlDatabase } from '../platform/d1-database.ts';
import { EXPERIMENTS, NOT_NEWEST, USED, WHOLE } from './item-rows.ts';
import type { ErasedExperiment, ErasedKey, ErasedName, ErasureLedger } from './ports.ts';

type Pages = Pick<
  ErasureLedger,
  'keys' | 'experiments' | 'forgetExperiments' | 'names' | 'forgetNames' | 'others' | 'endAliases'
>;

/** Versions of the list ?1 that nobody has brought back. */
const GOING = `FROM json_each(?1) item CROSS JOIN versions own ON own.name = item.value ->> 'name'
  AND item.value ->> 'version' IN (0, own.version) WHERE own.removed_at = 0`;
/** Names of the list ?1 that go as a whole and were not published anew. */
const GOING_NAMES = `SELECT n.name FROM json_each(?1) item CROSS JOIN names n ON n.name = item.value ->> 'name'
  WHERE item.value ->> 'version' = 0 AND n.removed_at = 0`;
const LISTED = "SELECT value ->> 'name' FROM json_each(?1) WHERE value ->> 'version' = 0";

/** Id of the row of history that the erasure ?2 began with: of a name that was published anew since, what is older goes. */
const BEGUN = `(SELECT MAX(b.id) FROM erasures e JOIN history b ON b.action = 'erase' AND b.owner = e.owner
  AND b.name = CASE e.kind WHEN 'tenant' THEN '**' WHEN 'below' THEN e.target || '/**' ELSE e.target END
  WHERE e.id = ?2)`;

const OF_EXPERIMENTS = ['experiment_versions', 'experiment_looks', 'webhook_messages'].map(
  (table) => `DELETE FROM ${table} WHERE experiment IN (SELECT value FROM json_each(?1))`,
);

/** Names, versions, experiments and keys of an erasure, page by page. */
export function createD1ErasedNames(db: SqlDatabase): Pages {
  return {
    async keys({ owner }, after, limit) {
      const { results } = await db
        .prepare(
          `SELECT id, hash, kind, CASE WHEN limits IS NOT NULL THEN COALESCE(counter, id) END AS counter
           FROM keys WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?`,
        )
        .bind(owner, after, limit)
        .all<ErasedKey>();
      return results;
    },

    async experiments({ id, owner }, limit) {
      const { results } = await db
        .prepare(`SELECT e.id, e.name ${EXPERIMENTS} ORDER BY e.id LIMIT ?3`)
        .bind(id, owner, limit)
        .all<ErasedExperiment>();
      return results;
    },

    async forgetExperiments(_, ids) {
      const list = JSON.stringify(ids);
      await db.batch([
        ...OF_EXPERIMENTS.map((sql) => db.prepare(sql).bind(list)),
        db
          .prepare(
            `DELETE FROM history WHERE ${NOT_NEWEST} AND (name, target) IN (
               SELECT e.name, e.id FROM experiments e WHERE e.id IN (SELECT value FROM json_each(?1)))`,
          )
          .bind(list),
        db.prepare('DELETE FROM experiments WHERE id IN (SELECT value FROM json_each(?1))').bind(list),
      ]);
    },

    async names({ id }, limit) {
      const { results } = await db
        .prepare(
          'SELECT name, version FROM erasure_items WHERE erasure = ? AND gone = 0 ORDER BY name DESC, version LIMIT ?',
        )
        .bind(id, limit)
        .all<ErasedName>();
      return results;
    },

    async forgetNames({ id }, names) {
      const list = JSON.stringify(names);
      const run = (sql: string) => db.prepare(sql).bind(list);
      const [, versions, , , , , gone] = await db.batch([
        run(
          `DELETE FROM chain_members WHERE (digest, name, version) IN (
             SELECT c.value ->> 'digest', own.name, own.version
             FROM json_each(?1) item CROSS JOIN versions own ON own.name = item.value ->> 'name'
               AND item.value ->> 'version' IN (0, own.version)
             JOIN json_each(own.chain) c WHERE own.removed_at = 0)`,
        ),
        run(
          `DELETE FROM versions WHERE (name, version) IN (SELECT own.name, own.version ${GOING}) RETURNING version`,
        ),
        run(`DELETE FROM history WHERE name IN (${GOING_NAMES}) AND action <> 'erase' AND ${NOT_NEWEST}`),
        db
          .prepare(
            `DELETE FROM history WHERE name IN (${LISTED}) AND action <> 'erase' AND sequence > 0 AND id < ${BEGUN}`,
          )
          .bind(list, id),
        run(`DELETE FROM stale_pointers WHERE name IN (${GOING_NAMES})`),
        run(`DELETE FROM drops WHERE name IN (${LISTED})`),
        run(`DELETE FROM names WHERE name IN (${GOING_NAMES}) RETURNING latest`),
        db
          .prepare(
            `UPDATE erasure_items SET gone = 1 WHERE erasure = ?2 AND (name, version) IN (
               SELECT value ->> 'name', value ->> 'version' FROM json_each(?1))`,
          )
          .bind(list, id),
      ]);
      const latest = (gone?.results ?? []) as { latest: number }[];
      const aliases = latest.filter((row) => row.latest === 0).length;
      return { names: latest.length - aliases, aliases, versions: versions?.results.length ?? 0 };
    },

    async others({ id, owner }, after, limit) {
      const [experiments, aliases] = await db.batch([
        db
          .prepare(
            `SELECT e.id, e.name FROM experiments e WHERE e.owner <> ?2 AND e.id > ?3
               AND e.id IN (SELECT u.experiment ${USED}) ORDER BY e.id LIMIT ?4`,
          )
          .bind(id, owner, after, limit),
        db
          .prepare(
            `SELECT a.name FROM names a WHERE a.owner <> ?2 AND a.alias IN (${WHOLE}) ORDER BY a.name LIMIT ?3`,
          )
          .bind(id, owner, limit),
      ]);
      return {
        experiments: (experiments?.results ?? []) as ErasedExperiment[],
        aliases: ((aliases?.results ?? []) as { name: string }[]).map(({ name }) => name),
      };
    },

    async endAliases(names) {
      await db
        .prepare('UPDATE names SET alias = NULL WHERE name IN (SELECT value FROM json_each(?))')
        .bind(JSON.stringify(names))
        .run();
    },
  };
}
