/** What a request that looks for names costs the one database of all tenants, on the real D1 in workerd. */
import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { MAX_GRANTS } from '../../worker/access/limits.ts';
import { SUGGESTIONS_PER_SECOND } from '../../worker/completions/limits.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import { createD1GrantLedger } from '../../worker/access/d1-grants.ts';
import { NO_CAPS } from '../contracts/sample-rows.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';
import { openRealDatabase, startDatabases } from '../worker/platform/real-database.ts';
import { recordStatements, scansOf, type Asked } from '../worker/platform/recording-database.ts';

/** Of one answer to missing names: seven look-ups of them, five of grants, and one batch of at most 15. */
const STATEMENTS = 27;
/** Of one list: the grants, and three reads of at most five. */
const LIST_STATEMENTS = 16;

let miniflare: Miniflare;
let db: SqlDatabase;
let asked: Asked[];
let graft: AppHarness;
let key: string;

beforeAll(async () => {
  miniflare = startDatabases();
});
afterAll(() => miniflare.dispose());

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  db = await openRealDatabase(miniflare);
  const recorder = recordStatements(db);
  asked = recorder.asked;
  graft = await createAppHarness({ db: recorder.db });
  const made = await graft.request('/admin/keys', { body: { tenant: 'carol', scopes: ['lab/**', 'free'] } });
  ({ key } = (await made.json()) as { key: string });
});

/** @param owner of `count` names `<prefix>00001` and on, all with a live version. */
async function fill(prefix: string, owner: string, count: number): Promise<void> {
  const numbers = 'WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?2)';
  const name = "?1 || substr('000000' || i, -6)";
  await db.batch([
    db
      .prepare(
        `${numbers} INSERT INTO names (name, owner, version, latest, sequence) SELECT ${name}, ?3, 1, 1, 1 FROM c`,
      )
      .bind(prefix, count, owner),
    db
      .prepare(
        `${numbers} INSERT INTO versions (name, version, digest, owner, chain, chain_id, base_id, base_digest,
           bytes, rank, rank_sum, created_at, created_by)
         SELECT ${name}, 1, ?4, ?3, '[]', ?4, 'tiny', ?4, 1, 1, 1, 1, 'x' FROM c`,
      )
      .bind(prefix, count, owner, 'a'.repeat(64)),
  ]);
}

/** As many grants as one can have, from more givers than one may. */
async function flood(tenant: string): Promise<void> {
  const caps = { holder: MAX_GRANTS, pair: MAX_GRANTS, giver: MAX_GRANTS };
  const ledger = createD1GrantLedger(db);
  for (let i = 0; i < MAX_GRANTS; i += 1) {
    const scope = i % 3 === 0 ? `eve/g${i}` : i % 3 === 1 ? `eve/g${i}/**` : `room/${i % 7}/**`;
    const row = { tenant, scope, owner: `eve${i % 20}`, created_at: 1, created_by: 'x' };
    await ledger.add(row, caps);
  }
}

const ask = (body: object) =>
  graft.request('/v1/chat/completions', {
    key,
    body: { model: 'base', messages: [{ role: 'user', content: 'hi' }], ...body },
  });
const missing = (round: number) => ({
  adapters: Array.from({ length: 7 }, (_, i) => ({ name: `nope${round}/${i}` })),
});

/** What `request` asked of D1, less what is noted of it behind it; no statement of it goes through a table. */
async function costOf(request: () => Promise<Response>): Promise<{ statements: number; rowsRead: number }> {
  asked.length = 0;
  await request();
  const cost = asked.filter(({ sql }) => !/^\s*(INSERT|UPDATE|DELETE)\b/.test(sql));
  for (const one of cost) expect([one.sql, await scansOf(db, one)]).toEqual([one.sql, []]);
  return { statements: cost.length, rowsRead: cost.reduce((sum, { rowsRead }) => sum + rowsRead, 0) };
}

