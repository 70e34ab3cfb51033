/** SQLite in this process, held to D1's limits, and failing as it fails. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { SqlDatabase, SqlStatement } from '../../../worker/platform/d1-database.ts';
import { type Compiled, type Engine, openEngine, type SqlValue } from './sqlite-engine.ts';

const MIGRATIONS = path.join(import.meta.dirname, '../../../migrations');

// developers.cloudflare.com/d1/platform/limits
const MAX_STATEMENT_BYTES = 100_000;
const MAX_BOUND_VALUES = 100;
const MAX_VALUE_BYTES = 2_000_000;

type Row = Record<string, unknown>;
/** One opened database, with its statements by their text: D1 keeps those as well, and compiling one takes longer than running it. */
interface Handle {
  database: Engine;
  statements: Map<string, Compiled>;
}

/** A database that nothing refers to any more is closed: sql.js's lie in WebAssembly's memory, which never shrinks. */
const forgotten = new FinalizationRegistry((database: Engine) => database.close());

function open(pragmas: string, bytes?: Uint8Array): Handle {
  const handle: Handle = { database: openEngine(bytes), statements: new Map() };
  handle.database.exec(pragmas);
  forgotten.register(handle, handle.database);
  return handle;
}

const OBJECT_PRAGMAS =
  'PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE';
const PRAGMAS = `PRAGMA foreign_keys = ON; ${OBJECT_PRAGMAS}`;
const handles = new WeakMap<SqlDatabase, Handle>();

/** @returns what is in it, for {@link openSqlite}. */
export function bytesOf(db: SqlDatabase): Uint8Array {
  const handle = handles.get(db);
  if (handle === undefined) throw new Error('openSqlite has not opened it');
  const bytes = handle.database.bytes();
  // sql.js opens the database anew: it has no statements and no settings any more.
  handle.statements.clear();
  handle.database.exec(PRAGMAS);
  return bytes;
}

let schema: Uint8Array | undefined;
/** The bytes of an empty database with the schema of `migrations/`. */
function schemaBytes(): Uint8Array {
  if (schema !== undefined) return schema;
  const database = openEngine();
  for (const file of readdirSync(MIGRATIONS).sort())
    database.exec(readFileSync(path.join(MIGRATIONS, file), 'utf8'));
  schema = database.bytes();
  database.close();
  return schema;
}

class Statement implements SqlStatement {
  readonly #handle: Handle;
  readonly #sql: string;
  readonly #values: readonly SqlValue[];

  constructor(handle: Handle, sql: string, values: readonly SqlValue[]) {
    this.#handle = handle;
    this.#sql = sql;
    this.#values = values;
  }

