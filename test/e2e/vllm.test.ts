/** `graft dev` in front of a vLLM that is a fake: publish, prove, ask, flip, and a vLLM that goes. */
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FakeVllm } from '../fakes/fake-vllm.ts';
import { TINY_ADAPTERS, TINY_VOCAB, writeTinyAdapter } from '../fixtures/tiny-base.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

let vllm: FakeVllm;
let stack: TinyStack;
beforeAll(async () => {
  // As in a container: the path is not on this machine.
  vllm = new FakeVllm({ vocabSize: TINY_VOCAB, root: '/models/tiny', maxLoraRank: 8 });
  await vllm.start();
  stack = await startTinyStack(
    `--engine vllm --engine-url ${vllm.url} --max-loras 2 --max-lora-rank 8 --max-cpu-loras 4`,
  );
});
afterAll(async () => {
  await stack.remove();
  await vllm.stop();
});

const adapter = (name: string, seed: number, rank: number): string => {
  const folder = path.join(stack.folder, name);
  writeTinyAdapter(folder, { ...Object.values(TINY_ADAPTERS)[0]!, seed, rank });
  return folder;
};
const ask = (model: string, more: object = {}) =>
  fetch(`${stack.local.url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.local.key}` },
    body: JSON.stringify({ model, prompt: 'hello', max_tokens: 8, temperature: 0, ...more }),
  });
const textOf = async (model: string) => {
  const response = await ask(model);
  const { choices } = (await response.json()) as { choices: { text: string }[] };
  return `${response.headers.get('x-graft-adapter')}: ${choices[0]!.text}`;
};

it('publishes, proves, answers by a chain, flips, and refuses a rank that vLLM does not take', async () => {
  const publish = (...args: string[]) => stack.graft('publish', ...args);
  expect((await publish(adapter('one', 1, 4), '--name', 'notes')).code).toBe(0);
  expect((await publish(adapter('child', 2, 2), '--name', 'notes/child', '--parent', 'notes')).code).toBe(0);
  const [first, child] = [await textOf('notes'), await textOf('notes/child')];
  expect(first).toMatch(/^notes@1: /);
  expect(child).toMatch(/^notes\/child@1: /);
  expect(child.split(': ')[1]).not.toBe(first.split(': ')[1]);
  expect((await publish(adapter('two', 3, 4), '--name', 'notes')).code).toBe(0);
  expect(await textOf('notes')).toMatch(/^notes@2: /);
  expect(await textOf('notes@1')).toBe(first);

  const large = await publish(adapter('large', 4, 16), '--name', 'large');
  expect(large.code).not.toBe(0);
  expect(`${large.stdout}${large.stderr}`).toMatch(/16.*8|8.*16/s);
});

it('says in its own words that vLLM has gone, and goes on when it is back', async () => {
  const before = await textOf('notes');
  const { port } = new URL(vllm.url);
  await vllm.stop();
  const gone = await ask('notes');
  expect(gone.status).toBe(503);
  expect(gone.headers.get('retry-after')).not.toBeNull();
  expect(((await gone.json()) as { error: { code: string } }).error.code).toBe('origin_unavailable');
  const again = new FakeVllm({ vocabSize: TINY_VOCAB, root: '/models/tiny', maxLoraRank: 8 });
  await again.start(Number(port));
  vllm = again;
  await expect.poll(() => ask('notes').then(({ status }) => status)).toBe(200);
  expect(await textOf('notes')).toBe(before);
});
