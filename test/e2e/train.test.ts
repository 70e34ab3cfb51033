/** `graft train` as a process: what it prints, and Ctrl-C. A program in place of the one that trains. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { parseCanonical, writePeftAdapter } from '../../adapters/index.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { startGraft } from './graft-process.ts';

const FAKE = path.join(import.meta.dirname, '../cli/train/fake-training.mjs');

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-train-'));
  const { configJson, safetensors } = writePeftAdapter({
    modules: parseCanonical(tinyAdapter({ seed: 5 }).bytes).modules,
    baseModel: 'tiny-base',
  });
  for (const name of ['trained', 'built/origin']) await mkdir(path.join(folder, name), { recursive: true });
  await writeFile(path.join(folder, 'trained/adapter_config.json'), configJson);
  await writeFile(path.join(folder, 'trained/adapter_model.safetensors'), safetensors);
  await writeFile(path.join(folder, 'rows.jsonl'), '{"prompt":"a","completion":"b"}\n');
  await writeFile(path.join(folder, 'tiny-base.gguf'), 'base');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** @param plays see fake-training.mjs. */
async function startTraining(plays: string, more: readonly string[] = []) {
  const flags = ['--adapter', path.join(folder, 'trained'), '--plays', plays];
  await writeFile(
    path.join(folder, 'built/origin/train.mjs'),
    `process.argv.splice(2, 0, ...${JSON.stringify(flags)});\nawait import(${JSON.stringify(pathToFileURL(FAKE).href)});\n`,
  );
  const args = ['train', 'rows.jsonl', '--out', 'notes', '--base', 'tiny-base.gguf', ...more];
  const env = { GRAFT_BUILT: path.join(folder, 'built'), GRAFT_CACHE: path.join(folder, 'cache') };
  return startGraft(args, { cwd: folder, env });
}

it('prints one JSON document, and nothing else, with --json', async () => {
  const { code, stdout, stderr } = await (await startTraining('well', ['--json'])).finished;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(JSON.parse(stdout)).toMatchObject({
    out: 'notes',
    training: {
      base: { id: 'tiny-base', digest: createHash('sha256').update('base').digest('hex'), weights: 'int8' },
      settings: { rank: 8, alpha: 16, targets: ['q', 'k', 'v', 'o', 'gate', 'up', 'down'], method: 'sft' },
    },
  });
  expect((await readdir(path.join(folder, 'notes'))).sort()).toContain('training.json');
  // Not over it without --force.
  const again = await (await startTraining('well', ['--json'])).finished;
  expect(again.code).toBe(2);
  expect(JSON.parse(again.stderr)).toMatchObject({ error: { code: 'output_exists' } });
});

it('saves and ends at Ctrl-C, and goes on with the command that it names', async () => {
  const training = await startTraining('is-stopped');
  await new Promise<void>((resolve) => {
    training.child.stderr?.on('data', (text: string) => {
      if (text.includes('step 2 of 6')) resolve();
    });
  });
  const second = await (await startTraining('well', ['--json'])).finished;
  expect(JSON.parse(second.stderr)).toMatchObject({ error: { code: 'already_running' } });
  training.child.kill('SIGINT');
  const { code, stderr } = await training.finished;
  expect(code).toBe(130);
  const rest = 'rows.jsonl --out notes --base tiny-base.gguf --resume';
  expect(stderr).toContain(`error: Stopped at step 2 of 6. Continue with \`graft train ${rest}\`.`);
  const resumed = await (await startTraining('well', ['--resume'])).finished;
  expect(resumed.stderr).toContain('continuing after step 2 of 6');
  expect(resumed.code).toBe(0);
});

it.each([
  [['--targets', 'q,w'], /'w' is not a linear layer that can be trained\. Use all, or a list of q, k, v, o,/],
  [['--rank', '0'], /--rank 0 is not a whole number from 1 to 256/],
  [['--name', 'Alice'], /--name Alice: a name may contain only/],
  [['--resume', '--restart'], /either --resume or --restart/],
])('refuses %j before anything else', async (flags, message) => {
  const { code, stderr } = await (await startTraining('well', flags)).finished;
  expect(code).toBe(2);
  expect(stderr).toMatch(message);
});
