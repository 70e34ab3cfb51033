/** `npm run chaos`, for some seconds: that it works from end to end, and what it finds. */
import { rm } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { BLOW_KINDS } from '../chaos/blows.ts';
import { runChaos } from '../chaos/run.ts';

it('finds no answer cut or wrong and nothing lost under one blow of each kind', async () => {
  const { report, folder } = await runChaos({
    seed: 1,
    minutes: 1 / 3,
    origins: 2,
    clients: 4,
    everyMs: 1_500,
    say: (line) => console.log(line),
    signal: new AbortController().signal,
  });
  expect(report.breaches, folder).toEqual([]);
  expect(report.whole).toBeGreaterThan(0);
  expect(report.restarts).toBeGreaterThan(0);
  const fallen = [...report.struck.keys(), ...report.missed.keys()];
  expect(new Set(fallen).size).toBe(BLOW_KINDS.length);
  await rm(folder, { recursive: true, force: true });
});