describe('a request with seven adapters that do not exist', () => {
  it('is explained once, in a fixed number of statements, whatever was granted', async () => {
    const before = await costOf(() => ask(missing(0)));
    await flood('carol');
    graft.clock.advance(61_000);
    const after = await costOf(() => ask(missing(1)));
    expect(after.statements).toBeLessThanOrEqual(STATEMENTS);
    expect(before.statements).toBeLessThanOrEqual(STATEMENTS);
    const answer = await ask(missing(2));
    expect(await answer.json()).toMatchObject({
      error: { code: 'model_not_found', message: expect.stringContaining("'nope2/0'") },
    });
  });

  it('has suggestions only so often a second; then it costs the look-ups alone', async () => {
    await fill('carol/notes', 'carol', 3);
    const hinted = async (model: string) =>
      ((await (await ask({ model })).json()) as { error: { message: string } }).error.message.includes(
        'Did you mean',
      );
    const hints: boolean[] = [];
    for (let i = 0; i < 4; i += 1) hints.push(await hinted(`carol/notes00000x${i}`));
    expect(hints).toEqual([0, 1, 2, 3].map((i) => i < SUGGESTIONS_PER_SECOND));
    const { statements } = await costOf(() => ask(missing(1)));
    expect(statements).toBeLessThanOrEqual(7 + 4);
    graft.clock.advance(1_000);
    expect(await hinted('carol/notes00000y')).toBe(true);
  });

  it('costs no more where there are a hundred times as many names', async () => {
    const rows: number[] = [];
    for (const count of [1_000, 99_000]) {
      for (const [prefix, owner] of [
        ['carol/n', 'carol'],
        ['lab/n', 'lab'],
        ['others/n', 'mallory'],
      ] as const)
        await fill(`${prefix}${count}/`, owner, count / 3);
      const cost = await costOf(() => ask({ model: 'carol/n1000/00015' }));
      rows.push(cost.rowsRead);
      graft.clock.advance(61_000);
    }
    const [few = 0, many = 0] = rows;
    expect(few).toBeGreaterThan(0);
    expect(many).toBeLessThanOrEqual(few * 1.5);
  });
});

describe('GET /v1/models', () => {
  const list = (query = '') => graft.request(`/v1/models?${query}`, { key });

  it('asks a fixed number of statements, whatever was granted', async () => {
    await flood('carol');
    await fill('eve/g', 'eve0', 100);
    const { statements } = await costOf(() => list());
    expect(statements).toBeLessThanOrEqual(LIST_STATEMENTS);
  });

  it('gives up after a few reads where nothing can be used, and goes on from there', async () => {
    // Granted, but each stands on what was not.
    await fill('eve/g', 'eve', 4_000);
    const stands = JSON.stringify([
      { digest: 'b'.repeat(64), scale: 1, name: 'secret', owner: 'eve' },
      { digest: 'a'.repeat(64), scale: 1, name: 'eve/g', owner: 'eve' },
    ]);
    await db.prepare("UPDATE versions SET chain = ? WHERE name < 'eve/g003900'").bind(stands).run();
    const grant = { tenant: 'carol', scope: 'eve/**', owner: 'eve', created_at: 1, created_by: 'x' };
    await createD1GrantLedger(db).add(grant, NO_CAPS);
    const found: string[] = [];
    let pages = 0;
    for (let after: string | undefined = ''; after !== undefined; pages += 1) {
      asked.length = 0;
      const page = (await (await list(`prefix=eve&after=${after}`)).json()) as {
        data: { id: string }[];
        has_more: boolean;
        after?: string;
      };
      expect(asked.length).toBeLessThanOrEqual(LIST_STATEMENTS);
      expect(page.has_more).toBe(page.after !== undefined);
      found.push(...page.data.map(({ id }) => id));
      after = page.after;
    }
    expect(pages).toBeGreaterThan(1);
    expect(found).toHaveLength(101);
  });
});
