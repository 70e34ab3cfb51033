/** What operators do, and what shows how things stand. */
import type { BackupRows } from '../../../protocol/admin-api/backup.ts';
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import {
  admin,
  always,
  committed,
  has,
  liveKeys,
  NAME_REFUSALS,
  type Operation,
  pickName,
  repeat,
  someVersion,
} from './operation.ts';

/** A view of the tenant. */
const view =
  (...paths: readonly string[]) =>
  async (sim: Simulation, actor: Actor): Promise<Outcome> =>
    (await admin(sim, actor, { path: actor.random.pick(paths), past: true })).outcome;

/** A view of the operator. */
const asOperator =
  (...paths: readonly string[]) =>
  async (sim: Simulation, actor: Actor): Promise<Outcome> =>
    (await admin(sim, actor, { path: actor.random.pick(paths), key: sim.world.adminKey })).outcome;

/** No table: they lie beside the files. */
const PROOFS = 'SELECT digest, proof AS sha256 FROM versions WHERE proof IS NOT NULL';

/** All rows of all tables that a backup has: what is there before and after is in it. */
async function readBackup(sim: Simulation, actor: Actor): Promise<Outcome> {
  const key = sim.world.adminKey;
  const plan = await repeat(sim, actor, { path: '/admin/backup', key });
  if (plan.outcome !== 'done') return plan.outcome;
  const { tables } = plan.json as { tables: { name: string; rows: number }[] };
  for (const { name } of tables) {
    const source = name === 'proofs' ? PROOFS : `SELECT * FROM "${name}"`;
    const rowsNow = async (): Promise<string[]> =>
      (await committed<object>(sim, source)).map((row) => JSON.stringify(Object.entries(row)));
    const keys =
      name === 'proofs'
        ? [{ name: 'digest' }, { name: 'sha256' }]
        : await committed<{ name: string }>(sim, 'SELECT name FROM pragma_table_info(?) WHERE pk > 0', name);
    /** A mark on it may come and go meanwhile. */
    const keyOf = (row: ReadonlyMap<string, unknown>): string =>
      JSON.stringify(keys.map((key) => row.get(key.name)));
    const before = await rowsNow();
    const read = new Set<string>();
    let cursor: string | null = null;
    do {
      const query = new URLSearchParams({ table: name, ...(cursor === null ? {} : { cursor }) });
      const page = await repeat(sim, actor, { path: `/admin/backup/rows?${query}`, key });
      if (page.outcome !== 'done') return page.outcome;
      const { columns, rows, cursor: next } = page.json as BackupRows;
      for (const row of rows) read.add(keyOf(new Map(columns.map((column, at) => [column, row[at]]))));
      cursor = next;
    } while (cursor !== null);
    const after = new Set(await rowsNow());
    const missing = before.find(
      (row) => after.has(row) && !read.has(keyOf(new Map(JSON.parse(row) as [string, unknown][]))),
    );
    if (missing !== undefined) sim.fail('a backup has everything', `it lacks ${missing} of ${name}`);
  }
  return 'done';
}

