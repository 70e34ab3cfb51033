/** Backups by the admin API, in real workerd: every table in pages, files in R2 into KV, and what is refused. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BackupPlan, BackupRows, EndedRestore, MissingFiles } from '../../../protocol/admin-api/backup.ts';
import type { KeptRows } from '../../../protocol/admin-api/evaluations.ts';
import { sha256Hex } from '../../../protocol/identity.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { chat, startTestEdge, type TestEdge } from '../edge-harness.ts';

const PART_BYTES = 300;
const ID = 'a'.repeat(32);
const ROWS = Array.from({ length: 20 }, (_, i) => ({ user: `row ${i}`, expected: 'x'.repeat(20_000) }));
const adapter = tinyAdapter({ seed: 1 });
let from: TestEdge;
let to: TestEdge;
let key: string;
beforeAll(async () => {
  from = await startTestEdge({ r2Bucket: 'graft-blobs' });
  to = await startTestEdge({ usageDatabase: 'graft-usage' });
  expect((await from.publish({ name: 'a/b', adapter, partBytes: PART_BYTES })).status).toBe(201);
  key = await from.makeKey({ tenant: 'default' });
  const kept = await from.admin('/admin/evaluations', {
    method: 'POST',
    body: JSON.stringify({ name: 'a/b', label: 'holdout', rows: ROWS }),
  });
  expect(kept.status).toBe(201);
  const db = await from.edge.miniflare.getD1Database('DB');
  // More than a page, by a key of several columns; and rows of which few fit into one.
  await db
    .prepare(
      `INSERT INTO usage WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1201)
       SELECT 'x', i / 7, 'key_' || (i % 7), 'a/b', 1, 'tiny', i, 0, 1, 2 FROM n`,
    )
    .run();
  await db
    .prepare(
      `INSERT INTO webhook_messages WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9)
       SELECT 'm' || i, 'exp_1', 'https://x', '"' || hex(zeroblob(60000)) || '"', 1, NULL, i, i FROM n`,
    )
    .run();
});
afterAll(async () => {
  await from.stop();
  await to.stop();
});

const post = (edge: TestEdge, path: string, body: unknown) =>
  edge.admin(`/admin/backup/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
async function readTable(table: string): Promise<BackupRows[]> {
  const pages: BackupRows[] = [];
  for (let cursor: string | null = null; ;) {
    const query = new URLSearchParams({ table, ...(cursor === null ? {} : { cursor }) });
    const response = await from.admin(`/admin/backup/rows?${query}`);
    const page = BackupRows.parse(await response.json());
    pages.push(page);
    if (page.cursor === null) return pages;
    ({ cursor } = page);
  }
}
const sendPart = (index: number, bytes: Uint8Array<ArrayBuffer>, restore = ID) =>
  to.admin(`/admin/backup/parts/${adapter.digest}?index=${index}&restore=${restore}`, {
    method: 'PUT',
    body: bytes,
  });

describe('a backup', () => {
  it('has every row of every table, page by page', async () => {
    const plan = BackupPlan.parse(await (await from.admin('/admin/backup')).json());
    const db = await from.edge.miniflare.getD1Database('DB');
    expect(plan.schema).toMatch(/^[0-9a-f]{64}$/);
    expect(plan.tables.map(({ name }) => name)).not.toContain('d1_migrations');
    // What is kept for a time is in no backup.
    expect(plan.tables.map(({ name }) => name)).not.toContain('kept_prompts');
    expect(plan.tables.map(({ name }) => name)).not.toContain('row_files');
    // A restore compares all of KV.
    expect(plan.tables.map(({ name }) => name)).not.toContain('stale_rights');
    expect((await from.admin('/admin/backup/rows?table=kept_prompts')).status).toBe(
      (await from.admin('/admin/backup/rows?table=no_such_table')).status,
    );
    expect(plan.tables.slice(-2).map(({ name }) => name)).toEqual(['stored_files', 'stored_parts']);
    for (const { name } of plan.tables) {
      const pages = await readTable(name);
      // Beside the files.
      if (name === 'proofs') continue;
      const { results } = await db.prepare(`SELECT * FROM "${name}"`).all();
      expect([name, pages.flatMap((page) => page.rows).length]).toEqual([name, results.length]);
      const read = pages.flatMap(({ columns, rows: values }) =>
        values.map((row) => JSON.stringify(Object.fromEntries(columns.map((column, i) => [column, row[i]])))),
      );
      expect(new Set(read)).toEqual(new Set(results.map((row) => JSON.stringify(row))));
    }
    expect(await readTable('usage')).toHaveLength(3);
    expect((await readTable('webhook_messages')).length).toBeGreaterThan(2);
    for (const query of [
      'table=sqlite_master',
      'table=d1_migrations',
      'table=nothing',
      'table=names&cursor=[1,2]',
      'table=names&cursor=x',
      'table=proofs&cursor=x',
    ])
      expect([query, (await from.admin(`/admin/backup/rows?${query}`)).status]).toEqual([query, 400]);
    expect((await from.admin('/admin/backup/rows', { key: await from.makeAdminKey('alice') })).status).toBe(
      403,
    );
  });

  it('is brought back into an empty registry alone, one at a time, and only what was begun', async () => {
    expect((await post(from, 'restore', { id: ID })).status).toBe(409);
    const row = { id: ID, table: 'names', columns: ['name'], rows: [['x']] };
    expect((await post(to, 'rows', row)).status).toBe(409);
    expect((await sendPart(0, new Uint8Array(1))).status).toBe(409);
    expect(await (await post(to, 'restore', { id: ID, dry_run: true })).json()).toEqual({ resumed: false });
    expect((await post(to, 'rows', row)).status).toBe(409);
    expect(await (await post(to, 'restore', { id: ID })).json()).toEqual({ resumed: false });
    expect(await (await post(to, 'restore', { id: ID })).json()).toEqual({ resumed: true });
    expect((await post(to, 'restore', { id: 'b'.repeat(32) })).status).toBe(409);
    expect((await post(to, 'rows', { ...row, id: 'b'.repeat(32) })).status).toBe(409);
    for (const bad of [
      { table: 'nothing' },
      { table: 'sqlite_master' },
      { columns: ['nothing'] },
      { columns: ['name"); DROP TABLE names;--'] },
      { rows: [['x', 'y']] },
      { table: 'proofs', rows: [['x', 'y', 'z']] },
      { table: 'proofs', rows: [[ID + ID, await sha256Hex('{}'), '{}']] },
    ])
      expect([bad, (await post(to, 'rows', { ...row, ...bad })).status]).toEqual([bad, 400]);
  });

  it('is there again: rows, a file in its parts, and a completion by a key of before', async () => {
    const plan = BackupPlan.parse(await (await from.admin('/admin/backup')).json());
    const counts: { name: string; rows: number }[] = [];
    for (const { name } of plan.tables) {
      const pages = await readTable(name);
      counts.push({ name, rows: pages.flatMap(({ rows }) => rows).length });
      for (const { columns, rows } of pages)
        for (let twice = 0; rows.length > 0 && twice < 2; twice += 1)
          expect((await post(to, 'rows', { id: ID, table: name, columns, rows })).status).toBe(200);
    }
    const missing = async () =>
      MissingFiles.parse(await (await post(to, 'files', { id: ID, digests: [adapter.digest] })).json())
        .missing;
    expect(await missing()).toEqual([adapter.digest]);
    const parts = Math.ceil(adapter.bytes.length / PART_BYTES);
    for (let index = 0; index < parts; index += 1) {
      const read = await from.admin(`/admin/backup/parts/${adapter.digest}?index=${index}`);
      const bytes = new Uint8Array(await read.arrayBuffer());
      expect(
        (
          await sendPart(
            index,
            bytes.map((byte, at) => (at === 0 ? byte ^ 1 : byte)),
          )
        ).status,
      ).toBe(422);
      expect(await missing()).toEqual([adapter.digest]);
      expect((await sendPart(index, bytes)).status).toBe(204);
    }
    expect(await missing()).toEqual([]);
    expect((await sendPart(parts, new Uint8Array(1))).status).toBe(422);
    expect((await from.admin(`/admin/backup/parts/${await sha256Hex('x')}?index=0`)).status).toBe(503);

    const usageDb = await to.edge.miniflare.getD1Database('DB_USAGE');
    expect(await usageDb.prepare('SELECT COUNT(*) AS rows FROM usage').first('rows')).toBe(1_201);
    const { tables } = EndedRestore.parse(await (await post(to, 'end', { id: ID })).json());
    expect(tables).toEqual(counts.filter(({ name }) => name !== 'proofs'));
    expect((await post(to, 'end', { id: ID })).status).toBe(409);
    expect((await post(to, 'restore', { id: ID })).status).toBe(409);
    for (let cursor: string | null = null; ;) {
      const body = JSON.stringify({ cursor });
      const page = await to.admin('/admin/repair', { method: 'POST', body });
      ({ cursor } = (await page.json()) as { cursor: string | null });
      if (cursor === null) break;
    }
    // What is encrypted there can be read by an edge with the same secret.
    const where = '/admin/evaluations/rows?name=a/b&label=holdout';
    const read = async (more = '') => (await (await to.admin(where + more)).json()) as KeptRows;
    const begin = await read();
    expect([...begin.rows, ...(await read(`&cursor=${begin.cursor}`)).rows]).toEqual(ROWS);
    const answer = await to.request('/v1/chat/completions', { method: 'POST', key, body: chat('a/b') });
    expect([answer.status, answer.headers.get('x-graft-adapter')]).toEqual([200, 'a/b@1']);
    await answer.text();
    const verified = await to.admin('/admin/verify', { method: 'POST', body: '{"name":"a/b"}' });
    expect(await verified.json()).toMatchObject({
      proof: { tokens: expect.any(Array) as object },
      origins: [{ ok: true }],
    });
  });

  it('brings back no proof but those of its versions', async () => {
    const [page] = await readTable('proofs');
    const [row = []] = page?.rows ?? [];
    expect([page?.columns, row[0], await sha256Hex(String(row[2]))]).toEqual([
      ['digest', 'sha256', 'proof'],
      adapter.digest,
      row[1],
    ]);
  });
});
