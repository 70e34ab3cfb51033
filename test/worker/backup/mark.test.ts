/** What tells a backup that the tables which it has read have changed meanwhile. */
import { expect, it } from 'vitest';
import { createD1Stores } from '../../../worker/d1-stores.ts';
import type { Erasure } from '../../../worker/erasure/ports.ts';
import { keyRow, NO_CAPS, versionRow } from '../../contracts/sample-rows.ts';
import { openSqlite } from '../platform/sqlite.ts';

const AT = 1_800_000_000_000;
const note = { actor: 'bootstrap', at: AT };
const page = { step: 'names', place: 'a', at: AT } as const;
const of: Pick<Erasure, 'kind' | 'target' | 'owner'> = { kind: 'name', target: 'a', owner: 'default' };

it('has another mark after every change of names, versions, grants and keys', async () => {
  const { registry, keyLedger, grantLedger, erasures, backups, usage } = createD1Stores(openSqlite());
  const named = async (name: string) => (await registry.name(name))!;
  let erasure = 0;
  const remove = async (name: string) => {
    const items = [{ name, version: null, before: await named(name) }];
    return registry.remove({ ...note, items, owner: 'default', cascade: false });
  };
  const changes: [what: string, change: () => Promise<unknown>][] = [
    ...['a', 'b', 'c'].map((name): [string, () => Promise<unknown>] => [
      `publish ${name}`,
      () => registry.publish({ row: versionRow(name, 1), stage: false, before: null }),
    ]),
    ['alias', () => registry.alias({ ...note, before: null, name: 'd', owner: 'default', target: 'a' })],
    ['remove b', () => remove('b')],
    ['remove c', () => remove('c')],
    ['forget one', () => registry.forgetRemoved({ before: AT + 1, limit: 1, at: 1 })],
    ['forget another', () => registry.forgetRemoved({ before: AT + 1, limit: 1, at: 1 })],
    ['an API key', () => keyLedger.add(keyRow('key_1'))],
    ['its label', () => keyLedger.change(keyRow('key_1', { label: 'x' }), keyRow('key_1'))],
    ['an admin key', () => keyLedger.add(keyRow('key_2', { kind: 'admin' }))],
    ['another', () => keyLedger.add(keyRow('key_3', { kind: 'admin' }))],
    ['revoked', () => keyLedger.revoke({ id: 'key_2', successors: true, made: false, at: AT })],
    ['both', () => keyLedger.revoke({ id: 'key_3', successors: true, made: false, at: AT })],
    ['a grant', () => grantLedger.add({ ...grant, created_at: AT, created_by: 'x' }, NO_CAPS)],
    ['a planned erasure', async () => (erasure = (await plan()).id)],
    ['begun', () => erasures.begin({ ...note, id: erasure, cascade: false, record: false })],
    ['its page', () => erasures.move(erasure, { ...page, at: AT + 1 })],
    ['its end', () => erasures.end(erasure)],
  ];
  const grant = { tenant: 'you', scope: 'a', owner: 'default' };
  const plan = () => erasures.plan({ ...of, cascade: false, usage: false, at: AT });
  const mark = async () => (await backups.plan()).mark;
  const marks = new Map([[await mark(), 'nothing']]);
  for (const [what, change] of changes) {
    await change();
    expect([what, marks.get(await mark())]).toEqual([what, undefined]);
    marks.set(await mark(), what);
  }
  // What a request leaves behind is no reason to read everything again.
  const before = await mark();
  const counts = { requests: 1, errors: 0, promptTokens: 1, completionTokens: 1 };
  const used = { tenant: 'default', hour: 1, keyId: 'key_1', name: 'a', version: 1, base: 'tiny', ...counts };
  await usage.add({ id: 'batch', at: AT, rows: [used] });
  expect(await mark()).toBe(before);
});
