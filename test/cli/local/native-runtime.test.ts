import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { nativeRuntime, runsNatively, type RunProgram } from '../../../cli/local/native-runtime.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-runtime-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const fetchWith = async (run: RunProgram, wanted = true) => {
  const notes: string[] = [];
  const cache = path.join(folder, 'cache');
  const found = await nativeRuntime({
    ...{ cache, wanted, run, root: folder },
    output: { note: (line) => notes.push(line) },
  });
  const left = await readdir(path.join(cache, 'onnxruntime')).catch(() => []);
  return { found, notes, left };
};

it('knows which flags need no native library', () => {
  expect(runsNatively(['--port', '0'])).toBe(true);
  expect(runsNatively(['--provider', 'cpu', '--engine', 'native'])).toBe(true);
  expect(runsNatively(['--provider', 'web'])).toBe(false);
  expect(runsNatively(['--provider=web'])).toBe(false);
  expect(runsNatively(['--engine', 'vllm'])).toBe(false);
});

it('fetches nothing where the package is installed or nobody wants it', async () => {
  const never: RunProgram = () => Promise.reject(new Error('must not run'));
  expect(await fetchWith(never, false)).toEqual({ found: {}, notes: [], left: [] });
  await mkdir(path.join(folder, 'node_modules/onnxruntime-node'), { recursive: true });
  await writeFile(path.join(folder, 'node_modules/onnxruntime-node/package.json'), '{}');
  expect(await fetchWith(never)).toEqual({ found: {}, notes: [], left: [] });
});

it('goes on without it, says why and what to do, and leaves nothing behind', async () => {
  const { found, notes, left } = await fetchWith(() => Promise.reject(new Error('ENOTFOUND')));
  expect([found, left]).toEqual([{}, []]);
  expect(notes.join('\n')).toMatch(
    /could not be fetched \(ENOTFOUND\).*WebAssembly.*npm install --ignore-scripts/,
  );
});

it('keeps nothing with other bytes than those it was made with', async () => {
  const commands: string[] = [];
  const { found, notes, left } = await fetchWith(async (command, work) => {
    commands.push(command.join(' '));
    await writeFile(path.join(work, 'onnxruntime-node.tgz'), 'something else');
  });
  expect(commands).toEqual([expect.stringMatching(/pack onnxruntime-node@[\d.]+ --ignore-scripts/)]);
  expect([found, left]).toEqual([{}, []]);
  expect(notes.join('\n')).toContain('sha512');
});
