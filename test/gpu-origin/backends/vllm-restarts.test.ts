/** vLLM that is started anew, or ends answers by itself, behind an origin that goes on. */
import { readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { chainId } from '../../../protocol/identity.ts';
import { gate } from '../engine/harness.ts';
import { startVllmOrigin, type VllmOrigin } from './vllm-origin.ts';

let origin: VllmOrigin;
afterEach(() => origin.stop());

interface Answer {
  choices: { text: string; finish_reason: string }[];
  error: { code: string; message: string };
}
async function complete(model: string, more: object = {}): Promise<{ status: number; json: Answer }> {
  const response = await fetch(`${origin.url}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ model, prompt: 'hello', max_tokens: 12, temperature: 0, ...more }),
  });
  return { status: response.status, json: (await response.json()) as Answer };
}
/** Until `is` holds; the event loop goes on meanwhile. */
async function until(is: () => boolean): Promise<void> {
  while (!is()) await new Promise((resolve) => setImmediate(resolve));
}

it('keeps no folder of a dropped adapter, whether vLLM was restarted or refused it', async () => {
  origin = await startVllmOrigin();
  const { vllm, services } = origin;
  const folders = () => readdirSync(join(origin.folder, 'cache/vllm-standalone'));
  const chainOf = (name: string) => services.chains.get(name)!;
  for (const model of ['a0', 'a1']) await complete(model);
  vllm.forget();
  expect((await complete('a0')).status).toBe(200);
  vllm.asBase.add(await chainId(chainOf('child')));
  expect((await complete('child')).status).toBe(503);
  expect(folders()).toHaveLength(3);
  const dropped = ['a1', 'child'].map((name) => chainOf(name).at(-1)!.digest);
  expect(await services.engine.drop(new Set(dropped))).toBe(0);
  expect(folders()).toEqual([await chainId(chainOf('a0'))]);
  expect(vllm.loaded).toEqual(folders());
  expect((await complete('a0')).status).toBe(200);
});

it('only the chain whose folder cannot be written fails, and it is written later', async () => {
  origin = await startVllmOrigin();
  expect((await complete('a1')).status).toBe(200);
  const folder = join(origin.folder, 'cache/vllm-standalone');
  renameSync(folder, `${folder}.away`);
  writeFileSync(folder, 'no folder');
  const refused = await complete('a0');
  expect([refused.status, refused.json.error.code]).toEqual([503, 'adapter_unavailable']);
  expect(refused.json.error.message).toContain('ENOTDIR');
  expect((await complete('base')).status).toBe(200);
  rmSync(folder);
  renameSync(`${folder}.away`, folder);
  for (const model of ['a0', 'a1']) expect((await complete(model)).status).toBe(200);
  expect(origin.faults).toEqual([expect.stringContaining('ENOTDIR')]);
});

it("compares a chain with the base's current answer", async () => {
  origin = await startVllmOrigin();
  const { vllm } = origin;
  await complete('a1');
  vllm.forget();
  // Started anew with other kernels: all scores are a little off.
  vllm.noise = 0.001;
  vllm.asBase.add(await chainId(origin.services.chains.get('a0')!));
  expect((await complete('a1')).status).toBe(200);
  // The fake's scores are off by another amount at each request, and at every third by none.
  for (let times = 0; times < 3; times += 1) {
    const refused = await complete('a0');
    expect([refused.status, refused.json.error.code]).toEqual([503, 'adapter_unavailable']);
    expect(refused.json.error.message).toContain('answers as the base');
    await complete('base');
  }
});

it("a run from before vLLM's restart takes nothing from later ones", async () => {
  origin = await startVllmOrigin({ adapters: 5 });
  const { vllm } = origin;
  const gates = new Map([7, 9].map((most) => [most, gate()]));
  vllm.gate = async (at, body) => {
    if (at === 1) await gates.get(body.max_tokens)?.opened;
  };
  const isRunning = (most: number) => () => vllm.bodies.some((body) => body.max_tokens === most);
  await complete('a1');
  const before = complete('a0', { max_tokens: 7 });
  await until(isRunning(7));
  vllm.forget();
  for (let times = 0; times < 3; times += 1) await complete('a1');
  const behind = complete('a0', { max_tokens: 9 });
  await until(isRunning(9));
  gates.get(7)!.open();
  expect((await before).status).toBe(200);
  // Those that make it the least used one, and then the one that needs its room.
  for (let times = 0; times < 3; times += 1) for (const model of ['a2', 'a3']) await complete(model);
  await complete('a4');
  const { model } = vllm.bodies.find((body) => body.max_tokens === 9)!;
  expect(vllm.orders).not.toContain(`-${model}`);
  gates.get(9)!.open();
  expect((await behind).status).toBe(200);
});

it.each([
  ['stop', 200],
  ['length', 200],
  ['abort', 503],
])('an answer without an end token, for %s, is complete or an error', async (reason, status) => {
  origin = await startVllmOrigin();
  const ids = [...Buffer.from('abc')].map((byte) => byte + 3);
  origin.vllm.troubles.push((response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const choice of [
      { token_ids: ids, finish_reason: null },
      { token_ids: [], finish_reason: reason },
    ])
      response.write(`data: ${JSON.stringify({ choices: [{ index: 0, text: '', ...choice }] })}\n\n`);
    response.end('data: [DONE]\n\n');
  });
  // What may begin a stop string is held back until it is known to be none.
  const answer = await complete('base', { stop: 'bcd' });
  expect(answer.status).toBe(status);
  if (status === 200) expect(answer.json.choices[0]).toMatchObject({ text: 'abc', finish_reason: reason });
});
