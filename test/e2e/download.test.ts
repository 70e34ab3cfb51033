/** Adapters fetched back by the real command line, from a whole stack with a tiny base. */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

let stack: TinyStack;
const at = (...parts: string[]) => path.join(stack.folder, ...parts);
const graft = (...args: string[]) => stack.graft(...args);
const json = async (...args: string[]): Promise<Record<string, unknown>> => {
  const { code, stdout, stderr } = await graft(...args, '--json');
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Record<string, unknown>;
};
const sha256 = async (file: string) =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
const cached = () => readdir(at('cache', 'adapters'));

const kinds = Object.keys(TINY_ADAPTERS).slice(0, 2);
let digest: string;
let rootDigest: string;

beforeAll(async () => {
  stack = await startTinyStack();
  for (const [i, kind] of kinds.entries())
    writeTinyAdapter(at(`adapter-${i}`), TINY_ADAPTERS[kind] as TinyAdapter);
  const root = await json('publish', 'adapter-0', '--name', 'team/root');
  const deep = await json('publish', 'adapter-1', '--name', 'team/root/deep', '--parent', 'team/root');
  [rootDigest, digest] = [root['digest'] as string, deep['digest'] as string];
});
afterAll(() => stack.remove());

it('brings the file that was published, whole, and over nothing that is there', async () => {
  const { code, stdout, stderr } = await graft('download', 'team/root/deep', '--as', 'canonical');
  expect([code, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^wrote +deep\.safetensors, \d+ kB\nfrom +team\/root\/deep@1$/m);
  expect(await sha256(at('deep.safetensors'))).toBe(digest);
  const again = await graft('download', 'team/root/deep', '--as', 'canonical');
  expect([again.code, again.stderr]).toEqual([2, expect.stringContaining('deep.safetensors exists.')]);
  await writeFile(at('deep.safetensors'), 'something else');
  expect((await graft('download', 'team/root/deep', '--as', 'canonical', '--force')).code).toBe(0);
  expect(await sha256(at('deep.safetensors'))).toBe(digest);
});

it('goes on where it broke off, and begins anew what was damaged', async () => {
  const file = at('cache', 'adapters', `${digest}.safetensors`);
  const parts = at('cache', 'adapters', `${digest}.parts`);
  await rm(file);
  await mkdir(parts);
  // The only part, as it was when the line broke.
  await writeFile(path.join(parts, digest), 'half of it');
  await writeFile(path.join(parts, 'whole'), 'the beginning');
  expect(
    await json('download', 'team/root/deep', '--as', 'canonical', '-o', 'again.safetensors'),
  ).toMatchObject({
    digest,
  });
  expect(await sha256(at('again.safetensors'))).toBe(digest);
  expect(await cached()).toEqual([`${digest}.safetensors`]);
  await writeFile(file, 'what the disk made of it');
  expect(
    (await graft('download', 'team/root/deep', '--as', 'canonical', '-o', 'third.safetensors')).code,
  ).toBe(0);
  expect(await sha256(at('third.safetensors'))).toBe(digest);
});

it('writes PEFT, and says what a part of a chain is', async () => {
  const { code, stderr } = await graft('download', 'team/root/deep', '-o', 'peft');
  expect([code, stderr]).toEqual([0, expect.stringMatching(/only what team\/root\/deep@1 adds .* --merged/)]);
  expect(stderr).toMatch(
    /^converted: the weights are float32, with the scale folded in\. Use --as canonical/m,
  );
  const config = JSON.parse(await readFile(at('peft', 'adapter_config.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  expect(config['lora_alpha']).toBe(config['r']);
  expect((await readdir(at('peft'))).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
  const diff = await json('diff', 'peft', 'adapter-1');
  expect(diff['cosine']).toBeCloseTo(1, 6);
});

it('sums the chain, as compose does with names', async () => {
  const merged = await json(
    'download',
    'team/root/deep',
    '--merged',
    '--as',
    'canonical',
    '-o',
    'sum.safetensors',
  );
  expect(
    (merged['members'] as { name: string; digest: string }[]).map((one) => [one.name, one.digest]),
  ).toEqual([
    ['team/root', rootDigest],
    ['team/root/deep', digest],
  ]);
  const composed = await json('compose', 'team/root', 'team/root/deep@1', '-o', 'composed.safetensors');
  expect(composed['members']).toMatchObject([{ path: 'team/root@1' }, { path: 'team/root/deep@1' }]);
  expect(await sha256(at('sum.safetensors'))).toBe(await sha256(at('composed.safetensors')));
});

it('lets show and diff take names', async () => {
  const shown = await graft('show', 'team/root/deep@1', '--summary');
  expect(shown.stdout).toMatch(new RegExp(`^digest +${digest}$`, 'm'));
  expect(shown.stderr).toMatch(/no team\/root\/deep@1 here; using team\/root\/deep@1 of http/);
  expect(await json('diff', 'team/root', 'adapter-0')).toMatchObject({ a: 'team/root@1' });
  const absent = await graft('show', 'team/none');
  expect([absent.code, absent.stderr]).toEqual([3, expect.stringContaining("'team/none' does not exist")]);
});
