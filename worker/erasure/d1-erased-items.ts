/**
 * What an erasure deletes from D1, page by page: names, files, traces. In the statements ?1 is its id, ?2 the
 * owner.
 */
import { listRecorded } from '../blobs/d1-blob-rows.ts';
import { DELETER_GONE_MS } from '../blobs/limits.ts';
import { KEPT_COUNTERS } from './limits.ts';
import { gaveRow, type SqlDatabase, type SqlStatement } from '../platform/d1-database.ts';
import { STANDS_ON } from '../registry/d1-registry-rows.ts';
import type { EraseCounts } from '../../protocol/admin-api/erasures.ts';
import {
  type Erasure,
  type ErasedExperiment,
  type ErasedKey,
  type ErasedName,
  type FileAtOrigins,
  untilOf,
} from './ports.ts';
import { z } from 'zod';

/** Binds only the values whose numbers the statement has; D1 accepts no more. */
export function numbered(
  db: SqlDatabase,
  sql: string,
  values: readonly (string | number | null)[],
): SqlStatement {
  const most = Math.max(0, ...[...sql.matchAll(/\?(\d+)/g)].map(([, number]) => Number(number)));
  return db.prepare(sql).bind(...values.slice(0, most));
}

/**
 * The row of `versions`, or of a table with the same name and version columns, is erased. What an earlier erasure that was
 * taken over has deleted is another row now, if there is one.
 */
export const hasItem = (row: string): string =>
  `EXISTS (SELECT 1 FROM erasure_items x WHERE x.erasure = ?1 AND x.name = ${row}.name AND x.version IN (0, ${row}.version)
    AND x.gone = 0)`;

/** Names that are erased as a whole … */
export const WHOLE = 'SELECT name FROM erasure_items WHERE erasure = ?1 AND version = 0';
/** The name `a` is an alias of one of them, or would be again if it was restored. */
export const STANDS_FOR = `a.name IN (SELECT s.name FROM names s WHERE s.alias IN (${WHOLE})
  UNION ALL SELECT s.name FROM names s WHERE s.removed_alias IN (${WHOLE}) AND s.removal IS NOT NULL)`;
/** … and those of them not erased yet. */
export const WHOLE_YET = `${WHOLE} AND gone = 0`;

/** Versions `own` not erased yet; `i` has their item. */
export const ITEMS = `erasure_items i CROSS JOIN versions own ON own.name = i.name AND i.version IN (0, own.version)`;
export const OWN = `FROM ${ITEMS} WHERE i.erasure = ?1 AND i.gone = 0`;

/** Versions `v` with `own` in their chain, by digest. */
export const WITH_CHAIN = `FROM ${ITEMS} JOIN chain_members m ON m.digest = own.digest
  JOIN versions v ON v.name = m.name AND v.version = m.version WHERE i.erasure = ?1 AND i.gone = 0`;

/** Experiments `u` that use what is erased. */
export const USED = `FROM erasure_items i CROSS JOIN experiment_versions u ON u.name = i.name AND i.version IN (0, u.version)
  WHERE i.erasure = ?1`;

export const OF_TENANT = "EXISTS (SELECT 1 FROM erasures t WHERE t.id = ?1 AND t.kind = 'tenant')";

/** The owner's experiments on what is erased; with others' experiments that test it. */
export const EXPERIMENTS = `FROM experiments e WHERE e.owner = ?2 AND (
  ${OF_TENANT} OR e.name IN (${WHOLE}) OR e.id IN (SELECT u.experiment ${USED}))`;

/** Versions `v` in use that depend on what is erased, but stay. */
export const STANDING = `${WITH_CHAIN} AND ${STANDS_ON} AND NOT ${hasItem('v')}`;
/** … of which these have other names. */
export const OUTSIDE = `${EXPERIMENTS} AND NOT ${OF_TENANT} AND e.name NOT IN (${WHOLE})`;
/** Of other owners, not archived: they test what is erased. */
export const OTHERS_EXPERIMENTS = `FROM experiments e WHERE e.owner <> ?2 AND e.status <> 'archived'
  AND e.id IN (SELECT u.experiment ${USED})`;

