/** What was erased is nowhere: no row, no value, no object, no file, nothing in an origin's memory. */
import { ERASE_SETTLE_MS } from '../../../protocol/admin-api/erasures.ts';
import { STALE_MS } from '../truth.ts';
import { committed } from '../operations/operation.ts';
import type { Simulation } from '../simulation.ts';
import { countedMinutes, listedRequests, summedUsage, waitingPrompts } from './gathered.ts';

/** Tables that keep a name on purpose (docs/run/backups.md, "What stays"), or as somebody else's own words. */
const KEEP_NAMES = new Set(['usage', 'usage_days', 'grants', 'grant_refusals', 'keys', 'history', 'rooms']);
/** A client's list of requests has what it asked for in vain. */
const IN_VAIN = /unknown_name\\*":\\*"[^"\\]*/g;

/** Rows that belong to a tenant, each told from a later one of the same name; ?1 is the tenant. */
const OF_TENANT = {
  keys: 'SELECT id AS row FROM keys WHERE tenant = ?1',
  rooms: "SELECT name || ' ' || created_at AS row FROM rooms WHERE tenant = ?1",
  grants:
    "SELECT scope || ' ' || tenant || ' ' || owner || ' ' || created_at AS row FROM grants WHERE ?1 IN (tenant, owner)",
  grant_refusals:
    "SELECT tenant || ' ' || owner || ' ' || created_at AS row FROM grant_refusals WHERE ?1 IN (tenant, owner)",
  tenant_limits: "SELECT tenant || ' ' || revision AS row FROM tenant_limits WHERE tenant = ?1",
  names: 'SELECT name AS row FROM names WHERE owner = ?1',
  versions: "SELECT name || '@' || version AS row FROM versions WHERE owner = ?1",
  evaluations:
    "SELECT name || ' ' || label || ' ' || sha256 || ' ' || created_at AS row FROM evaluations WHERE tenant = ?1",
  experiments: 'SELECT id AS row FROM experiments WHERE owner = ?1',
  history: "SELECT id AS row FROM history WHERE owner = ?1 AND action <> 'erase'",
  preferences: "SELECT chosen || ' ' || rejected AS row FROM preferences WHERE tenant = ?1",
  kept_prompts: 'SELECT id AS row FROM kept_prompts WHERE tenant = ?1',
  row_files: 'SELECT id AS row FROM row_files WHERE tenant = ?1',
  training_jobs: 'SELECT id AS row FROM training_jobs WHERE tenant = ?1',
  // What a file dropped into KV has made since is its own.
  blob_holders: `SELECT digest AS row FROM blob_holders h WHERE tenant = ?1 AND NOT EXISTS (
    SELECT 1 FROM chain_members m JOIN versions v ON v.name = m.name AND v.version = m.version
    WHERE m.digest = h.digest AND v.owner = ?1)`,
} as const;

type Rows = ReadonlyMap<string, ReadonlySet<string | number>>;

/** What a tenant has in D1. */
export async function rowsOfTenant(sim: Simulation, tenant: string): Promise<Rows> {
  const rows = new Map<string, Set<string | number>>();
  for (const [table, sql] of Object.entries(OF_TENANT)) {
    const found = await committed<{ row: string | number }>(sim, sql, tenant);
    rows.set(table, new Set(found.map(({ row }) => row)));
  }
  return rows;
}

/** Of what a tenant had before its erasure, nothing is left: what is there has been made since. */
export async function checkTenantErased(sim: Simulation, tenant: string, before: Rows): Promise<void> {
  const now = await rowsOfTenant(sim, tenant);
  // A dropped file that was taken meanwhile has made the name again.
  const isMadeAgain = (name: string | number): boolean =>
    [...(now.get('versions') ?? [])].some(
      (version) => String(version).startsWith(`${name}@`) && before.get('versions')?.has(version) !== true,
    );
  for (const [table, rows] of now)
    for (const row of rows)
      if (before.get(table)?.has(row) === true && !(table === 'names' && isMadeAgain(row)))
        sim.fail('6 nothing of it is left after an erasure', `${tenant} still has ${row} in ${table}`);
}

/** By which an isolate's clock may be wrong, and a write may be late. */
const SKEW_MS = 60_000;

/** KV may show a dropped file for so long after it has been taken away, and the schedule may be late, ms. */
const DROP_LATE_MS = STALE_MS + 2 * SKEW_MS;

/** Columns that say which key made a row. */
const MAKERS = {
  keys: 'created_by',
  rooms: 'created_by',
  grants: 'created_by',
  grant_refusals: 'created_by',
  versions: 'created_by',
  pins: 'actor',
  history: 'actor',
} as const;

/** Rows of keys are never deleted but by an erasure: nothing is there that such a key has made. */
async function checkMakers(sim: Simulation): Promise<void> {
  for (const [table, column] of Object.entries(MAKERS)) {
    const left = await committed<Record<string, unknown>>(
      sim,
      `SELECT * FROM ${table} WHERE ${column} GLOB 'key_*' AND ${column} NOT IN (SELECT id FROM keys)
       ${table === 'history' ? "AND action <> 'erase'" : ''}`,
    );
    for (const row of left) {
      const at = Number(row['created_at'] ?? row['at']);
      const said = JSON.stringify(row);
      // The key was made while the erasure ran, revoked by its tenant, and went with the others.
      const isLater = sim.tenants.some(
        ({ id }) => said.includes(id) && sim.truth.erasedDuring(id, at - SKEW_MS, at + SKEW_MS),
      );
      if (isLater) continue;
      sim.fail(
        '6 nothing of it is left after an erasure',
        `a key of an erased tenant has made this of ${table}: ${said.slice(0, 300)}`,
      );
    }
  }
}

/** Erasures that have not ended. */
export async function unendedErasures(sim: Simulation): Promise<number> {
  const { results } = await sim.world.database.truth
    .prepare('SELECT COUNT(*) AS many FROM erasures')
    .all<{ many: number }>();
  return results[0]?.many ?? 0;
}

export async function checkErased(sim: Simulation): Promise<void> {
  await checkMakers(sim);
  checkTallies(sim);
  const { world, truth } = sim;
  const wrong = (what: string): void => sim.fail('6 nothing of it is left after an erasure', what);
  const names = truth.names.ever().filter((name) => truth.names.now(name) === undefined);
  const rows = await allRows(sim);
  for (const name of names) {
    const said = new RegExp(`(?<![a-z0-9/])${name}(?![a-z0-9/])`);
    const isLater = (table: string, row: string): boolean =>
      // A file dropped for the name has been refused since: nobody owns it.
      (table === 'drops' &&
        (JSON.parse(row) as { at: number }).at > truth.names.lastAt(name) + DROP_LATE_MS) ||
      // A job that is to make it anew.
      (table.startsWith('training_') && jobBegan(row) > truth.names.lastAt(name)) ||
      // An isolate that cannot reach KV may go on with what it knew of the name, and then notes a request.
      notedUntil(table, row) > truth.names.lastAt(name) + ERASE_SETTLE_MS - SKEW_MS;
    for (const { table, row } of rows)
      if (!KEEP_NAMES.has(table) && said.test(row) && !isLater(table, row))
        wrong(`${name} is in ${table}: ${row.slice(0, 200)}`);
    // Others' rows of history may name it; its own may not.
    for (const { table, row } of rows)
      if (table === 'history' && row.includes(`"name":"${name}"`) && !row.includes('"action":"erase"'))
        wrong(`${name} is in history: ${row.slice(0, 200)}`);
  }
  await checkKeysOfRequests(sim);
  const kept = new Set(
    rows.filter(({ table }) => table === 'versions').flatMap(({ row }) => row.match(/[0-9a-f]{64}/g) ?? []),
  );
  // Another tenant has the same file, or has sent parts of it.
  const held = rows
    .filter(({ table }) => table === 'blob_holders' || table === 'blob_parts')
    .map(({ row }) => row);
  for (const [digest, at] of truth.vanished()) {
    const sent = sim.sentAt.get(digest) ?? -Infinity;
    if (kept.has(digest) || sent >= at - 60_000 || held.some((row) => row.includes(digest))) continue;
    const [key] = world.kv.keys(`blob:${digest}`);
    if (key !== undefined) wrong(`KV has ${key}, erased at ${at}`);
    const object = [...world.bucket.objects.keys()].find((one) => one.startsWith(`blob/${digest}`));
    if (object !== undefined) wrong(`R2 has ${object}, erased at ${at}`);
    for (const { id, disk, running } of world.origins) {
      const file = [...disk.files.keys()].find((one) => one.includes(digest));
      if (file !== undefined) wrong(`${id} has ${file}, erased at ${at}`);
      if (running?.process.residents().some((one) => one.digest === digest && one.ready) === true)
        wrong(`${id} has ${digest} in its memory, erased at ${at}`);
    }
  }
}

/** When the job was created of which a row is, unix ms; -Infinity = there is none. */
const jobBegan = (row: string): number => {
  const time = /ftjob-([0-9a-z]{9})/.exec(row)?.[1];
  return time === undefined ? -Infinity : parseInt(time, 36) + SKEW_MS;
};

const NOTES = new Set(['traffic', 'minutes', 'requests', 'kept_prompts']);

/** Until when requests were noted in a row of one of their tables, unix ms; -Infinity = it is none of these. */
function notedUntil(table: string, row: string): number {
  if (!NOTES.has(table)) return -Infinity;
  const { at, step } = JSON.parse(row) as { at: number; step?: number };
  return step === undefined ? at : (at + step) * 1_000;
}

/** What an erased experiment has left in its objects: the mark that it was erased, so that late ratings count nothing. */
function checkTallies(sim: Simulation): void {
  const { world, truth } = sim;
  const erased = truth.experiments.ever().filter((id) => truth.experiments.now(id) === undefined);
  for (const binding of ['EXPERIMENTS', 'PAIRS']) {
    const objects = world.objects.get(binding);
    for (const [object, disk] of objects?.stored() ?? []) {
      const experiment = erased.find((id) => object.startsWith(id));
      if (experiment === undefined) continue;
      const keys = [...disk.keys()].filter((key) => key !== 'erased' && key !== 'schema');
      const rows = objects?.inserted().get(object) ?? 0;
      if (keys.length + rows > 0)
        sim.fail(
          '6 nothing of it is left after an erasure',
          `${binding}/${object} has ${keys.join(', ')} and ${rows} rows of ${experiment}`,
        );
    }
  }
}

/** An erased tenant's keys are gone, and with them what was noted of their requests, however long these took. */
async function checkKeysOfRequests(sim: Simulation): Promise<void> {
  const { results } = await sim.world.usageDatabase.truth
    .prepare(
      `SELECT 'usage' AS place, tenant, key_id, (hour + 1) * 3600000 AS until FROM usage
       UNION SELECT 'traffic', tenant, key_id, (at + step) * 1000 FROM traffic`,
    )
    .all<{ place: string; tenant: string; key_id: string; until: number }>();
  const known = new Set(sim.truth.keys.keys());
  const gathered = [
    ...listedRequests(sim).map((one) => ({ place: 'requests', ...one, until: one.at })),
    ...countedMinutes(sim).map((one) => ({
      place: 'minutes',
      ...one,
      key_id: one.keyId,
      until: (one.at + 60) * 1_000,
    })),
    ...[...summedUsage(sim), ...waitingPrompts(sim)].map(({ tenant, keyId, at }) => ({
      ...{ place: 'what waits for D1', tenant, key_id: keyId, until: at },
    })),
  ];
  for (const { place, tenant, key_id: key, until } of [...results, ...gathered])
    // An isolate that cannot reach KV may go on with what it knows of a key, and says that this is stale.
    if (
      key !== '' &&
      sim.truth.keys.ever().includes(key) &&
      !known.has(key) &&
      until < sim.truth.keys.lastAt(key) + ERASE_SETTLE_MS - SKEW_MS
    )
      sim.fail(
        '6 nothing of it is left after an erasure',
        `${place} has a request of ${tenant}, by its erased key ${key}`,
      );
}

/** All of D1, and of gatherers, but what a client asked for in vain. */
async function allRows(sim: Simulation): Promise<{ table: string; row: string }[]> {
  const { database, usageDatabase } = sim.world;
  const gathered = [
    ...listedRequests(sim).map((row) => ({ table: 'requests', row })),
    ...countedMinutes(sim).map((row) => ({ table: 'minutes', row: { ...row, step: 60 } })),
    ...waitingPrompts(sim).map((row) => ({ table: 'kept_prompts', row })),
  ];
  const rows = gathered.map(({ table, row }) => ({
    table,
    row: JSON.stringify(row).replaceAll(IN_VAIN, ''),
  }));
  for (const { truth: db } of new Set([database, usageDatabase])) {
    const { results: tables } = await db
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
      .all<{ name: string }>();
    for (const { name } of tables) {
      const { results } = await db.prepare(`SELECT * FROM "${name}"`).all();
      rows.push(...results.map((row) => ({ table: name, row: JSON.stringify(row).replaceAll(IN_VAIN, '') })));
    }
  }
  return rows;
}
