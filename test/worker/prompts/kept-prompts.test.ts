import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { createD1KeptPrompts } from '../../../worker/prompts/d1-kept-prompts.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { keptPromptsContract, promptRow } from '../../contracts/kept-prompts.ts';
import { keyRow } from '../../contracts/sample-rows.ts';
import { createFakeKeptPrompts } from '../../fakes/fake-kept-prompts.ts';
import { createFakeKeyLedger } from '../../fakes/fake-ledgers.ts';
import { openRealDatabase, startDatabases } from '../platform/real-database.ts';

let miniflare: Miniflare;
beforeAll(() => {
  miniflare = startDatabases();
});
afterAll(() => miniflare.dispose());

keptPromptsContract('the fake', async () => {
  const keys = createFakeKeyLedger();
  return { keys, prompts: createFakeKeptPrompts(keys) };
});
keptPromptsContract('D1', async () => {
  const db = await openRealDatabase(miniflare);
  return { keys: createD1KeyLedger(db), prompts: createD1KeptPrompts(db) };
});

it('notes who has read, each time, in the history of the tenant', async () => {
  const db = await openRealDatabase(miniflare);
  const prompts = createD1KeptPrompts(db);
  await createD1KeyLedger(db).add(keyRow('key_1', { tenant: 'me', keepPrompts: 2 }));
  await prompts.add([promptRow()]);
  const reading = { tenant: 'me', id: 'r1', actor: 'key_7', at: 5 };
  await Promise.all([prompts.noteReading(reading), prompts.noteReading({ ...reading, at: 6 })]);
  const of = { name: null, before: null, limit: 9 };
  const rows = await createD1Registry(db).history({ ...of, owner: 'me' });
  expect(rows.map(({ name, action, actor, target, at }) => [name, action, actor, target, at])).toEqual([
    ['**', 'read-prompt', 'key_7', 'r1', 6],
    ['**', 'read-prompt', 'key_7', 'r1', 5],
  ]);
  expect(await createD1Registry(db).history({ ...of, owner: 'you' })).toEqual([]);
});
