import type { SqlDatabase } from '../platform/d1-database.ts';
import { MAX_PREFERENCES, PRUNED_PREFERENCES } from './limits.ts';
import { placeKey, type PreferredRequest, type Preferences } from './ports.ts';

const HOUR_MS = 3_600_000;
/** NULL also where the row cannot be read. */
const KEEP_HOURS = "CASE WHEN json_valid(k.rights) THEN k.rights ->> '$.keep_prompts' END";
const MAY_IMPROVE = "CASE WHEN json_valid(k.rights) THEN k.rights ->> '$.improve' END = 1";

const ADD = `INSERT INTO preferences (tenant, at, chosen, rejected, key_id, expires_at)
  SELECT ?1, ?2, ?3, ?4, ?5, ?2 + ${HOUR_MS} * ${KEEP_HOURS} FROM keys k
  WHERE k.id = ?5 AND k.tenant = ?1 AND ${KEEP_HOURS} IS NOT NULL AND ${MAY_IMPROVE}
  ON CONFLICT DO NOTHING`;
const FORGET_OLDEST = `DELETE FROM preferences WHERE tenant = ?1 AND (chosen, rejected) IN (
  SELECT chosen, rejected FROM preferences WHERE tenant = ?1 ORDER BY at DESC, chosen DESC LIMIT -1 OFFSET ?2)`;
const FIND = 'SELECT at, key_id FROM preferences WHERE tenant = ?1 AND chosen = ?2 AND rejected = ?3';

/** Below 0, like an erasure: it must not take the place of a name's change. */
const NOTE = `INSERT INTO history (name, sequence, at, actor, owner, action, target)
  SELECT '**', (SELECT MIN(0, COALESCE(MIN(sequence), 0)) - 1 FROM history WHERE name = '**'), ?, ?, ?, 'read-rows', ?`;

/** The newest kept request with an id. */
const SIDE = `SELECT json_object('at', k.at, 'id', k.id, 'keyId', k.key_id, 'name', k.name, 'user', k.user,
    'improve', k.improve) FROM kept_prompts k WHERE k.tenant = p.tenant AND k.expires_at > ?2 AND k.id =`;
const LIST = `SELECT p.at, p.chosen, p.rejected, (${SIDE} p.chosen ORDER BY k.at DESC LIMIT 1) AS c,
    (${SIDE} p.rejected ORDER BY k.at DESC LIMIT 1) AS r
  FROM preferences p WHERE p.tenant = ?1 AND p.expires_at > ?2 ORDER BY p.at, p.chosen, p.rejected`;
const CONSENTING = `SELECT k.id FROM keys k
  WHERE k.tenant = ?1 AND k.id IN (SELECT value FROM json_each(?2)) AND ${MAY_IMPROVE}`;

interface Row {
  at: number;
  chosen: string;
  rejected: string;
  c: string | null;
  r: string | null;
}

const requestOf = (json: string | null): PreferredRequest | null => {
  if (json === null) return null;
  const { improve, ...rest } = JSON.parse(json) as Omit<PreferredRequest, 'improve'> & { improve: number };
  return { ...rest, improve: improve === 1 };
};

export function createD1Preferences(db: SqlDatabase): Preferences {
  return {
    async add({ tenant, keyId, chosen, rejected, at }) {
      const find = (): Promise<{ at: number } | null> =>
        db.prepare(FIND).bind(tenant, chosen, rejected).first<{ at: number }>();
      if ((await find()) !== null) return 'known';
      await db.batch([
        db.prepare(ADD).bind(tenant, at, chosen, rejected, keyId),
        db.prepare(FORGET_OLDEST).bind(tenant, MAX_PREFERENCES),
      ]);
      return (await find()) === null ? 'refused' : 'recorded';
    },

    async list({ tenant, now }) {
      const { results } = await db.prepare(LIST).bind(tenant, now).all<Row>();
      return results.map(({ c, r, ...rest }) => ({
        ...rest,
        chosenRequest: requestOf(c),
        rejectedRequest: requestOf(r),
      }));
    },

    async texts({ tenant, requests, now }) {
      const { results } = await db
        .prepare(
          `SELECT at, id, sealed FROM kept_prompts WHERE tenant = ?1 AND expires_at > ?2 AND (at, id) IN (
             SELECT value ->> 'at', value ->> 'id' FROM json_each(?3))`,
        )
        .bind(tenant, now, JSON.stringify(requests.map(({ at, id }) => ({ at, id }))))
        .all<{ at: number; id: string; sealed: string }>();
      return new Map(results.map(({ sealed, ...place }) => [placeKey(place), sealed]));
    },

    async consenting({ tenant, keyIds }) {
      const { results } = await db
        .prepare(CONSENTING)
        .bind(tenant, JSON.stringify(keyIds))
        .all<{ id: string }>();
      return new Set(results.map(({ id }) => id));
    },

    async noteReading({ tenant, name, actor, at }) {
      await db.prepare(NOTE).bind(at, actor, tenant, name).run();
    },

    async tend(now) {
      await db
        .prepare(
          `DELETE FROM preferences WHERE rowid IN (
             SELECT rowid FROM preferences WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`,
        )
        .bind(now, PRUNED_PREFERENCES)
        .run();
    },
  };
}
