import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { createD1Preferences } from '../../../worker/improvements/d1-preferences.ts';
import type { Preferences } from '../../../worker/improvements/ports.ts';
import { createD1KeptPrompts } from '../../../worker/prompts/d1-kept-prompts.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { openDatabase } from '../platform/database.ts';
import { beforeEach, describe, expect, it } from 'vitest';
import type { KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { DECIDED_SHARE, MAX_KEPT_BYTES, MAX_KEPT_PROMPTS } from '../../../worker/prompts/limits.ts';
import type { KeptPrompts, PromptRow } from '../../../worker/prompts/ports.ts';
import { keyRow } from '../../contracts/sample-rows.ts';

const START = Date.UTC(2026, 2, 31, 22, 58, 30);
const HOUR_MS = 3_600_000;

const promptRow = (more: Partial<PromptRow> = {}): PromptRow => ({
  ...{ tenant: 'me', at: START, id: 'r1', keyId: 'key_1', name: 'notes', sealed: 'abc', user: 'u' },
  ...more,
});

const make = async () => {
  const db = await openDatabase();
  return {
    keys: createD1KeyLedger(db),
    prompts: createD1KeptPrompts(db),
    preferences: createD1Preferences(db),
  };
};

describe('KeptPrompts', () => {
  let prompts: KeptPrompts;
  let keys: KeyLedger;
  let preferences: Preferences;
  const read = (id: string, more: Partial<Parameters<KeptPrompts['read']>[0]> = {}) =>
    prompts.read({ tenant: 'me', id, at: null, now: START, ...more });
  beforeEach(async () => {
    ({ prompts, keys, preferences } = await make());
    await keys.add(keyRow('key_1', { tenant: 'me', keep_prompts: 2 }));
    await keys.add(keyRow('key_2', { tenant: 'me', keep_prompts: 24 }));
    await keys.add(keyRow('key_3', { tenant: 'me' }));
    await keys.add(keyRow('key_4', { tenant: 'you', keep_prompts: 24 }));
  });

  it('keeps what keys ask that have it kept, for as long as they say', async () => {
    await prompts.add([
      promptRow(),
      promptRow({ id: 'r2', keyId: 'key_2', sealed: 'def' }),
      promptRow({ id: 'r3', keyId: 'key_3' }),
      promptRow({ id: 'r4', keyId: 'key_9' }),
      // A key of another tenant.
      promptRow({ id: 'r5', keyId: 'key_4' }),
    ]);
    expect(await read('r1')).toEqual({ ...promptRow(), expiresAt: START + 2 * HOUR_MS });
    expect(await read('r2')).toMatchObject({ sealed: 'def', expiresAt: START + 24 * HOUR_MS });
    for (const id of ['r3', 'r4', 'r5', 'r6']) expect(await read(id)).toBeNull();
    expect(await read('r1', { tenant: 'you' })).toBeNull();
    expect(await read('r1', { now: START + 2 * HOUR_MS })).toBeNull();
  });

  it('keeps what is there, and finds the newest of several with one id', async () => {
    await prompts.add([promptRow()]);
    await prompts.add([promptRow({ sealed: 'again' }), promptRow({ at: START + 5, sealed: 'later' })]);
    expect(await read('r1')).toMatchObject({ at: START + 5, sealed: 'later' });
    expect(await read('r1', { at: START })).toMatchObject({ sealed: 'abc' });
    expect(await read('r1', { at: START + 1 })).toBeNull();
  });

  it('deletes what has expired', async () => {
    await prompts.add([promptRow(), promptRow({ id: 'r2', keyId: 'key_2' })]);
    await prompts.tend(START + 2 * HOUR_MS);
    expect(await read('r1')).toBeNull();
    expect(await read('r2')).not.toBeNull();
  });

  it('ends earlier what was kept for longer, and never later', async () => {
    await prompts.add([promptRow(), promptRow({ id: 'r2', keyId: 'key_2' })]);
    await prompts.limit({ tenant: 'me', keyIds: ['key_1', 'key_2'], hours: 3 });
    expect(await read('r1')).toMatchObject({ expiresAt: START + 2 * HOUR_MS });
    expect(await read('r2')).toMatchObject({ expiresAt: START + 3 * HOUR_MS });
  });

  it('forgets what is of a key, and keeps nothing of it from then on', async () => {
    await prompts.add([promptRow(), promptRow({ id: 'r2', keyId: 'key_2' })]);
    await prompts.limit({ tenant: 'you', keyIds: ['key_1'], hours: null });
    expect(await read('r1')).not.toBeNull();
    await prompts.limit({ tenant: 'me', keyIds: ['key_1'], hours: null });
    await prompts.add([promptRow({ id: 'late' })]);
    expect(await read('r1')).toBeNull();
    expect(await read('late')).toBeNull();
    expect(await read('r2')).not.toBeNull();
    expect(await keys.get('key_1')).toMatchObject({ keep_prompts: null });
  });

  it('keeps the newest of each tenant, in number and in size', async () => {
    const rows = Array.from({ length: MAX_KEPT_PROMPTS + 2 }, (_, i) =>
      promptRow({ id: `r${i}`, at: START + i, keyId: 'key_2' }),
    );
    await prompts.add([promptRow({ tenant: 'you', keyId: 'key_4' })]);
    for (let from = 0; from < rows.length; from += 50) await prompts.add(rows.slice(from, from + 50));
    expect([await read('r1'), (await read('r2'))?.id]).toEqual([null, 'r2']);
    expect(await read('r1', { tenant: 'you' })).not.toBeNull();
    const half = 'x'.repeat(MAX_KEPT_BYTES / 16);
    for (let i = 0; i < 17; i += 1)
      await prompts.add([promptRow({ id: `big${i}`, at: START + 5_000 + i, keyId: 'key_2', sealed: half })]);
    expect(await read('big0')).toBeNull();
    expect(await read('big1')).not.toBeNull();
    expect(await read('r900')).toBeNull();
  });

  it('keeps what a preference names before all others, in half of the room', async () => {
    await keys.add(keyRow('key_5', { tenant: 'me', keep_prompts: 24, improve: true }));
    const decided = (MAX_KEPT_PROMPTS * DECIDED_SHARE) / 2 + 1;
    for (let id = 0; id < 2 * decided; id += 2)
      await preferences.add({
        ...{ tenant: 'me', keyId: 'key_5', at: START },
        ...{ chosen: `r${id}`, rejected: `r${id + 1}` },
      });
    const most = MAX_KEPT_PROMPTS + 10;
    const rows = Array.from({ length: most }, (_, i) =>
      promptRow({ id: `r${i}`, at: START + i, keyId: 'key_5' }),
    );
    for (let from = 0; from < most; from += 50) await prompts.add(rows.slice(from, from + 50));
    const left = async (id: number): Promise<boolean> => (await read(`r${id}`)) !== null;
    // One pair has no room among the decided, and is older than all others.
    const oldest = 2 * decided;
    expect([await left(0), await left(1), await left(2), await left(oldest - 1)]).toEqual([
      ...[false, false, true, true],
    ]);
    expect([await left(oldest + 7), await left(oldest + 8), await left(most - 1)]).toEqual([
      false,
      true,
      true,
    ]);
  });
});

it('notes who has read, each time, in the history of the tenant', async () => {
  const db = await openDatabase();
  const prompts = createD1KeptPrompts(db);
  await createD1KeyLedger(db).add(keyRow('key_1', { tenant: 'me', keep_prompts: 2 }));
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