export const UPKEEP = {
  pin: {
    weight: 3,
    // Where none lasts, an origin that misses an unpinning is not told again by the way.
    possible: (sim, actor) => sim.pinsLast && has('live')(sim, actor),
    run: async (sim, actor) => {
      const name = pickName(sim, actor, 'live');
      const { outcome } = await admin(
        sim,
        actor,
        { path: '/admin/pins', body: { name }, key: sim.world.adminKey },
        NAME_REFUSALS,
      );
      if (outcome === 'done') sim.pinned.add(name);
      return outcome;
    },
  },
  unpin: {
    weight: 2,
    possible: (sim) => sim.pinned.size > 0,
    run: async (sim, actor) => {
      const name = actor.random.pick([...sim.pinned]);
      const path = `/admin/pins?${new URLSearchParams({ name })}`;
      const { outcome } = await admin(
        sim,
        actor,
        { method: 'DELETE', path, key: sim.world.adminKey },
        NAME_REFUSALS,
      );
      if (outcome !== 'lost') sim.pinned.delete(name);
      return outcome;
    },
  },
  'pin for a moment': {
    weight: 2,
    possible: has('live'),
    run: async (sim, actor) => {
      const name = pickName(sim, actor, 'live');
      const key = sim.world.adminKey;
      const pinned = await admin(sim, actor, { path: '/admin/pins', body: { name }, key }, NAME_REFUSALS);
      if (pinned.outcome !== 'done') return pinned.outcome;
      await sim.world.time.sleep(actor.life, actor.random.below(20_000));
      const path = `/admin/pins?${new URLSearchParams({ name })}`;
      const { outcome } = await admin(sim, actor, { method: 'DELETE', path, key }, NAME_REFUSALS);
      if (outcome !== 'lost') sim.pinned.delete(name);
      return outcome;
    },
  },
  warm: {
    weight: 1,
    possible: has('live'),
    run: async (sim, actor) => {
      const name = pickName(sim, actor, 'live');
      const version = actor.random.chance(0.5) ? { version: someVersion(sim, actor, name) } : {};
      const { outcome } = await admin(
        sim,
        actor,
        { path: '/admin/warm', body: { name, ...version } },
        NAME_REFUSALS,
      );
      return outcome;
    },
  },
  verify: {
    weight: 1,
    possible: has('live'),
    run: async (sim, actor) => {
      const name = pickName(sim, actor, 'live');
      const { outcome, json } = await admin(
        sim,
        actor,
        { path: '/admin/verify', body: { name } },
        NAME_REFUSALS,
      );
      if (outcome !== 'done') return outcome;
      const { origins } = json as { origins: { id: string; reason: string | null }[] };
      const wrong = origins.find(({ reason }) => reason === 'proof_mismatch');
      if (wrong !== undefined)
        sim.fail('2 tokens are made by a chain in force', `${name} answers otherwise at ${wrong.id}`);
      return outcome;
    },
  },
  evaluate: {
    weight: 1,
    possible: (_sim, { tenant }) => tenant.files.some(({ parent }) => parent === null),
    run: async (sim, actor) => {
      const { adapter } = actor.random.pick(actor.tenant.files.filter(({ parent }) => parent === null));
      const content = 'what is it';
      const rows = [{ user: content, expected: 'nothing' }];
      const { outcome, json } = await admin(
        sim,
        actor,
        { path: '/admin/evaluate', body: { digest: adapter.digest, rows } },
        NAME_REFUSALS,
      );
      if (outcome !== 'done') return outcome;
      const scores = (json as { rows?: unknown[] }).rows ?? [];
      if (scores.length !== rows.length) sim.fail('an evaluation scores each row', JSON.stringify(json));
      return outcome;
    },
  },
  'collect garbage': {
    weight: 1,
    possible: always,
    run: async (sim, actor) =>
      (await admin(sim, actor, { path: '/admin/gc', body: {}, key: sim.world.adminKey })).outcome,
  },
  'read a backup': { weight: 0.3, possible: always, run: readBackup },
  'list names': { weight: 1, possible: always, run: view('/admin/names') },
  'list removed': { weight: 1, possible: always, run: view('/admin/removed') },
  'list models': {
    weight: 2,
    possible: (sim, actor) => liveKeys(sim, actor).length > 0,
    run: async (sim, actor) =>
      (
        await admin(sim, actor, { path: '/v1/models', key: actor.random.pick(liveKeys(sim, actor)).text }, [
          'invalid_api_key',
        ])
      ).outcome,
  },
  'list versions': {
    weight: 1,
    possible: has('any'),
    run: async (sim, actor) =>
      (
        await admin(sim, actor, {
          path: `/admin/versions?${new URLSearchParams({ name: pickName(sim, actor, 'any') })}`,
          // Chains name adapters that were granted when they were made.
          past: true,
        })
      ).outcome,
  },
  history: { weight: 1, possible: always, run: view('/admin/history') },
  usage: {
    weight: 1,
    possible: always,
    run: view('/admin/usage', '/admin/usage?by=name', '/admin/usage?by=hour'),
  },
  traffic: { weight: 1, possible: always, run: view('/admin/traffic', '/admin/traffic?step=60') },
  requests: {
    weight: 1,
    possible: always,
    run: async (sim, actor) => {
      const { outcome, json } = await admin(sim, actor, {
        past: true,
        path: actor.random.pick([
          '/admin/requests',
          '/admin/requests?status=ok',
          '/admin/requests?status=failed',
        ]),
      });
      if (outcome !== 'done') return outcome;
      const { requests } = json as { requests: { id: string; tenant: string; at: number }[] };
      const other = requests.find(({ tenant }) => tenant !== actor.tenant.id);
      if (other !== undefined) sim.fail("3 nothing of another tenant's", `requests had ${other.id}`);
      return outcome;
    },
  },
  origins: {
    weight: 1,
    possible: always,
    run: (sim, actor) =>
      actor.random.chance(0.5)
        ? view('/admin/origins')(sim, actor)
        : asOperator('/admin/origins?figures=true&names=true', '/admin/origins/history?origin=o1')(
            sim,
            actor,
          ),
  },
  'look at everything': {
    weight: 1,
    possible: always,
    run: asOperator('/admin/pins', '/admin/names', '/admin/keys', '/admin/history', '/admin/usage?by=tenant'),
  },
} as const satisfies Record<string, Operation>;