/** Files of what is erased; of a tenant also unpublished uploads. */
export const FILES = `SELECT own.digest ${OWN}
  UNION SELECT digest FROM blob_parts WHERE tenant = ?2 AND ${OF_TENANT}
  UNION SELECT digest FROM blob_holders WHERE tenant = ?2 AND ${OF_TENANT}
  UNION SELECT digest FROM page_uploads WHERE tenant = ?2 AND ${OF_TENANT}`;
/**
 * Another version uses the file `f` as its own, or in its chain under another name; or another tenant has sent
 * it.
 */
export const STAYS = `EXISTS (SELECT 1 FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
    JOIN json_each(v.chain) c ON c.value ->> 'digest' = f.digest
    WHERE m.digest = f.digest AND NOT ${hasItem('v')}
      AND NOT EXISTS (SELECT 1 FROM erasure_items x WHERE x.erasure = ?1 AND x.name = c.value ->> 'name'))
  OR EXISTS (SELECT 1 FROM blob_holders h WHERE h.digest = f.digest AND h.tenant <> ?2)
  OR EXISTS (SELECT 1 FROM blob_parts p WHERE p.digest = f.digest AND p.tenant <> ?2)
  OR EXISTS (SELECT 1 FROM page_uploads p WHERE p.digest = f.digest AND p.tenant <> ?2)`;

/** Versions of the list ?1 that nobody has restored. */
const GOING = `FROM json_each(?1) item CROSS JOIN versions own ON own.name = item.value ->> 'name'
  AND item.value ->> 'version' IN (0, own.version) WHERE own.removed_at = 0`;
/** Names of the list ?1 that are erased as a whole and were not published again. */
const GOING_NAMES = `SELECT n.name FROM json_each(?1) item CROSS JOIN names n ON n.name = item.value ->> 'name'
  WHERE item.value ->> 'version' = 0 AND n.removed_at = 0`;
const LISTED = "SELECT value ->> 'name' FROM json_each(?1) WHERE value ->> 'version' = 0";

/**
 * Id of the row of history with which the erasure ?2 started: of a name that was published again since, older
 * rows are erased.
 */
const BEGUN = `(SELECT MAX(b.id) FROM erasures e JOIN history b ON b.action = 'erase' AND b.owner = e.owner
  AND b.name = CASE e.kind WHEN 'tenant' THEN '**' WHEN 'below' THEN e.target || '/**' ELSE e.target END
  WHERE e.id = ?2)`;

/** Kept evaluations of the list ?1 that an erasure found when it began; of a name that was published again, newer ones stay. */
const OLD_EVALUATIONS = `SELECT v.name, v.label FROM evaluations v WHERE v.name IN (${LISTED}) AND v.tenant = ''`;

const OF_EXPERIMENTS = [
  'experiment_versions WHERE experiment',
  'experiment_looks WHERE experiment',
  'webhook_messages WHERE source',
].map((of) => `DELETE FROM ${of} IN (SELECT value FROM json_each(?1))`);

