export type SqlValue = string | number | null;

/** The part of a Durable Object's SQLite that tallies use; `SqlStorage` fits it. */
export interface TallySql {
  exec(query: string, ...bindings: SqlValue[]): { toArray(): Record<string, unknown>[] };
}
