import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createDoPairs, PairTally } from '../../../../worker/experiments/pairs/pairs-object.ts';
import { judged, pairAt, pairTalliesContract } from '../../../contracts/pair-tallies.ts';
import { createFakePairs, mapStorage } from '../../../fakes/fake-pairs.ts';
import { inOwnRoom, namespaceOf, objectSource, startObjects } from '../../platform/object-rig.ts';
import { WAIT_MS } from '../../../setup/slow.ts';

const DAY_MS = 86_400_000;
let miniflare: Miniflare;

beforeAll(async () => {
  miniflare = await startObjects(
    `export { PairTally } from ${JSON.stringify(objectSource('experiments/pairs/pairs-object.ts'))};`,
    { durableObjects: { PAIRS: { className: 'PairTally', useSQLite: true } } },
  );
});
afterAll(() => miniflare.dispose());

pairTalliesContract('on a map', async () => createFakePairs());
pairTalliesContract('Durable Objects', async () => {
  const namespace = inOwnRoom(await namespaceOf(miniflare, 'PAIRS'));
  return createDoPairs({ namespace, timeoutMs: WAIT_MS });
});

it('deletes pairs by itself when they are old, and everything half a year after the last', async () => {
  let now = Date.UTC(2026, 0, 1);
  const pairs = createFakePairs(() => now);
  const add = (content: string) =>
    pairs.record('e', {
      ...{
        seed: 's',
        user: null,
        at: now,
        tokens: 1,
        outcome: judged('win'),
        keep: 200,
        pair: pairAt(now, content),
      },
    });
  // Whoever asks as of long ago sees what is still there.
  const left = async () => (await pairs.kept('e', { at: 0, keep: 200 })).length;
  await add('old');
  now += 20 * DAY_MS;
  await add('new');
  await pairs.ring('e', now + 11 * DAY_MS);
  expect(await left()).toBe(1);
  await pairs.ring('e', now + 31 * DAY_MS);
  expect(await left()).toBe(0);
  expect(await pairs.snapshot('e', { seed: 's', at: now })).toMatchObject({ wins: 2 });
  await pairs.ring('e', now + 181 * DAY_MS);
  expect(await pairs.snapshot('e', { seed: 's', at: now })).toMatchObject({ wins: 0 });
});

/** What an object keeps, and when its alarm rings, after these calls. */
async function leftAfter(calls: readonly ('erase' | 'forget')[]) {
  const storage = mapStorage();
  const object = new PairTally({ storage }, undefined, { now: () => Date.UTC(2026, 0, 1) });
  for (const call of calls)
    await object.fetch(new Request('https://pairs', { method: 'POST', body: JSON.stringify({ call }) }));
  const keys = async () => [...(await storage.list({ prefix: '' })).keys()];
  const before = await keys();
  const alarm = await storage.getAlarm();
  await object.alarm();
  return { before, alarm, after: await keys() };
}

it('keeps nothing of an experiment that was erased before its archiving had ended', async () => {
  expect(await leftAfter(['erase', 'forget'])).toEqual({
    before: ['erased'],
    alarm: Date.UTC(2026, 0, 1) + DAY_MS / 4,
    after: [],
  });
});

it('deletes what marks an archived experiment that never had a pair', async () => {
  expect(await leftAfter(['forget'])).toEqual({
    before: ['forgotten'],
    alarm: Date.UTC(2026, 0, 1) + DAY_MS / 4,
    after: [],
  });
});