/** Names, versions, experiments and keys of an erasure, page by page. */
export function createD1ErasedNames(db: SqlDatabase) {
  return {
    async keys({ owner }: Erasure, after: string, limit: number): Promise<ErasedKey[]> {
      const { results } = await db
        .prepare(`SELECT id, hash, kind FROM keys WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?`)
        .bind(owner, after, limit)
        .all<ErasedKey>();
      return results;
    },

    async experiments({ id, owner }: Erasure, limit: number): Promise<ErasedExperiment[]> {
      const { results } = await db
        .prepare(`SELECT e.id, e.name ${EXPERIMENTS} ORDER BY e.id LIMIT ?3`)
        .bind(id, owner, limit)
        .all<ErasedExperiment>();
      return results;
    },

    /** Names' entries no longer carry them, as if they had never been live; a change under way is refused. */
    async withdrawExperiments(ids: readonly string[]): Promise<void> {
      await db
        .prepare(
          `UPDATE experiments SET started_at = NULL, status = 'archived', version = version + 1,
             document = json_set(document, '$.status', 'archived', '$.version', version + 1)
           WHERE id IN (SELECT value FROM json_each(?))`,
        )
        .bind(JSON.stringify(ids))
        .run();
    },

    async forgetExperiments(_: Erasure, ids: readonly string[]): Promise<void> {
      const list = JSON.stringify(ids);
      await db.batch([
        ...OF_EXPERIMENTS.map((sql) => db.prepare(sql).bind(list)),
        db
          .prepare(
            `DELETE FROM history WHERE (name, target) IN (
               SELECT e.name, e.id FROM experiments e WHERE e.id IN (SELECT value FROM json_each(?1)))`,
          )
          .bind(list),
        db.prepare('DELETE FROM experiments WHERE id IN (SELECT value FROM json_each(?1))').bind(list),
      ]);
    },

    async names({ id }: Erasure, limit: number): Promise<ErasedName[]> {
      const { results } = await db
        .prepare(
          'SELECT name, version FROM erasure_items WHERE erasure = ? AND gone = 0 ORDER BY name DESC, version LIMIT ?',
        )
        .bind(id, limit)
        .all<ErasedName>();
      return results;
    },

    /** Their rows, whose pointers have been removed; a name that was published again in the meantime stays. */
    async forgetNames(
      { id }: Erasure,
      names: readonly ErasedName[],
      at: number,
    ): Promise<Pick<EraseCounts, 'names' | 'aliases' | 'versions' | 'evaluations'>> {
      const list = JSON.stringify(names);
      const run = (sql: string) => db.prepare(sql).bind(list);
      const [, evaluations, , , , , versions, , , , , gone] = await db.batch([
        run(`DELETE FROM evaluation_rows WHERE (name, label) IN (${OLD_EVALUATIONS})`),
        run(`DELETE FROM evaluations WHERE (name, label) IN (${OLD_EVALUATIONS}) RETURNING label`),
        // Of these; and of versions that are erased alone.
        run(
          `DELETE FROM evaluation_scores WHERE name IN (${LISTED}) AND NOT EXISTS (
             SELECT 1 FROM evaluations v WHERE v.name = evaluation_scores.name AND v.sha256 = evaluation_scores.sha256)`,
        ),
        run(
          `DELETE FROM evaluation_scores WHERE (name, chain_id) IN (SELECT own.name, own.chain_id ${GOING})`,
        ),
        run(
          `DELETE FROM chain_members WHERE (digest, below, name, version) IN (
             SELECT c.value ->> 'digest', c.key < json_array_length(own.chain) - 1, own.name, own.version
             FROM json_each(?1) item CROSS JOIN versions own ON own.name = item.value ->> 'name'
               AND item.value ->> 'version' IN (0, own.version)
             JOIN json_each(own.chain) c WHERE own.removed_at = 0)`,
        ),
        db
          .prepare(
            `INSERT OR IGNORE INTO stored_parts (digest, sha256, bytes, kept_at)
             SELECT own.digest, own.proof, 0, ?2 ${GOING} AND own.proof IS NOT NULL`,
          )
          .bind(list, at),
        run(
          `DELETE FROM versions WHERE (name, version) IN (SELECT own.name, own.version ${GOING}) RETURNING version`,
        ),
        run(`DELETE FROM history WHERE name IN (${GOING_NAMES}) AND action <> 'erase'`),
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
      return {
        ...{ names: latest.length - aliases, aliases },
        ...{ versions: versions?.results.length ?? 0, evaluations: evaluations?.results.length ?? 0 },
      };
    },

    /**
     * Others' experiments that use what is erased, by id; and others' aliases of it. An experiment on versions that were
     * published again before it was made uses these.
     */
    async others(
      { id, owner }: Erasure,
      after: string,
      limit: number,
    ): Promise<{ experiments: ErasedExperiment[]; aliases: string[] }> {
      const [experiments, aliases] = await db.batch([
        db
          .prepare(
            `SELECT e.id, e.name FROM experiments e WHERE e.owner <> ?2 AND e.id > ?3
               AND e.id IN (SELECT u.experiment ${USED} AND NOT EXISTS (
                 SELECT 1 FROM versions v JOIN experiments x ON x.id = u.experiment
                 WHERE v.name = u.name AND v.version = u.version AND v.created_at <= x.created_at))
             ORDER BY e.id LIMIT ?4`,
          )
          .bind(id, owner, after, limit),
        db
          .prepare(
            `SELECT a.name FROM names a WHERE a.owner <> ?2 AND ${STANDS_FOR} ORDER BY a.name LIMIT ?3`,
          )
          .bind(id, owner, limit),
      ]);
      return {
        experiments: (experiments?.results ?? []) as ErasedExperiment[],
        aliases: ((aliases?.results ?? []) as { name: string }[]).map(({ name }) => name),
      };
    },

    async endAliases(names: readonly string[]): Promise<void> {
      await db
        .prepare(
          `UPDATE names SET alias = NULL, removed_alias = NULL WHERE name IN (SELECT value FROM json_each(?))`,
        )
        .bind(JSON.stringify(names))
        .run();
    },
  };
}

const Ids = z.array(z.string());

/** Of the file ?1: no version has it in its chain … */
const UNUSED = 'NOT EXISTS (SELECT 1 FROM chain_members m WHERE m.digest = ?1)';
/** … none of the tenant ?2 has it … */
const UNUSED_BY = `NOT EXISTS (SELECT 1 FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
  WHERE m.digest = ?1 AND v.owner = ?2)`;
/** … and nobody has sent it. */
const UNSENT = `NOT EXISTS (SELECT 1 FROM blob_holders h WHERE h.digest = ?1)
  AND NOT EXISTS (SELECT 1 FROM blob_parts p WHERE p.digest = ?1)
  AND NOT EXISTS (SELECT 1 FROM page_uploads p WHERE p.digest = ?1)`;

interface Stands {
  stays: number;
  listed: number;
}

type ReleasedFile = { is: 'released'; bytes: number } | { is: 'kept' | 'gone' | 'deleted by another' };

/** Files of an erasure: in the store, and at the origins. */
export function createD1ErasedFiles(db: SqlDatabase) {
  return {
    /** Digests of files whose bytes may still be in the store. */
    async files({ id }: Erasure, limit: number): Promise<string[]> {
      const { results } = await db
        .prepare(
          'SELECT digest FROM erasure_files WHERE erasure = ? AND origins IS NULL ORDER BY digest LIMIT ?',
        )
        .bind(id, limit)
        .all<{ digest: string }>();
      return results.map(({ digest }) => digest);
    },

    /**
     * Its owner no longer holds it, and if nobody else does, nobody can from here on.
     * @returns its size, and whether the caller deletes it, with the claim `at`; or that it stays, is gone from the store
     * already, or that somebody else is deleting it.
     */
    async releaseFile({ owner }: Erasure, digest: string, at: number): Promise<ReleasedFile> {
      const [, , , size, , , , began, state] = await db.batch([
        // The row stays: its token is spent.
        db
          .prepare(
            `UPDATE page_uploads SET digest = hex(randomblob(32)), tenant = '', parts = '{}', version = 0
             WHERE digest = ?1 AND tenant = ?2 AND ${UNUSED_BY}`,
          )
          .bind(digest, owner),
        db
          .prepare(`DELETE FROM blob_parts WHERE digest = ?1 AND tenant = ?2 AND ${UNUSED_BY}`)
          .bind(digest, owner),
        db
          .prepare(`DELETE FROM blob_holders WHERE digest = ?1 AND tenant = ?2 AND ${UNUSED_BY}`)
          .bind(digest, owner),
        db
          .prepare(
            `SELECT COALESCE((SELECT b.bytes FROM blobs b WHERE b.digest = ?1),
               (SELECT SUM(p.bytes) FROM stored_parts p WHERE p.digest = ?1), 0) AS bytes`,
          )
          .bind(digest),
        db.prepare(listRecorded('?1', '?2', `${UNUSED} AND ${UNSENT}`)).bind(digest, at),
        db.prepare(`DELETE FROM blobs WHERE digest = ?1 AND ${UNUSED} AND ${UNSENT}`).bind(digest),
        // In a registry that was restored: a backup reads one table after the other.
        db
          .prepare(
            `INSERT OR IGNORE INTO stored_files (digest, since, touched_at)
             SELECT ?1, ?2, ?2 WHERE EXISTS (SELECT 1 FROM stored_parts p WHERE p.digest = ?1) AND ${UNUSED} AND ${UNSENT}`,
          )
          .bind(digest, at),
        db
          .prepare(
            `UPDATE stored_files SET collecting_at = ?2
             WHERE digest = ?1 AND (collecting_at IS NULL OR collecting_at = 0 OR collecting_at < ?3)
               AND ${UNUSED} AND ${UNSENT} RETURNING digest`,
          )
          .bind(digest, at, at - DELETER_GONE_MS),
        db
          .prepare(
            `SELECT NOT (${UNUSED} AND ${UNSENT}) AS stays,
               EXISTS (SELECT 1 FROM stored_files WHERE digest = ?1) AS listed`,
          )
          .bind(digest),
      ]);
      const [sized] = (size?.results ?? []) as { bytes: number }[];
      const [{ stays, listed } = { stays: 0, listed: 0 }] = (state?.results ?? []) as Stands[];
      if (stays === 1) return { is: 'kept' };
      if (gaveRow(began)) return { is: 'released', bytes: sized?.bytes ?? 0 };
      // Deleted before, by this or as garbage: the store has nothing, but origins may have it still.
      return { is: listed === 1 ? 'deleted by another' : 'gone' };
    },

    /** @param origins that must drop it; empty = all have, and are asked once more when everything has settled. */
    async fileLeftTo({ id }: Erasure, digest: string, origins: readonly string[]): Promise<void> {
      await db
        .prepare('UPDATE erasure_files SET origins = ?3 WHERE erasure = ?1 AND digest = ?2')
        .bind(id, digest, JSON.stringify(origins))
        .run();
    },

    /** It is not erased: somebody else has it. */
    async fileStays({ id }: Erasure, digest: string): Promise<void> {
      await db.prepare('DELETE FROM erasure_files WHERE erasure = ? AND digest = ?').bind(id, digest).run();
    },

    /** @param all also files that every origin has dropped. */
    async atOrigins(
      { id }: Erasure,
      { after, limit, all }: { after: string; limit: number; all: boolean },
    ): Promise<FileAtOrigins[]> {
      const { results } = await db
        .prepare(
          `SELECT digest, origins FROM erasure_files WHERE erasure = ?1 AND origins IS NOT NULL AND digest > ?2
             AND (?4 = 1 OR origins <> '[]') ORDER BY digest LIMIT ?3`,
        )
        .bind(id, after, limit, all ? 1 : 0)
        .all<{ digest: string; origins: string }>();
      return results.map(({ digest, origins }) => ({ digest, origins: Ids.parse(JSON.parse(origins)) }));
    },

    /** @returns those that no version uses: others were published again. */
    async unused(digests: readonly string[]): Promise<string[]> {
      const { results } = await db
        .prepare(
          `SELECT value AS digest FROM json_each(?) WHERE NOT EXISTS (
             SELECT 1 FROM chain_members m WHERE m.digest = value)`,
        )
        .bind(JSON.stringify(digests))
        .all<{ digest: string }>();
      return results.map(({ digest }) => digest);
    },
  };
}

/** The tenant's key `id` has ended with it: one that has not was made by who has its name since. */
const endedKey = (id: string): string =>
  `NOT EXISTS (SELECT 1 FROM keys k WHERE k.id = ${id} AND k.revoked_at IS NULL)`;
/** A tenant's own, and others' of its names: at most a thousand rows each. */
const KEPT_PROMPTS = `DELETE FROM kept_prompts WHERE at <= ?3
  AND ((tenant = ?2 AND ${OF_TENANT} AND ${endedKey('kept_prompts.key_id')}) OR name IN (${WHOLE}))`;

/** Only ids of requests: those of a name alone end with what was said. */
const PREFERENCES = `DELETE FROM preferences
  WHERE tenant = ?2 AND ${OF_TENANT} AND at <= ?3 AND ${endedKey('preferences.key_id')}`;

/** What the operator was told of a tenant's budgets. */
const ALERTS = `DELETE FROM webhook_messages
  WHERE made_at <= ?3 AND ${OF_TENANT} AND id > 'msg:budget:' || ?2 || ':' AND id < 'msg:budget:' || ?2 || ';'`;

const REVOKED = 'keys.revoked_at IS NOT NULL';
/** KV may not have the key's latest change. */
const UNWRITTEN = "EXISTS (SELECT 1 FROM stale_rights s WHERE s.record = 'key:' || keys.hash)";

const gone = (answer: { results: unknown[] } | undefined): number => answer?.results.length ?? 0;

/** Records of requests, and what else a tenant leaves behind. */
export function createD1ErasedTraces(db: SqlDatabase) {
  return {
    /** Names that are erased as a whole, in order. */
    async wholeNames({ id }: Pick<Erasure, 'id'>, after: string, limit: number): Promise<string[]> {
      const { results } = await db
        .prepare(`${WHOLE} AND name > ?2 ORDER BY name LIMIT ?3`)
        .bind(id, after, limit)
        .all<{ name: string }>();
      return results.map(({ name }) => name);
    },

    async forgetPrompts(erasure: Erasure): Promise<void> {
      const values = [erasure.id, erasure.owner, untilOf(erasure)];
      await db.batch([KEPT_PROMPTS, PREFERENCES, ALERTS].map((sql) => numbered(db, sql, values)));
    },

    /** Tenants that have grants from it, or refuse them. */
    async holders({ owner }: Erasure, limit: number): Promise<string[]> {
      const { results } = await db
        .prepare(
          `SELECT tenant FROM grants WHERE owner = ?1 UNION SELECT tenant FROM grant_refusals WHERE owner = ?1
           ORDER BY tenant LIMIT ?2`,
        )
        .bind(owner, limit)
        .all<{ tenant: string }>();
      return results.map(({ tenant }) => tenant);
    },

    /** Revokes these tenants' grants from it, and their refusals. @returns how many grants. */
    async forgetGrantsFrom({ owner }: Erasure, tenants: readonly string[]): Promise<number> {
      const list = JSON.stringify(tenants);
      const [went] = await db.batch([
        db
          .prepare(
            'DELETE FROM grants WHERE owner = ?1 AND tenant IN (SELECT value FROM json_each(?2)) RETURNING scope',
          )
          .bind(owner, list),
        db
          .prepare(
            'DELETE FROM grant_refusals WHERE owner = ?1 AND tenant IN (SELECT value FROM json_each(?2))',
          )
          .bind(owner, list),
      ]);
      return gone(went);
    },

    /**
     * Of a tenant; of names, if others' history names them. @returns how many were deleted; fewer than `limit` at
     * the end.
     */
    async forgetHistory({ id, owner, kind }: Erasure, limit: number): Promise<number> {
      if (kind !== 'tenant') {
        const of = db.prepare(`UPDATE history SET target = NULL WHERE owner = ?2 AND target IN (${WHOLE})`);
        await of.bind(id, owner).run();
        return 0;
      }
      const { results } = await db
        .prepare(
          `DELETE FROM history WHERE id IN (
             SELECT id FROM history WHERE owner = ? AND action <> 'erase' ORDER BY id LIMIT ?) RETURNING id`,
        )
        .bind(owner, limit)
        .all();
      return results.length;
    },

    /** A tenant's revoked keys whose revocation KV may not have: they were revoked in the meantime. */
    async unwrittenKeys({ owner }: Erasure, limit: number): Promise<{ hash: string; change: number }[]> {
      const { results } = await db
        .prepare(
          `SELECT keys.hash, s.change FROM keys CROSS JOIN stale_rights s ON s.record = 'key:' || keys.hash
           WHERE keys.tenant = ? AND ${REVOKED} LIMIT ?`,
        )
        .bind(owner, limit)
        .all<{ hash: string; change: number }>();
      return results;
    },

    /**
     * Of a tenant: its revoked keys, limits, webhooks, reservations and received grants.
     * @param written changes of keys that KV has.
     * @returns `left`: there are revoked keys whose revocation KV may not have. Without their rows it would never
     * get it. `counters`: of the limits of keys that were created in the meantime.
     */
    async forgetTenant(
      { owner }: Erasure,
      written: readonly number[],
    ): Promise<{
      left: boolean;
      erased: Pick<EraseCounts, 'keys' | 'rooms' | 'grants'>;
      counters: string[];
    }> {
      const run = (sql: string) => db.prepare(sql).bind(owner);
      const [, keys, rooms, grants, , , , , , , left, counters] = await db.batch([
        db
          .prepare('DELETE FROM stale_rights WHERE change IN (SELECT value FROM json_each(?))')
          .bind(JSON.stringify(written)),
        // A key created in the meantime is valid, and must be found to be revoked.
        run(`DELETE FROM keys WHERE tenant = ? AND ${REVOKED} AND NOT ${UNWRITTEN} RETURNING id`),
        run('DELETE FROM rooms WHERE tenant = ? RETURNING name'),
        run('DELETE FROM grants WHERE tenant = ? RETURNING scope'),
        run('DELETE FROM grant_refusals WHERE tenant = ?'),
        // KV has them with each of its keys.
        run(
          `INSERT OR REPLACE INTO stale_rights (record) SELECT 'key:' || hash FROM keys WHERE tenant = ?1
             AND kind = 'api' AND NOT ${REVOKED} AND EXISTS (SELECT 1 FROM tenant_limits l WHERE l.tenant = ?1)`,
        ),
        run('DELETE FROM tenant_limits WHERE tenant = ?'),
        run('DELETE FROM webhook_messages WHERE source IN (SELECT id FROM webhooks WHERE owner = ?)'),
        run('DELETE FROM webhooks WHERE owner = ?'),
        // The erasure itself writes its grants, and does so again if it is interrupted.
        run("DELETE FROM stale_rights WHERE record = 'grants:' || ?"),
        run(`SELECT 1 FROM keys WHERE tenant = ? AND ${REVOKED} LIMIT 1`),
        run(
          `SELECT COALESCE(counter, id) AS counter FROM keys WHERE tenant = ? AND NOT ${REVOKED} AND kind = 'api'
           ORDER BY created_at DESC LIMIT ${KEPT_COUNTERS}`,
        ),
      ]);
      return {
        left: gone(left) > 0,
        erased: { keys: gone(keys), rooms: gone(rooms), grants: gone(grants) },
        counters: ((counters?.results ?? []) as { counter: string }[]).map(({ counter }) => counter),
      };
    },
  };
}
