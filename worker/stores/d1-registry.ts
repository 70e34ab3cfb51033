import { z } from 'zod';
import { AdapterProof, err, ManifestChainEntry, ok, StoredEvaluation } from '../../protocol/index.ts';
import { isUniqueViolation, prefixEnd, type SqlDatabase } from './d1-database.ts';
import type { NameRow, Registry, VersionRow } from './types.ts';

interface VersionRecord {
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
}

const toJson = (value: object | null): string | null => (value === null ? null : JSON.stringify(value));

const fromJson = <T>(schema: z.ZodType<T>, text: string | null): T | null =>
  text === null ? null : schema.parse(JSON.parse(text));

const toVersion = (record: VersionRecord): VersionRow => ({
  name: record.name,
  version: record.version,
  digest: record.digest,
  owner: record.owner,
  chain: z.array(ManifestChainEntry).parse(JSON.parse(record.chain)),
  chainId: record.chain_id,
  parent: record.parent,
  base: { id: record.base_id, digest: record.base_digest },
  bytes: record.bytes,
  rank: record.rank,
  rankSum: record.rank_sum,
  createdAt: record.created_at,
  createdBy: record.created_by,
  proof: fromJson(AdapterProof, record.proof),
  evaluation: fromJson(StoredEvaluation, record.evaluation),
});

const NAME = 'SELECT name, owner, version, latest, sequence FROM names';
const LIVE = 'SELECT v.* FROM names n JOIN versions v ON v.name = n.name AND v.version = n.version';

/** A scope as a condition on the name, as `policy/authorize` reads it. */
function scopeCondition(scope: string): { sql: string; values: string[] } {
  if (scope === '**') return { sql: '1', values: [] };
  if (!scope.endsWith('/**')) return { sql: 'n.name = ?', values: [scope] };
  const path = scope.slice(0, -3);
  return {
    sql: '(n.name = ? OR (n.name >= ? AND n.name < ?))',
    values: [path, `${path}/`, prefixEnd(`${path}/`)],
  };
}

export function createD1Registry(db: SqlDatabase): Registry {
  const historyRow = (
    name: string,
    sequence: number,
    entry: { at: number; actor: string; action: string; from: number | null; to: number },
  ) =>
    db
      .prepare(
        'INSERT INTO history (name, sequence, at, actor, action, from_version, to_version) VALUES (?, ?, ?, ?, ?, ?, ?)',
      )
      .bind(name, sequence, entry.at, entry.actor, entry.action, entry.from, entry.to);

  const registry: Registry = {
    name: (name) => db.prepare(`${NAME} WHERE name = ?`).bind(name).first<NameRow>(),

    async version(name, version) {
      const record = await db
        .prepare('SELECT * FROM versions WHERE name = ? AND version = ?')
        .bind(name, version)
        .first<VersionRecord>();
      return record && toVersion(record);
    },

    async live(name) {
      const record = await db.prepare(`${LIVE} WHERE n.name = ?`).bind(name).first<VersionRecord>();
      return record && toVersion(record);
    },

    async names({ prefix, cursor, limit, owner }) {
      const { results } = await db
        .prepare(
          `${NAME} WHERE name > ? AND name >= ? AND name < ? AND (? IS NULL OR owner = ?) ORDER BY name LIMIT ?`,
        )
        .bind(cursor ?? '', prefix, prefixEnd(prefix), owner, owner, limit)
        .all<NameRow>();
      return { items: results, cursor: results.length === limit ? (results.at(-1)?.name ?? null) : null };
    },

    async usable({ tenant, scopes, prefix, after, limit }) {
      const conditions = scopes.map(scopeCondition);
      const allowed = ['n.owner = ?', ...conditions.map(({ sql }) => sql)].join(' OR ');
      const { results } = await db
        .prepare(
          `${LIVE} WHERE n.name > ? AND n.name >= ? AND n.name < ? AND (${allowed}) ORDER BY n.name LIMIT ?`,
        )
        .bind(after, prefix, prefixEnd(prefix), tenant, ...conditions.flatMap(({ values }) => values), limit)
        .all<VersionRecord>();
      return results.map(toVersion);
    },

    async versions(name) {
      const { results } = await db
        .prepare('SELECT * FROM versions WHERE name = ? ORDER BY version DESC')
        .bind(name)
        .all<VersionRecord>();
      return results.map(toVersion);
    },

    async versionsOf({ digest, limit }) {
      const { results } = await db
        .prepare('SELECT * FROM versions WHERE digest = ? ORDER BY name, version DESC LIMIT ?')
        .bind(digest, limit)
        .all<VersionRecord>();
      return results.map(toVersion);
    },

    async publish({ row, stage, before }) {
      const sequence = (before?.sequence ?? 0) + 1;
      const from = before?.version ?? null;
      const live = stage ? from : row.version;
      const action = stage ? 'stage' : 'publish';
      try {
        await db.batch([
          historyRow(row.name, sequence, {
            at: row.createdAt,
            actor: row.createdBy,
            action,
            from,
            to: row.version,
          }),
          db
            .prepare(
              `INSERT INTO versions (name, version, digest, owner, chain, chain_id, parent, base_id, base_digest, bytes,
                rank, rank_sum, created_at, created_by, proof, evaluation)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
            )
            .bind(
              row.name,
              row.version,
              row.digest,
              row.owner,
              JSON.stringify(row.chain),
              row.chainId,
              row.parent,
              row.base.id,
              row.base.digest,
              row.bytes,
              row.rank,
              row.rankSum,
              row.createdAt,
              row.createdBy,
              toJson(row.proof),
              toJson(row.evaluation),
            ),
          db
            .prepare(
              `INSERT INTO names (name, owner, version, latest, sequence) VALUES (?, ?, ?, ?, ?)
               ON CONFLICT (name) DO UPDATE SET version = excluded.version, latest = excluded.latest,
                 sequence = excluded.sequence`,
            )
            .bind(row.name, before?.owner ?? row.owner, live, row.version, sequence),
          db.prepare('UPDATE blobs SET touched_at = ? WHERE digest = ?').bind(row.createdAt, row.digest),
        ]);
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return err({ kind: 'conflict', name: await registry.name(row.name) });
      }
      return ok({
        name: row.name,
        owner: before?.owner ?? row.owner,
        version: live,
        latest: row.version,
        sequence,
      });
    },

    async flip({ before, to, actor, at }) {
      const sequence = before.sequence + 1;
      try {
        await db.batch([
          historyRow(before.name, sequence, { at, actor, action: 'flip', from: before.version, to }),
          db
            .prepare('UPDATE names SET version = ?, sequence = ? WHERE name = ?')
            .bind(to, sequence, before.name),
        ]);
      } catch (error) {
        if (!isUniqueViolation(error)) throw error;
        return err({ kind: 'conflict', name: await registry.name(before.name) });
      }
      return ok({ ...before, version: to, sequence });
    },
  };
  return registry;
}
