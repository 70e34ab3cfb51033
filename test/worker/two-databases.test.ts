/**
 * Usage and traffic in a database of their own. Each has its own tables alone here, so that a statement, or a transaction,
 * which spans the two fails.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BackupPlan, BackupRows, EndedRestore } from '../../protocol/admin-api/backup.ts';
import { EraseAnswer } from '../../protocol/admin-api/erasures.ts';
import type { UsageReport } from '../../protocol/admin-api/tenants.ts';
import type { TrafficReport } from '../../protocol/admin-api/traffic.ts';
import { USAGE_TABLES } from '../../worker/backup/d1-backup.ts';
import { createD1Stores } from '../../worker/d1-stores.ts';
import { guardDatabase, type SqlDatabase } from '../../worker/platform/d1-database.ts';
import { trainingCard } from '../contracts/sample-training.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import { driveAll } from './platform/drive-ledgers.ts';
import { recordStatements } from './platform/recording-database.ts';
import { splitDatabases } from './platform/split-databases.ts';
import { openSqlite } from './platform/sqlite.ts';
import { createJobRig } from './training/job-rig.ts';
import { erasedIn, erasePages, eraseUntilRefused } from './erasure/erase-pages.ts';

async function openTwo() {
  const [bare, bareUsage] = [openSqlite(), openSqlite()];
  await splitDatabases(bare, bareUsage);
  return { bare, bareUsage };
}

/** Fails while `isAway` says so, before or after the statement has run. */
function failing(db: SqlDatabase, how: { isAway: null | 'before' | 'after' }): SqlDatabase {
  return guardDatabase({
    prepare: (sql) => db.prepare(sql),
    async batch(statements) {
      if (how.isAway === 'before') throw new Error('D1_ERROR: away');
      const answers = await db.batch(statements);
      if (how.isAway === 'after') throw new Error('D1_ERROR: away');
      return answers;
    },
  });
}

const adapter = tinyAdapter({ seed: 11 });

async function createRig(how: Parameters<typeof failing>[1] = { isAway: null }) {
  const { bare, bareUsage } = await openTwo();
  const usageDb = failing(bareUsage, how);
  const rig = await createJobRig({ db: guardDatabase(bare), usageDb });
  const { graft } = rig;
  const { answer: answered } = graft.origin;
  graft.origin.answer = (method, path, ...more) =>
    path === '/adapters/drop' ? Response.json({ files: 1, in_use: 0 }) : answered(method, path, ...more);
  const read = async <T>(path: string, body?: object): Promise<T> => {
    const answer = await graft.request(path, body === undefined ? {} : { body });
    const text = await answer.text();
    expect([answer.status, text]).toEqual([200, expect.any(String)]);
    return JSON.parse(text) as T;
  };
  const text = async (): Promise<string> => {
    const lines: string[] = [];
    for (const db of [bare, bareUsage]) {
      const { results } = await db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
        .all<{ name: string }>();
      for (const { name } of results)
        lines.push(JSON.stringify((await db.prepare(`SELECT * FROM "${name}"`).all()).results));
    }
    return lines.join('\n');
  };
  return {
    ...{ ...rig, bare, bareUsage, read, text },
    async tokens() {
      const row = await bareUsage
        .prepare('SELECT COALESCE(SUM(prompt_tokens + completion_tokens), 0) AS n FROM usage')
        .first<{ n: number }>();
      return row?.n;
    },
    /** A job of alice's that has trained. */
    async train() {
      const alice = await rig.makeKey({ tenant: 'alice', scopes: ['**'], train: true });
      const { body } = await rig.create(alice);
      await rig.run();
      rig.origin.finish(adapter);
      return { alice, id: body.id };
    },
    /** @returns rows of usage that it erased. */
    async erase(target: object, { cursor = null }: { cursor?: string | null } = {}) {
      const ask = (at: string | null) => read('/admin/erase', { ...target, usage: true, cursor: at });
      return erasedIn(await erasePages(ask, cursor), 'usage');
    },
  };
}
type Rig = Awaited<ReturnType<typeof createRig>>;

beforeEach(() => {
  for (const method of ['log', 'error'] as const) vi.spyOn(console, method).mockReturnValue(undefined);
});
afterEach(() => vi.restoreAllMocks());

it('answers everything that a ledger is asked, with no statement that spans both', async () => {
  const { bare, bareUsage } = await openTwo();
  const [registry, usage] = [recordStatements(bare), recordStatements(bareUsage)];
  const both = {
    get length() {
      return registry.asked.length + usage.asked.length;
    },
  };
  expect(await driveAll(createD1Stores(registry.db, usage.db), both)).toEqual([]);
  expect(usage.asked.length).toBeGreaterThan(50);
});

