import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

/** One thread: the library then has no threads of its own, which would keep it in memory. */
const SCRIPT = `
  import { NativeDevice, ortLibrary } from './gpu-origin/runtime/native/native-device.ts';
  const device = new NativeDevice(ortLibrary(), 1);
  for (let round = 0; round < 5; round += 1) {
    globalThis.gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await device.close();
  console.log('closed');
`;

it('the library stays loaded as long as its functions can be called', async () => {
  const args = ['--expose-gc', '--import', 'tsx', '--input-type=module', '-e', SCRIPT];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: process.cwd() });
  expect(stdout.trim()).toBe('closed');
});

/**
 * Its telemetry stores an identifier and a database in the home folder, and searches the command line with a
 * regular expression that overflows the stack from about 10 kB on: a run with telemetry would leave files, or
 * end by SIGSEGV.
 */
it.each(['the main thread', 'a worker thread'])(
  'the library sends no telemetry, opened by %s, however long the command line is',
  async (thread) => {
    const home = await mkdtemp(path.join(os.tmpdir(), 'graft-home-'));
    const open = `
      const { NativeDevice, ortLibrary } = await import(${JSON.stringify(source('native-device'))});
      await new NativeDevice(ortLibrary(), 1).close();`;
    const inWorker = `void (async () => { (await import('tsx/esm/api')).register(); ${open} })();`;
    const script =
      thread === 'the main thread'
        ? open
        : `import { Worker } from 'node:worker_threads';
           import { once } from 'node:events';
           await once(new Worker(${JSON.stringify(inWorker)}, { eval: true, execArgv: [] }), 'exit');`;
    const flags = Array.from({ length: 400 }, (_, i) => `--adapter=tenant/of-some-length-${i}=/folders/${i}`);
    const args = [
      '--import',
      'tsx',
      '--input-type=module',
      '-e',
      `${script}\nconsole.log('ended');`,
      '--',
      ...flags,
    ];
    const { stdout } = await promisify(execFile)(process.execPath, args, {
      cwd: process.cwd(),
      // Without CI, which the library takes as an opt-out from telemetry.
      env: { PATH: process.env['PATH'], HOME: home, XDG_CACHE_HOME: path.join(home, 'cache') },
    });
    expect(stdout.trim()).toBe('ended');
    expect(await readdir(home)).toEqual([]);
    await rm(home, { recursive: true });
  },
);

const source = (file: string) => pathToFileURL(path.resolve('gpu-origin/runtime/native', `${file}.ts`)).href;