  rows(): Row[] {
    try {
      return run(this.#handle, this.#sql, this.#values);
    } catch (error) {
      throw asD1(error);
    }
  }

  bind(...given: unknown[]): Statement {
    return new Statement(this.#handle, this.#sql, given.map(bindable));
  }
  async all<T>(): Promise<{ results: T[] }> {
    return { results: this.rows() as T[] };
  }
  async first<T>(): Promise<T | null> {
    return (this.rows()[0] ?? null) as T | null;
  }
  async run(): Promise<{ results: Row[] }> {
    return { results: this.rows() };
  }
}

/** @param bytes of another one; with the schema of `migrations/` and no rows unless given. */
export function openSqlite(bytes = schemaBytes()): SqlDatabase {
  const handle = open(PRAGMAS, bytes);
  const db: SqlDatabase = {
    prepare: (sql) => new Statement(handle, sql, []),
    async batch(statements) {
      if (statements.length === 0) throw new Error('D1_ERROR: No SQL statements detected.');
      return inTransaction(handle, () =>
        statements.map((one) => ({ results: one instanceof Statement ? one.rows() : [] })),
      );
    },
  };
  handles.set(db, handle);
  return db;
}

/** As a Durable Object has it: empty, and without D1's limits. */
export interface ObjectSql {
  exec(query: string, ...bindings: SqlValue[]): { toArray(): Row[] };
  transaction<T>(work: () => T): T;
}

export function openObjectSql(): ObjectSql {
  const handle = open(OBJECT_PRAGMAS);
  return {
    exec(query, ...bindings) {
      const isScript = bindings.length === 0 && query.trim().replace(/;$/, '').includes(';');
      if (isScript) handle.database.exec(query);
      const rows = isScript ? [] : run(handle, query, bindings);
      return { toArray: () => rows };
    },
    transaction: (work) => inTransaction(handle, work),
  };
}

function inTransaction<T>(handle: Handle, work: () => T): T {
  run(handle, 'BEGIN', []);
  try {
    const answer = work();
    run(handle, 'COMMIT', []);
    return answer;
  } catch (error) {
    run(handle, 'ROLLBACK', []);
    throw error;
  }
}

function run({ database, statements }: Handle, sql: string, values: readonly SqlValue[]): Row[] {
  const text = checked(sql, values);
  let compiled = statements.get(text);
  if (compiled === undefined) statements.set(text, (compiled = database.prepare(text)));
  const { columns } = compiled;
  return compiled.all(values).map((cells) => {
    const row: Row = {};
    for (let at = 0; at < columns.length; at += 1) row[columns[at] as string] = cells[at];
    return row;
  });
}

const PARAMETERS = /'(?:[^']|'')*'|"[^"]*"|--[^\n]*|\?(\d*)/g;

/** A statement as it was given, looked through once: tests give the same ones again and again. */
interface Given {
  /** How many values it takes. */
  count: number;
  /** By which of its values are whole numbers, a digit each: its text for SQLite. */
  texts: Map<string, string>;
}
const given = new Map<string, Given>();

function lookThrough(sql: string): Given {
  if (Buffer.byteLength(sql) > MAX_STATEMENT_BYTES) throw new Error('statement too long');
  let count = 0;
  replaceParameters(sql, (found, at) => {
    count = Math.max(count, at);
    return found;
  });
  return { count, texts: new Map() };
}

/** @param replace gets each parameter and its number. */
function replaceParameters(sql: string, replace: (found: string, at: number) => string): string {
  let last = 0;
  return sql.replace(PARAMETERS, (found: string, number: string | undefined) => {
    if (number === undefined) return found;
    last = number === '' ? last + 1 : Number(number);
    return replace(found, last);
  });
}

/** @returns the statement with its whole numbers as the reals that D1 makes of them; sql.js binds integers. */
function checked(sql: string, values: readonly SqlValue[]): string {
  let known = given.get(sql);
  if (known === undefined) given.set(sql, (known = lookThrough(sql)));
  if (values.length > MAX_BOUND_VALUES) throw new Error('too many SQL variables');
  if (known.count !== values.length) throw new Error('Wrong number of parameter bindings for SQL query.');
  let whole = '';
  for (const value of values) whole += Number.isInteger(value) ? '1' : '0';
  let text = known.texts.get(whole);
  if (text === undefined) {
    text = replaceParameters(sql, (found, at) => (whole[at - 1] === '1' ? `(${found}+0.0)` : found));
    known.texts.set(whole, text);
  }
  return text;
}

function bindable(value: unknown): SqlValue {
  if (typeof value === 'string' && Buffer.byteLength(value) > MAX_VALUE_BYTES)
    throw new Error('D1_ERROR: string or blob too big: SQLITE_TOOBIG');
  if (value === null || typeof value === 'string' || typeof value === 'number') return value;
  throw new Error(`D1_TYPE_ERROR: Type '${typeof value}' not supported for value '${String(value)}'`);
}

/** How D1 says it. */
function asD1(error: unknown): Error {
  const message = error instanceof Error ? error.message : String(error);
  return new Error(
    `D1_ERROR: ${message}: ${/constraint failed/.test(message) ? 'SQLITE_CONSTRAINT' : 'SQLITE_ERROR'}`,
  );
}
