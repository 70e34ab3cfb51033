import { expect, it } from 'vitest';
import { isDeepStrictEqual } from 'node:util';
import { uncached } from './answers.ts';
import { ask, chainsOf, expectUsage, type Fate, makeFiles, randomFate, usageOf } from './clients.ts';
import { randomOf, randomRequest } from './requests.ts';
import { startTrafficOrigin } from './rig.ts';

const REQUESTS = 28;
/** They come within so many ms. */
const WITHIN_MS = 200;
const STAYS: Fate = { stream: false, leaves: null, slow: 0 };
const PLENTY = { slots: 4, adapterBytes: 1e9, diskBytes: 1e9, maxQueue: 100, prefixBytes: 0 };

it.each([
  {
    seed: 4,
    what: 'two rows, and a disk that holds one chain of three',
    ...{
      slots: 2,
      kvTokens: 500,
      adapterBytes: 20_000,
      diskBytes: 125_000,
      maxQueue: 6,
      prefixBytes: 100_000,
    },
  },
  {
    seed: 6,
    what: 'four rows with memory for one long one, and hardly a queue',
    ...{ slots: 4, kvTokens: 340, adapterBytes: 60_000, diskBytes: 125_000, maxQueue: 2, prefixBytes: 0 },
  },
])('random traffic ends as each request does alone, and leaves nothing behind: $what', async (given) => {
  const { seed, what: _what, ...shortage } = given;
  const random = randomOf(seed);
  const origin = await startTrafficOrigin(shortage);
  const alone = await startTrafficOrigin(PLENTY);
  const files = await makeFiles(origin.tiny, 7);
  const chains = chainsOf(files);
  const asks: string[] = [];
  const problems: string[] = [];
  const ran = Array.from({ length: REQUESTS }, async (_, at) => {
    const asked = randomRequest(random, chains);
    const fate = randomFate(random, asked.path !== '/v1/embeddings');
    const id = String(at).padStart(32, '0');
    await new Promise((resolve) => setTimeout(resolve, random.below(WITHIN_MS)));
    return { asked, fate, id, outcome: await ask(origin, asked, files, { fate, id, asks }) };
  });
  for (const { asked, fate, id, outcome } of await Promise.all(ran)) {
    expectUsage(asked, outcome);
    if (outcome.kind === 'left') continue;
    const right = await ask(alone, asked, files, { fate: STAYS, id });
    const same =
      outcome.kind === 'whole' && right.kind === 'whole'
        ? isDeepStrictEqual(uncached(outcome.body), uncached(right.body))
        : right.kind === 'failed' && outcome.kind === 'failed' && right.code === outcome.code;
    if (!same) problems.push(JSON.stringify({ asked, fate, outcome, right }));
  }
  expect(problems).toEqual([]);

  await expect.poll(() => origin.leftOver()).toEqual([]);
  expect(origin.faults).toEqual([]);
  // An upload that was sent twice at once may still be on its way out.
  await expect
    .poll(() => origin.files().filter((name) => !/^([0-9a-f]{64}|incoming)$/.test(name)))
    .toEqual([]);
  let told = 0;
  for (const one of asks) told += (await usageOf(origin, one)).completion_tokens;
  expect(told).toBe(origin.finished.reduce((sum, { completionTokens }) => sum + completionTokens, 0));
  expect(origin.engine.residents().used_bytes).toBeLessThanOrEqual(shortage.adapterBytes);
  // Files of waiting requests may take more for a while; the next file makes room.
  expect(await origin.store.put('f'.repeat(64), new Uint8Array(1))).toEqual({ ok: true, value: undefined });
  expect(origin.store.disk().usedBytes).toBeLessThanOrEqual(shortage.diskBytes);
  await Promise.all([origin.stop(), alone.stop()]);
});
