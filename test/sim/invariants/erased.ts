/** What was erased is nowhere: no row, no value, no object, no file, nothing in an origin's memory. */
import type { Simulation } from '../simulation.ts';

/** Tables that keep a name on purpose (docs/run/backups.md, "What stays"), or as somebody else's own words. */
const KEEP_NAMES = new Set(['usage', 'grants', 'grant_refusals', 'keys', 'history', 'rooms']);
/** A client's list of requests has what it asked for in vain. */
const IN_VAIN = /unknown_name\\*":\\*"[^"\\]*/g;

/** Erasures that have not ended. */
export async function unendedErasures(sim: Simulation): Promise<number> {
  const { results } = await sim.world.database.truth
    .prepare('SELECT COUNT(*) AS many FROM erasures')
    .all<{ many: number }>();
  return results[0]?.many ?? 0;
}

export async function checkErased(sim: Simulation): Promise<void> {
  const { world, truth } = sim;
  const wrong = (what: string): void => sim.fail('6 nothing of it is left after an erasure', what);
  const names = truth.names.ever().filter((name) => truth.names.now(name) === undefined);
  const rows = await allRows(sim);
  for (const name of names) {
    const said = new RegExp(`(?<![a-z0-9/])${name}(?![a-z0-9/])`);
    for (const { table, row } of rows)
      if (!KEEP_NAMES.has(table) && said.test(row)) wrong(`${name} is in ${table}: ${row.slice(0, 200)}`);
    // Others' rows of history may name it; its own may not, but for a repair that ran meanwhile.
    for (const { table, row } of rows)
      if (table === 'history' && row.includes(`"name":"${name}"`) && !/"action":"(erase|repair)"/.test(row))
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

/** An erased tenant's keys are gone, and with them what was noted of their requests, however long these took. */
async function checkKeysOfRequests(sim: Simulation): Promise<void> {
  const { results } = await sim.world.database.truth
    .prepare(
      `SELECT 'usage' AS place, tenant, key_id FROM usage UNION SELECT 'traffic', tenant, key_id FROM traffic
       UNION SELECT 'request_chunks', tenant, value ->> 'key_id' FROM request_chunks, json_each(requests)`,
    )
    .all<{ place: string; tenant: string; key_id: string }>();
  const known = new Set(sim.truth.keys.keys());
  for (const { place, tenant, key_id: key } of results)
    if (key !== '' && sim.truth.keys.ever().includes(key) && !known.has(key))
      sim.fail(
        '6 nothing of it is left after an erasure',
        `${place} has a request of ${tenant}, by its erased key ${key}`,
      );
}

/** All of D1 but what a client asked for in vain. */
async function allRows(sim: Simulation): Promise<{ table: string; row: string }[]> {
  const db = sim.world.database.truth;
  const { results: tables } = await db
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
    .all<{ name: string }>();
  const rows: { table: string; row: string }[] = [];
  for (const { name } of tables) {
    const { results } = await db.prepare(`SELECT * FROM "${name}"`).all<Record<string, unknown>>();
    // A drop whose file is deleted while its name is erased is noted once more, as removed: not mended yet.
    const kept = results.filter((row) => name !== 'drops' || row['removed_at'] === null);
    rows.push(...kept.map((row) => ({ table: name, row: JSON.stringify(row).replaceAll(IN_VAIN, '') })));
  }
  return rows;
}
