/** The simulator itself: the same each time, and absent from what is deployed. A hundred seeds run in `npm run check`. */
import path from 'node:path';
import { build } from 'esbuild';
import { expect, it } from 'vitest';
import { workerBuild } from '../../bin/worker-build.mjs';
import { MARKS } from './marks.ts';
import { createRunner, RunOptions } from './run-seeds.ts';
import { shortOf, noSums } from './sums.ts';
import { MARK_GLOBAL } from './world/life-globals.ts';

const ROOT = path.join(import.meta.dirname, '../..');

it('runs a seed the same way twice, with faults, and another seed in another way', async () => {
  const run = await createRunner(RunOptions.parse({ operations: 60, virtual: 5, twice: true }));
  const [one, other] = [await run('1'), await run('2')];
  expect([one.breach, other.breach]).toEqual([null, null]);
  expect(one.hash).not.toBe(other.hash);
});

it('finds a planted bug, and names the invariant', async () => {
  const options = { operations: 60, virtual: 5 };
  const right = await createRunner(RunOptions.parse(options));
  const wrong = await createRunner(RunOptions.parse({ ...options, plant: 'missing-abort' }));
  expect((await right('3')).breach).toBeNull();
  expect((await wrong('3')).breach).toMatch(/^8 nothing is held for nobody/);
});

it('says which operations and faults a run hardly has', () => {
  const sums = noSums();
  sums.operations.set('complete', { done: 100_000, refused: 0, lost: 0 });
  expect(shortOf(sums)).toContain('floor: "publish" succeeded 0 times of 50 at least');
  expect(shortOf(sums)).toContain('floor: kv-error bit 0 times of 50 at least');
  expect(shortOf(sums).join()).not.toContain('"complete"');
  expect(shortOf(noSums())).toEqual([]);
});

it('leaves no mark in the worker that is deployed', async () => {
  const { outputFiles } = await build({ ...workerBuild(ROOT), write: false });
  const code = outputFiles.map(({ text }) => text).join();
  expect(code).toContain('pointer_not_written');
  expect(code).not.toContain(MARK_GLOBAL);
  for (const { mark } of MARKS) expect(code).not.toContain(`'${mark}'`);
});
