/**
 * SQLite itself: Node's own where it is of the same version as sql.js's, because it is several times as fast; otherwise
 * sql.js. Both answer the same.
 */
import initSqlJs from 'sql.js';

export type SqlValue = string | number | null;

/** A compiled statement. */
export interface Compiled {
  /** Names of its answer's columns. */
  columns: readonly string[];
  /** @returns rows. @throws Error with SQLite's message. */
  all(values: readonly SqlValue[]): readonly unknown[][];
}

export interface Engine {
  /** One statement or several; their rows are dropped. */
  exec(sql: string): void;
  prepare(sql: string): Compiled;
  /** The whole database. No statement that was prepared before works any more. */
  bytes(): Uint8Array;
  close(): void;
}

const { Database } = await initSqlJs();

function openSqlJs(bytes?: Uint8Array): Engine {
  const database = new Database(bytes);
  return {
    exec: (sql) => void database.exec(sql),
    prepare(sql) {
      const statement = database.prepare(sql);
      return {
        columns: statement.getColumnNames(),
        all(values) {
          try {
            statement.bind([...values]);
            const rows: unknown[][] = [];
            while (statement.step()) rows.push(statement.get());
            return rows;
          } finally {
            statement.reset();
          }
        },
      };
    },
    bytes: () => database.export(),
    close: () => database.close(),
  };
}

/** As much of `node:sqlite` as is used; the types of Node 20 do not know it. */
interface NodeSqlite {
  DatabaseSync: new (
    path: string,
    options: { enableForeignKeyConstraints: boolean; enableDoubleQuotedStringLiterals: boolean },
  ) => {
    exec(sql: string): void;
    prepare(sql: string): {
      setReturnArrays(on: boolean): void;
      columns(): { name: string }[];
      all(...values: SqlValue[]): unknown[][];
    };
    serialize(): Uint8Array;
    deserialize(bytes: Uint8Array): void;
    close(): void;
  };
}

function openWith({ DatabaseSync }: NodeSqlite, bytes?: Uint8Array): Engine {
  // As sql.js has it.
  const database = new DatabaseSync(':memory:', {
    enableForeignKeyConstraints: false,
    enableDoubleQuotedStringLiterals: true,
  });
  if (bytes !== undefined) database.deserialize(bytes);
  return {
    exec: (sql) => database.exec(sql),
    prepare(sql) {
      const statement = database.prepare(sql);
      statement.setReturnArrays(true);
      return {
        columns: statement.columns().map(({ name }) => name),
        all: (values) => statement.all(...values),
      };
    },
    bytes: () => database.serialize(),
    close: () => database.close(),
  };
}

function nodeSqlite(): NodeSqlite | null {
  const [version] = new Database().exec('SELECT sqlite_version()')[0]?.values[0] ?? [];
  if (version === undefined || process.versions['sqlite'] !== version) return null;
  const found = process.getBuiltinModule('node:sqlite') as unknown as NodeSqlite;
  return 'deserialize' in found.DatabaseSync.prototype ? found : null;
}

const native = nodeSqlite();

/** @param bytes of another one; empty unless given. */
export const openEngine = (bytes?: Uint8Array): Engine =>
  native === null ? openSqlJs(bytes) : openWith(native, bytes);
