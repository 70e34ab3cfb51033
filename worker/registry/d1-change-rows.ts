/** The rows that every change of a name writes first: its line of history, and the name as it is from then on. */
import { NOTHING_SAID, sameJson } from '../../protocol/index.ts';
import type { SqlDatabase, SqlStatement } from '../platform/d1-database.ts';
import type { ChangeAction, NameRow } from './ports.ts';
import type { ChangeNote } from './ports-rooms.ts';

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