describe('the real composition', () => {
  /** Completions of a version and of the base, a job, and hours of traffic. */
  async function fill(rig: Rig) {
    const { graft } = rig;
    expect((await graft.publish('alice/notes', adapter, { owner: 'alice' })).status).toBe(201);
    const key = await rig.makeKey({ tenant: 'alice', scopes: ['**'] });
    for (const model of ['alice/notes', 'base']) {
      const body = { model, messages: [{ role: 'user', content: 'hi' }] };
      expect((await graft.request('/v1/chat/completions', { key: key.key!, body })).status).toBe(200);
    }
    await graft.settled();
    await rig.train();
    await rig.run();
    await graft.services.gatherers.writeOut();
  }

  it('counts, reports, backs up, restores, and erases', async () => {
    const rig = await createRig();
    const began = rig.graft.clock.now() - 3_600_000;
    await fill(rig);
    const report = await rig.read<UsageReport>('/admin/usage?by=name&tenant=alice');
    expect(report.rows.map(({ group }) => group).sort()).toEqual(['alice/first', 'alice/notes', 'base']);
    const { results: bases } = await rig.bareUsage
      .prepare('SELECT name, base FROM usage ORDER BY name')
      .all();
    expect(bases).toEqual([
      { name: 'alice/first', base: TINY_BASE.id },
      { name: 'alice/notes', base: TINY_BASE.id },
      { name: 'base', base: 'base' },
    ]);
    rig.graft.clock.advance(2 * 86_400_000);
    await rig.run();
    const traffic = await rig.read<TrafficReport>(
      `/admin/traffic?from=${new Date(began).toISOString()}&step=3600`,
    );
    expect(traffic.total.requests).toBe(2);

    const plan = BackupPlan.parse(await rig.read('/admin/backup'));
    const names = plan.tables.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining([...USAGE_TABLES, 'versions']));
    const id = 'a'.repeat(32);
    const used = await createRig();
    await used.bareUsage
      .prepare(
        `INSERT INTO usage (tenant, hour, key_id, name, version, base, requests, errors, prompt_tokens, completion_tokens)
         VALUES ('alice', 1, 'key_1', 'base', 0, 'base', 1, 0, 1, 1)`,
      )
      .run();
    const refused = await used.graft.request('/admin/backup/restore', { body: { id } });
    expect([refused.status, await refused.text()]).toEqual([409, expect.stringContaining('(DB_USAGE)')]);
    const other = await createRig();
    await other.read('/admin/backup/restore', { id });
    for (const table of names.filter((name) => name !== 'proofs'))
      for (let cursor: string | null = null; ;) {
        const query = new URLSearchParams({ table, ...(cursor === null ? {} : { cursor }) });
        const page = BackupRows.parse(await rig.read(`/admin/backup/rows?${query}`));
        const { columns, rows } = page;
        if (rows.length > 0) await other.read('/admin/backup/rows', { id, table, columns, rows });
        if (page.cursor === null) break;
        ({ cursor } = page);
      }
    const { tables } = EndedRestore.parse(await other.read('/admin/backup/end', { id }));
    for (const table of ['usage', 'traffic', 'versions']) {
      const db = USAGE_TABLES.includes(table) ? rig.bareUsage : rig.bare;
      const { results } = await db.prepare(`SELECT * FROM ${table}`).all();
      expect(results.length).toBeGreaterThan(0);
      expect(tables).toContainEqual({ name: table, rows: results.length });
    }
    expect(await other.tokens()).toBe(await rig.tokens());

    expect(await rig.text()).toContain('alice');
    expect(await rig.erase({ name: 'alice/notes' })).toBe(1);
    expect(await rig.erase({ tenant: 'alice' })).toBe(2);
    for (let runs = 0; runs < 30; runs += 1) await rig.run();
    expect(await rig.tokens()).toBe(0);
    const left = (await rig.text()).split('\n').filter((line) => line.includes('alice'));
    // That it was erased.
    expect(left).toEqual([expect.stringContaining('"action":"erase"')]);
  });
});

describe('a database of usage that is away', () => {
  it.each(['before', 'after'] as const)('gets a job’s usage once, if it fails %s taking it', async (when) => {
    const how: { isAway: null | 'before' | 'after' } = { isAway: null };
    const rig = await createRig(how);
    const { alice, id } = await rig.train();
    how.isAway = when;
    await expect(rig.run()).rejects.toThrow('D1: D1_ERROR: away');
    expect((await rig.get(id, alice)).status).toBe('succeeded');
    how.isAway = null;
    for (let runs = 0; runs < 3; runs += 1) await rig.run();
    expect(await rig.tokens()).toBe(trainingCard().tokens);
    expect(await rig.count('training_usage')).toBe(0);
  });

  it('holds up an erasure, which the schedule ends', async () => {
    const how: { isAway: null | 'before' | 'after' } = { isAway: null };
    const rig = await createRig(how);
    const { id, alice } = await rig.train();
    how.isAway = 'before';
    await expect(rig.run()).rejects.toThrow('D1: D1_ERROR: away');
    expect((await rig.get(id, alice)).status).toBe('succeeded');
    // What the job has used is still to be counted, and is found all the same.
    how.isAway = null;
    const first = EraseAnswer.parse(
      await rig.read('/admin/erase', { tenant: 'alice', usage: true, dry_run: true }),
    );
    expect(first.plan).toMatchObject({ usage: 1 });
    how.isAway = 'before';
    const status = await eraseUntilRefused((cursor) =>
      rig.graft.request('/admin/erase', { body: { tenant: 'alice', usage: true, cursor } }),
    );
    expect(status).toBe(503);
    how.isAway = null;
    for (let runs = 0; runs < 30; runs += 1) await rig.run();
    expect(await rig.tokens()).toBe(0);
    const { results } = await rig.bare.prepare('SELECT step FROM erasures').all();
    expect(results).toEqual([]);
  });
});
