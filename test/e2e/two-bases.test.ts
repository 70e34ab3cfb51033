/** `graft dev` with two bases: one of its own, one behind a vLLM that is a fake. One edge, and one pool that goes down. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { LocalFile } from '../../cli/connection.ts';
import type { OriginList } from '../../protocol/admin-api/origins.ts';
import type { ErrorBody } from '../../protocol/api-error.ts';
import type { ModelList } from '../../protocol/completion-answers.ts';
import { FakeVllm } from '../fakes/fake-vllm.ts';
import {
  TINY_ADAPTERS,
  TINY_LLAMA,
  TINY_VOCAB,
  writeTinyAdapter,
  writeTinyBase,
} from '../fixtures/tiny-base.ts';
import { runGraft, startGraft, type GraftProcess } from './graft-process.ts';
import { EXACT_KV } from './tiny-stack.ts';

const SMALL = 'small-base';
const LARGE = 'large-base';

let folder: string;
let vllm: FakeVllm;
let dev: GraftProcess;
let local: LocalFile;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
  writeTinyBase(path.join(folder, SMALL));
  writeTinyBase(path.join(folder, LARGE), TINY_LLAMA, 2);
  vllm = new FakeVllm({ vocabSize: TINY_VOCAB, root: '/models/large', maxLoraRank: 8 });
  await vllm.start();
  const engine = `--engine vllm --engine-url ${vllm.url} --max-loras 2 --max-lora-rank 8`;
  dev = startGraft(
    [
      ...['dev', '--port', '0', '--origin-port', '0', '--no-examples', '--json'],
      ...EXACT_KV,
      ...['--base', SMALL, '--also-base', LARGE, `--also-origin-arg=${engine}`],
    ],
    { cwd: folder, env: { GRAFT_CACHE: path.join(folder, 'cache') } },
  );
  local = JSON.parse((await dev.sees(/^\{.*\}$/m))[0]) as LocalFile;
});
afterAll(async () => {
  await dev.killGroup();
  await vllm.stop();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

const publish = (base: string, seed: number, ...args: string[]) => {
  const adapter = path.join(folder, `${base}-${seed}`);
  writeTinyAdapter(
    adapter,
    { ...Object.values(TINY_ADAPTERS)[0]!, seed, rank: 4 },
    TINY_LLAMA,
    `tiny/${base}`,
  );
  return runGraft(['publish', adapter, ...args], { cwd: folder });
};
const get = async <T>(route: string, key = local.key): Promise<T> => {
  const response = await fetch(`${local.url}${route}`, { headers: { authorization: `Bearer ${key}` } });
  return (await response.json()) as T;
};
const ask = (model: string) =>
  fetch(`${local.url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${local.key}` },
    body: JSON.stringify({ model, prompt: 'hello', max_tokens: 4, temperature: 0 }),
  });
const served = async (model: string) => {
  const response = await ask(model);
  const { headers, status } = response;
  await response.text();
  return [status, headers.get('x-graft-adapter'), headers.get('x-graft-base')];
};

it('publishes on both, and both answer: by name, by version and by the base itself', async () => {
  expect(local).toMatchObject({ base: SMALL, bases: [SMALL, LARGE] });
  for (const [base, seed, name] of [
    [SMALL, 1, 'notes'],
    [LARGE, 2, 'letters'],
  ] as const) {
    const done = await publish(base, seed, '--name', name);
    expect(`${done.code} ${done.stderr}`).toMatch(/^0 /);
  }
  expect(await served('notes')).toEqual([200, 'notes@1', SMALL]);
  expect(await served('letters')).toEqual([200, 'letters@1', LARGE]);
  expect(await served(SMALL)).toEqual([200, 'base', SMALL]);
  expect(await served('base')).toEqual([200, 'base', SMALL]);
  expect(await served(LARGE)).toEqual([200, 'base', LARGE]);
  const { data } = await get<ModelList>('/v1/models');
  expect(data.map(({ id, root }) => [id, root])).toEqual([
    [SMALL, SMALL],
    [LARGE, LARGE],
    ['letters', LARGE],
    ['notes', SMALL],
  ]);
  const ps = await runGraft(['ps'], { cwd: folder });
  expect(ps.stdout).toContain(`: ${SMALL} (`);
  expect(ps.stdout).toContain(`: ${LARGE} (`);
});

it('refuses a child on another base than its parent, and an adapter of a base that nobody serves', async () => {
  const child = await publish(LARGE, 3, '--name', 'notes/child', '--parent', 'notes');
  expect(child.code).toBe(5);
  expect(child.stderr).toMatch(/large-base.*'notes@1'.*small-base/);
  const foreign = await publish('else-7b', 4, '--name', 'else');
  expect(foreign.code).toBe(5);
  expect(foreign.stderr).toContain(`${SMALL}, ${LARGE}`);
});

it('refuses flags for an origin that it is not told of', async () => {
  const done = await runGraft(['dev', '--also-origin-arg=--slots 2'], { cwd: folder });
  expect(done.code).toBe(2);
  expect(done.stderr).toContain('--also-base');
});

it('moves a name to the other base and back', async () => {
  expect((await publish(LARGE, 5, '--name', 'notes')).code).toBe(0);
  expect(await served('notes')).toEqual([200, 'notes@2', LARGE]);
  expect((await runGraft(['rollback', 'notes'], { cwd: folder })).code).toBe(0);
  expect(await served('notes')).toEqual([200, 'notes@1', SMALL]);
});

it('goes on with one base while no origin of the other answers', async () => {
  await vllm.stop();
  const refused = await ask('letters');
  expect(refused.status).toBe(503);
  expect(((await refused.json()) as ErrorBody).error.code).toBe('origin_unavailable');
  expect((await ask(LARGE)).status).toBe(503);
  expect(await served('notes')).toEqual([200, 'notes@1', SMALL]);
  expect((await publish(SMALL, 6, '--name', 'more')).code).toBe(0);
  const { origins } = await get<OriginList>('/admin/origins', local.adminKey);
  expect(origins.map((origin) => origin.configured_base)).toEqual([SMALL, LARGE]);
});
