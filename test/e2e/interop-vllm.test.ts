/** The part of `npm run interop -- vllm` that needs no particular base, against a vLLM that is a fake. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, vi } from 'vitest';
import { FakeVllm } from '../fakes/fake-vllm.ts';
import { TINY_VOCAB, writeTinyBase } from '../fixtures/tiny-base.ts';
import { checkServing } from '../interop/vllm-serving.ts';

it('finds nothing wrong with a vLLM that is as the fake', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'graft-e2e-'));
  const base = path.join(folder, 'tiny-base');
  writeTinyBase(base);
  const vllm = new FakeVllm({ vocabSize: TINY_VOCAB, root: base });
  await vllm.start();
  const said: string[] = [];
  vi.spyOn(console, 'log').mockImplementation((line: string) => void said.push(line));
  const problems: string[] = [];
  try {
    await checkServing({ url: vllm.url, base, maxLoras: 4, maxLoraRank: 16 }, problems);
  } finally {
    vi.restoreAllMocks();
    await vllm.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  expect(problems).toEqual([]);
  expect(said.filter((line) => line.startsWith('so: '))).toHaveLength(7);
});
