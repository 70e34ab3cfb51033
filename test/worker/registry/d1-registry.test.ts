/** Databases from before, and two publishers at once with a KV that is behind. */
import { describe, expect, it } from 'vitest';
import { NOTHING_SAID } from '../../../protocol/admin-api/names.ts';
import { createD1Garbage } from '../../../worker/blobs/d1-blob-ledger.ts';
import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { GOES_LIVE, type HistoryRow } from '../../../worker/registry/ports.ts';
import { digestOf } from '../../contracts/sample-rows.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import { migrate } from '../platform/real-database.ts';
import { openSqlite } from '../platform/sqlite.ts';

describe('a database from before there were life cycles', () => {
  it('keeps its names, its history in order, and what keeps files in use', async () => {
    const db = openSqlite({ empty: true });
    await migrate(db, (file) => file < '0003');
    const [own, parent, left] = ['own', 'parent', 'left'].map(digestOf) as [string, string, string];
    const chain = JSON.stringify([
      { digest: parent, scale: 1, name: 'a', owner: 'me' },
      { digest: own, scale: 1, name: 'a/b', owner: 'me' },
    ]);
    const part = JSON.stringify([{ bytes: 9, sha256: own }]);
    const version = `INSERT INTO versions (name, version, digest, owner, chain, chain_id, parent, base_id, base_digest,
      bytes, rank, rank_sum, created_at, created_by) VALUES`;
    const rest = `'c', NULL, 'base', 'b', 9, 2, 4, 7, 'key_1')`;
    await db.batch(
      [
        `INSERT INTO names VALUES ('a/b', 'me', 2, 2, 3)`,
        `${version} ('a/b', 1, '${own}', 'me', '${chain}', ${rest}`,
        `${version} ('a/b', 2, '${own}', 'me', '${chain}', ${rest}`,
        `INSERT INTO history VALUES ('a/b', 2, 20, 'key_2', 'stage', 1, 2)`,
        `INSERT INTO history VALUES ('a/b', 3, 30, 'key_1', 'flip', 1, 2)`,
        `INSERT INTO history VALUES ('a/b', 1, 10, 'key_1', 'publish', NULL, 1)`,
        `INSERT INTO blobs VALUES ('${own}', 9, '${part}', 10, 10)`,
        `INSERT INTO blob_parts VALUES ('${left}', 'me', 4, 9, 'x', 40)`,
      ].map((statement) => db.prepare(statement)),
    );
    await migrate(db, (file) => file >= '0003');
    const registry = createD1Registry(db);
    expect(await registry.name('a/b')).toEqual({
      name: 'a/b',
      owner: 'me',
      version: 2,
      latest: 2,
      sequence: 3,
      alias: null,
      strict: false,
      about: NOTHING_SAID,
      removedAt: null,
    });
    expect(await registry.live('a/b')).toMatchObject({ version: 2, retiredAt: null });
    const history = await registry.history({ name: 'a/b', owner: 'me', before: null, limit: 9 });
    expect(history.map(({ sequence, at, actor, action }) => [sequence, at, actor, action])).toEqual([
      [3, 30, 'key_1', 'flip'],
      [2, 20, 'key_2', 'stage'],
      [1, 10, 'key_1', 'publish'],
    ]);
    const dependents = await registry.dependents({ name: 'a', owner: 'me', digest: parent }, 9);
    expect(dependents.map((one) => one.version)).toEqual([1, 2]);
    const garbage = await createD1Garbage(db).unused({ touchedBefore: 99, cursor: null, scan: 9, limit: 9 });
    expect(garbage.items).toMatchObject([{ digest: left, parts: 5, bytes: 9, touchedAt: 40 }]);
  });
});

describe('keys from before their successors were known', () => {
  it('have them by what took their place, and by whose counter they have', async () => {
    const db = openSqlite({ empty: true });
    await migrate(db, (file) => file < '0011');
    // 1 was rotated into 2 and later into 3, so that it names 3 alone; 3 into 4.
    await db.batch(
      [
        ['key_1', null, 'key_3'],
        ['key_2', 'key_1', null],
        ['key_3', 'key_1', 'key_4'],
        ['key_4', 'key_1', null],
        ['key_5', null, null],
      ].map(([id, counter, replacedBy]) =>
        db
          .prepare(
            `INSERT INTO keys (id, hash, kind, tenant, scopes, label, created_at, created_by, counter, replaced_by)
             VALUES (?1, ?1, 'api', 'acme', '[]', '', 1, 'x', ?2, ?3)`,
          )
          .bind(id ?? '', counter ?? null, replacedBy ?? null),
      ),
    );
    await migrate(db, (file) => file >= '0011');
    const keys = await createD1KeyLedger(db).list('acme');
    expect(keys.map(({ id, replaces }) => [id, replaces])).toEqual([
      ['key_1', null],
      ['key_2', 'key_1'],
      ['key_3', 'key_1'],
      ['key_4', 'key_3'],
      ['key_5', null],
    ]);
  });
});

describe('two publishers at once', () => {
  const ROUNDS = 50;
  const LATER_MS = 61_000;

  it('lose nothing that was acknowledged, and the pointer ends on the last flip', async () => {
    const one = await createAppHarness();
    const { registry } = one.stores;
    const two = await createAppHarness({ beside: one });
    const publishers: AppHarness[] = [one, two];
    const versionOf = async (response: Response) => {
      if (response.status !== 201) return null;
      return ((await response.json()) as { version: number }).version;
    };
    const acknowledged: number[] = [];
    const refused: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      // Every fifth round both say what they expect, so that one of them has to lose.
      const expecting = round % 5 === 4 ? { expect: (await registry.name('notes'))?.version ?? 0 } : {};
      const answers = await Promise.all(
        publishers.map((publisher, i) => {
          const adapter = tinyAdapter({ seed: round % 13, rank: 1 + Math.floor(round / 13) * 2 + i });
          return publisher.publish('notes', adapter, expecting);
        }),
      );
      const versions = await Promise.all(answers.map(versionOf));
      refused.push(...answers.flatMap(({ status }) => (status === 201 ? [] : [status])));
      acknowledged.push(...versions.filter((version) => version !== null));
    }
    expect(new Set(refused)).toEqual(new Set([409]));
    expect(refused).toHaveLength(ROUNDS / 5);
    expect(acknowledged).toHaveLength(2 * ROUNDS - ROUNDS / 5);

    const history: HistoryRow[] = [];
    for (let before: number | null = null; ;) {
      const page = await registry.history({ name: 'notes', owner: null, before, limit: 50 });
      history.push(...page);
      if (page.length < 50) break;
      before = page.at(-1)?.id ?? null;
    }
    const inOrder = [...acknowledged].sort((a, b) => a - b);
    expect(history.map(({ to }) => to).reverse()).toEqual(inOrder);
    expect(inOrder).toEqual(inOrder.map((_, i) => i + 1));
    expect((await registry.versions('notes')).map(({ version }) => version).reverse()).toEqual(inOrder);

    one.clock.advance(LATER_MS);
    const last = history.find(({ action }) => GOES_LIVE.includes(action));
    const reader = await createAppHarness({ beside: one });
    const pointer = await reader.services.nameIndex.get('notes');
    expect(pointer).toMatchObject({ state: 'found', value: { version: last?.to } });
    expect(await registry.name('notes')).toMatchObject({ version: last?.to });
  });
});
