/** How much room a version takes in D1. */
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SqlDatabase, SqlStatement } from '../../../worker/platform/d1-database.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import type { VersionRow } from '../../../worker/registry/ports.ts';
import { digestOf, versionRow } from '../../contracts/sample-rows.ts';
import { migrate } from '../platform/real-database.ts';

let miniflare: Miniflare;
beforeAll(() => {
  miniflare = new Miniflare({
    modules: true,
    script: 'export default {}',
    d1Databases: ['SIZE'],
    compatibilityDate: '2026-05-03',
    cf: false,
  });
});
afterAll(() => miniflare.dispose());

const databaseOf = async (name: string) => (await miniflare.getD1Database(name)) as unknown as SqlDatabase;

/** As the edge writes them: on top of one other, tried with 20 tokens, evaluated. */
function realistic(i: number): VersionRow {
  const owner = `tenant-${i % 50}`;
  const name = `${owner}/support/customer-${String(i).padStart(5, '0')}`;
  const row = versionRow(name, 1, { owner, parent: `${owner}/support@3`, createdAt: 1_700_000_000_000 + i });
  row.chain.unshift({ digest: digestOf(owner), scale: 1, name: `${owner}/support`, owner, rank: 16 });
  const tokens = Array.from({ length: 20 }, (_, at) => ({
    id: 30_000 + at * 37,
    logprob: -Math.log(2 + at + i / 7),
  }));
  row.proof = {
    base_digest: row.base.digest,
    weights: 'int8',
    prompt: 'Once upon a time there was a',
    tokens,
    at: row.createdAt,
  };
  row.evaluation = { rows: 64, exact_match: 45 / 64, mean_nll: 1 / 3, sha256: row.digest, at: row.createdAt };
  return row;
}

it('takes at most 2 kB a version, with all indexes', async () => {
  const db = await databaseOf('SIZE');
  await migrate(db);
  const registry = createD1Registry(db);
  const [below] = realistic(0).chain;
  const parent = versionRow(below?.name ?? '', 3, { digest: below?.digest ?? '', owner: 'tenant-0' });
  await registry.publish({ row: parent, stage: false, before: null });
  const published = await registry.publish({ row: realistic(0), stage: false, before: null });
  expect(published.ok).toBe(true);
  const copies = 4_000;
  const copy = (columns: string, from: string): SqlStatement =>
    db
      .prepare(
        `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) ${columns}
         ${from}, n ORDER BY i * 7919 % ?`,
      )
      .bind(copies, copies);
  const other = `printf('tenant-%d/support/customer-%05d', i % 50, i)`;
  const sizeOf = async (): Promise<number> => {
    const { meta } = (await db.prepare('SELECT 1').all()) as unknown as { meta: { size_after: number } };
    return meta.size_after;
  };
  const before = await sizeOf();
  await db.batch([
    copy(
      `INSERT INTO versions SELECT ${other}, version, lower(hex(randomblob(32))), owner, chain,
         lower(hex(randomblob(32))), parent, base_id, base_digest, bytes, rank, rank_sum, created_at + i, created_by,
         proof, evaluation, retired_at, withdrawn_at, removed_at, removal, training`,
      'FROM (SELECT * FROM versions WHERE proof IS NOT NULL)',
    ),
    // Its own file and the one below it, which eighty others stand on.
    copy(`INSERT INTO chain_members SELECT lower(hex(randomblob(32))), ${other}, 1`, 'FROM (SELECT 1)'),
    copy(`INSERT INTO chain_members SELECT printf('%064d', i % 50), ${other}, 1`, 'FROM (SELECT 1)'),
  ]);
  expect(((await sizeOf()) - before) / copies).toBeLessThan(2_000);
});
