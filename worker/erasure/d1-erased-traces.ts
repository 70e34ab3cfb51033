import type { SqlDatabase } from '../platform/d1-database.ts';
import { NOT_NEWEST, numbered, OF_TENANT, WHOLE } from './item-rows.ts';
import type { ErasureLedger } from './ports.ts';

type Pages = Pick<
  ErasureLedger,
  | 'forgetTraffic'
  | 'forgetRequests'
  | 'forgetUsage'
  | 'holders'
  | 'forgetGrantsFrom'
  | 'forgetHistory'
  | 'forgetTenant'
>;

const HOURS = `SELECT tenant, hour, key_id, name, version FROM usage u
  WHERE u.tenant = ?2 AND (${OF_TENANT} OR u.name IN (${WHOLE})) LIMIT ?3`;

/** Neither tenants nor ids can hold a line break. */
const SEPARATOR = '\n';
/** Requests `r` of a chunk that are by one of the names. */
const NAMED = `r.value ->> 'name' IN (${WHOLE})`;
const CHUNKS = `SELECT c.tenant, c.at, c.id FROM request_chunks c WHERE (c.tenant, c.at, c.id) > (?3, ?4, ?5)
  ORDER BY c.tenant, c.at, c.id LIMIT ?6`;

/** A tenant's own, and what others have of its names: a thousand rows each at most. */
const KEPT_PROMPTS = `DELETE FROM kept_prompts WHERE (tenant = ?2 AND ${OF_TENANT}) OR name IN (${WHOLE})`;

const gone = (answer: { results: unknown[] } | undefined): number => answer?.results.length ?? 0;
const counted = (answer: { results: unknown[] } | undefined): number =>
  (answer?.results[0] as { count: number | null } | undefined)?.count ?? 0;

/** What was noted of requests, and what else a tenant leaves behind. */
export function createD1ErasedTraces(db: SqlDatabase): Pages {
  return {
    async forgetTraffic({ id, owner, kind }, { step, from, to }) {
      // Sums of all tenants together stay: they name nobody.
      const meant = `FROM traffic WHERE step = ?3 AND at >= ?4 AND at < ?5
        AND (tenant = ?2 AND ?6 = 'tenant' OR name IN (${WHOLE}))`;
      const run = (sql: string) => numbered(db, sql, [id, owner, step, from, to, kind]);
      const [found] = await db.batch([run(`SELECT COUNT(*) AS count ${meant}`), run(`DELETE ${meant}`)]);
      return counted(found);
    },

    async forgetRequests({ id, owner, kind }, after, limit) {
      const [tenant = '', at = '0', chunk = ''] = after.split(SEPARATOR);
      const page = [id, owner, tenant, Number(at), chunk, limit];
      const run = (sql: string) => numbered(db, sql, page);
      const whole = `DELETE FROM request_chunks WHERE (tenant, at, id) IN (${CHUNKS}) AND tenant = ?2`;
      const [last, of, named] = await db.batch([
        run(`SELECT * FROM (${CHUNKS}) LIMIT 1 OFFSET ?6 - 1`),
        run(
          `SELECT COUNT(*) AS count FROM request_chunks c, json_each(c.requests) r
           WHERE (c.tenant, c.at, c.id) IN (${CHUNKS}) AND c.tenant = ?2 AND ${OF_TENANT}`,
        ),
        run(
          `SELECT COUNT(*) AS count FROM request_chunks c, json_each(c.requests) r
           WHERE (c.tenant, c.at, c.id) IN (${CHUNKS}) AND NOT (c.tenant = ?2 AND ${OF_TENANT}) AND ${NAMED}`,
        ),
        ...(kind === 'tenant' ? [run(whole)] : []),
        run(
          `UPDATE request_chunks SET
             count = (SELECT COUNT(*) FROM json_each(requests) r WHERE NOT ${NAMED}),
             requests = (SELECT json_group_array(json(r.value)) FROM json_each(requests) r WHERE NOT ${NAMED})
           WHERE (tenant, at, id) IN (${CHUNKS}) AND EXISTS (SELECT 1 FROM json_each(requests) r WHERE ${NAMED})`,
        ),
        run(KEPT_PROMPTS),
        // What is deleted moves the page on: these come last.
        ...(kind === 'tenant' ? [run(whole)] : []),
        run(
          `DELETE FROM request_chunks WHERE (tenant, at, id) IN (${CHUNKS}) AND count = 0 AND left_out = 0`,
        ),
      ]);
      const [end] = (last?.results ?? []) as { tenant: string; at: number; id: string }[];
      return {
        requests: counted(of) + counted(named),
        after: end === undefined ? null : [end.tenant, end.at, end.id].join(SEPARATOR),
      };
    },

    async forgetUsage({ id, owner }, limit) {
      const [went] = await db.batch([
        db
          .prepare(
            `DELETE FROM usage WHERE (tenant, hour, key_id, name, version) IN (${HOURS}) RETURNING hour`,
          )
          .bind(id, owner, limit),
      ]);
      return gone(went);
    },

    async holders({ owner }, limit) {
      const { results } = await db
        .prepare(
          `SELECT tenant FROM grants WHERE owner = ?1 UNION SELECT tenant FROM grant_refusals WHERE owner = ?1
           ORDER BY tenant LIMIT ?2`,
        )
        .bind(owner, limit)
        .all<{ tenant: string }>();
      return results.map(({ tenant }) => tenant);
    },

    async forgetGrantsFrom({ owner }, tenants) {
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

    async forgetHistory({ id, owner, kind }, limit) {
      if (kind !== 'tenant') {
        const of = db.prepare(`UPDATE history SET target = NULL WHERE owner = ?2 AND target IN (${WHOLE})`);
        await of.bind(id, owner).run();
        return 0;
      }
      const { results } = await db
        .prepare(
          `DELETE FROM history WHERE id IN (
             SELECT id FROM history WHERE owner = ? AND action <> 'erase' AND ${NOT_NEWEST} ORDER BY id LIMIT ?) RETURNING id`,
        )
        .bind(owner, limit)
        .all();
      return results.length;
    },

    async forgetTenant({ owner }) {
      const run = (sql: string) => db.prepare(sql).bind(owner);
      const [keys, rooms, grants] = await db.batch([
        // One that was made meanwhile is good, and has to be found to be revoked.
        run('DELETE FROM keys WHERE tenant = ? AND revoked_at IS NOT NULL RETURNING id'),
        run('DELETE FROM rooms WHERE tenant = ? RETURNING name'),
        run('DELETE FROM grants WHERE tenant = ? RETURNING scope'),
        run('DELETE FROM grant_refusals WHERE tenant = ?'),
        run('DELETE FROM tenant_limits WHERE tenant = ?'),
      ]);
      return { keys: gone(keys), rooms: gone(rooms), grants: gone(grants) };
    },
  };
}
