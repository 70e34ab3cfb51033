import { jsonLists, type SqlDatabase } from '../platform/d1-database.ts';
import { DECIDED_SHARE, MAX_KEPT_BYTES, MAX_KEPT_PROMPTS, PRUNED_PROMPTS } from './limits.ts';
import type { KeptPrompts, PromptRow } from './ports.ts';

const HOUR_MS = 3_600_000;

/** Hours; NULL also where the row cannot be read: what others asked is kept all the same. */
const KEEP_HOURS = "CASE WHEN json_valid(k.rights) THEN k.rights ->> '$.keep_prompts' END";

const ADD = `INSERT INTO kept_prompts (tenant, at, id, key_id, name, expires_at, bytes, sealed, user, improve)
  SELECT k.tenant, r.value ->> 1, r.value ->> 2, k.id, r.value ->> 4, (r.value ->> 1) + ${HOUR_MS} * ${KEEP_HOURS},
    length(r.value ->> 5), r.value ->> 5, r.value ->> 6, k.rights ->> '$.improve' IS TRUE
  FROM json_each(?) r CROSS JOIN keys k
  WHERE k.id = r.value ->> 3 AND k.tenant = r.value ->> 0 AND ${KEEP_HOURS} IS NOT NULL
  ON CONFLICT DO NOTHING`;

const valuesOf = ({ tenant, at, id, keyId, name, sealed, user }: PromptRow): (string | number)[] => [
  tenant,
  at,
  id,
  keyId,
  name,
  sealed,
  user,
];

/**
 * Those beyond the newest of each tenant ?1. The newest ?4 with ?5 bytes that a preference names come before all others:
 * a decision is lost with the texts that it is about.
 */
const FORGET_OLDEST = `WITH tenants AS (SELECT value AS tenant FROM json_each(?1)),
  decided AS (SELECT tenant, chosen AS id FROM preferences WHERE tenant IN (SELECT tenant FROM tenants)
    UNION SELECT tenant, rejected FROM preferences WHERE tenant IN (SELECT tenant FROM tenants)),
  kept AS (SELECT tenant, at, id, bytes, (tenant, id) IN (SELECT tenant, id FROM decided) AS named
    FROM kept_prompts WHERE tenant IN (SELECT tenant FROM tenants)),
  ranked AS (SELECT tenant, at, id, bytes,
      named AND ROW_NUMBER() OVER alike <= ?4 AND SUM(bytes) OVER alike <= ?5 AS first
    FROM kept WINDOW alike AS (PARTITION BY tenant, named ORDER BY at DESC, id DESC ROWS UNBOUNDED PRECEDING)),
  found AS (SELECT tenant, at, id, ROW_NUMBER() OVER newer AS place, SUM(bytes) OVER newer AS size
    FROM ranked WINDOW newer AS (PARTITION BY tenant ORDER BY first DESC, at DESC, id DESC ROWS UNBOUNDED PRECEDING))
  DELETE FROM kept_prompts WHERE (tenant, at, id) IN (SELECT tenant, at, id FROM found WHERE place > ?2 OR size > ?3)`;

/** Like an erasure, with a sequence below 0: it must not take the place of a name's change. */
const NOTE = `INSERT INTO history (name, sequence, at, actor, owner, action, target)
  SELECT '**', (SELECT MIN(0, COALESCE(MIN(sequence), 0)) - 1 FROM history WHERE name = '**'), ?, ?, ?, 'read-prompt', ?`;

const OF_KEYS = 'WHERE tenant = ?1 AND key_id IN (SELECT value FROM json_each(?2))';
const SOONER = `SET expires_at = MIN(expires_at, at + ${HOUR_MS} * ?3) ${OF_KEYS}`;
/** What users preferred goes with what was said. */
const FORGET = [`DELETE FROM kept_prompts ${OF_KEYS}`, `DELETE FROM preferences ${OF_KEYS}`];
const SHORTEN = [`UPDATE kept_prompts ${SOONER}`, `UPDATE preferences ${SOONER}`];

interface Row {
  tenant: string;
  at: number;
  id: string;
  key_id: string;
  name: string;
  expires_at: number;
  sealed: string;
  user: string;
}

export function createD1KeptPrompts(db: SqlDatabase): KeptPrompts {
  return {
    async add(rows) {
      if (rows.length === 0) return;
      const tenants = JSON.stringify([...new Set(rows.map(({ tenant }) => tenant))]);
      await db.batch([
        ...jsonLists(rows.map(valuesOf)).map((list) => db.prepare(ADD).bind(list)),
        db
          .prepare(FORGET_OLDEST)
          .bind(
            tenants,
            MAX_KEPT_PROMPTS,
            MAX_KEPT_BYTES,
            MAX_KEPT_PROMPTS * DECIDED_SHARE,
            MAX_KEPT_BYTES * DECIDED_SHARE,
          ),
      ]);
    },

    async read({ tenant, id, at, now }) {
      const row = await db
        .prepare(
          `SELECT tenant, at, id, key_id, name, expires_at, sealed, user FROM kept_prompts
           WHERE tenant = ?1 AND id = ?2 AND at = COALESCE(?3, at) AND expires_at > ?4 ORDER BY at DESC LIMIT 1`,
        )
        .bind(tenant, id, at, now)
        .first<Row>();
      if (row === null) return null;
      const { key_id: keyId, expires_at: expiresAt, ...rest } = row;
      return { ...rest, keyId, expiresAt };
    },

    async noteReading({ tenant, id, actor, at }) {
      await db.prepare(NOTE).bind(at, actor, tenant, id).run();
    },

    async limit({ tenant, keyIds, hours }) {
      const list = JSON.stringify(keyIds);
      await db.batch(
        hours === null
          ? [
              db
                .prepare(
                  `UPDATE keys SET rights = json_remove(rights, '$.keep_prompts')
                   WHERE tenant = ?1 AND id IN (SELECT value FROM json_each(?2)) AND json_valid(rights)`,
                )
                .bind(tenant, list),
              ...FORGET.map((sql) => db.prepare(sql).bind(tenant, list)),
            ]
          : SHORTEN.map((sql) => db.prepare(sql).bind(tenant, list, hours)),
      );
    },

    async tend(now) {
      await db
        .prepare(
          `DELETE FROM kept_prompts WHERE rowid IN (
             SELECT rowid FROM kept_prompts WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`,
        )
        .bind(now, PRUNED_PROMPTS)
        .run();
    },
  };
}
