/** `npm run bench -- vllm` against a vLLM that is a fake: what it measures is whole, and nothing is left there. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { measureThroughVllm, type ThroughVllm } from '../../bench/measurements/through-vllm.ts';
import { formatThroughVllm } from '../../bench/vllm.ts';
import { FakeVllm } from '../fakes/fake-vllm.ts';
import { TINY_VOCAB, writeTinyBase } from '../fixtures/tiny-base.ts';

let vllm: FakeVllm;
let work: string;
let measured: ThroughVllm;
beforeAll(async () => {
  work = mkdtempSync(path.join(tmpdir(), 'graft-bench-vllm-'));
  const base = path.join(work, 'tiny-base');
  writeTinyBase(base);
  vllm = new FakeVllm({ vocabSize: TINY_VOCAB, root: base });
  await vllm.start();
  measured = await measureThroughVllm({
    ...{ url: vllm.url, base, work, maxLoras: 16, maxLoraRank: 16 },
    ...{ tokens: 8, turns: 2, waves: 1, singles: 2, swaps: 3 },
    env: { GRAFT_CACHE: path.join(work, 'cache') },
  });
});
afterAll(async () => {
  await vllm.stop();
  rmSync(work, { recursive: true, force: true });
});

it('asks vLLM alone, through an origin, and through edge and origin, without a problem', () => {
  const systems = ['vLLM alone', 'origin', 'edge + origin'];
  expect(
    measured.waves.map(({ scenario, system, waves, problems }) => [scenario, system, waves, problems]),
  ).toEqual(['base', 'r8'].flatMap((scenario) => systems.map((system) => [scenario, system, 2, []])));
  expect(measured.firstToken).toMatchObject(systems.map((system) => ({ system, requests: 2, problems: [] })));
  expect(measured.firstToken[0]?.addedMs).toBe(0);
  expect(measured.swaps).toMatchObject(systems.map((system) => ({ system, swaps: 3, problems: [] })));
});

it('has a ratio a turn, with its spread', () => {
  expect(measured.ratios).toHaveLength(2 * 2 * 2);
  for (const { turns, median, lowest, highest } of measured.ratios) {
    expect(turns).toHaveLength(2);
    expect(lowest).toBeLessThanOrEqual(median);
    expect(highest).toBeGreaterThanOrEqual(median);
    expect(Math.min(...turns)).toBe(lowest);
  }
  expect(formatThroughVllm(measured)).toMatch(/r8 .*edge \+ origin.*tokens a second/);
});

it('asks for 16 adapters on both sides, and loads cold ones anew', () => {
  const loaded = vllm.orders.filter((order) => order.startsWith('+'));
  const alone = loaded.filter((order) => order.startsWith('+bench-'));
  expect(alone).toHaveLength(16 + 3);
  const chains = loaded.filter((order) => /^\+[0-9a-f]{64}$/.test(order));
  // 48 are published; at least the six that were cold are loaded once more.
  expect(new Set(chains).size).toBe(48);
  expect(chains.length).toBeGreaterThanOrEqual(48 + 6);
  const inWaves = vllm.bodies.filter((body) => body.max_tokens === 8).map(({ model }) => model);
  // The single requests are of the waves' first adapter.
  expect(new Set(inWaves.filter((model) => model.startsWith('bench-'))).size).toBe(16);
  expect(new Set(inWaves.filter((model) => chains.includes(`+${model}`))).size).toBe(16);
});

it('leaves none of its own names at vLLM', () => {
  expect(vllm.loaded.filter((name) => name.startsWith('bench-'))).toEqual([]);
});
