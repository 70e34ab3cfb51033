/** Commands on a machine that refuses: they say what it refuses, and leave nothing that stops the next try. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runGraft } from './graft-process.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** Environment in which the call `at` (from 1) of a function of `node:fs/promises` does something else. */
const disturbed = (name: 'writeFile' | 'rename', at: number, instead: string): Record<string, string> => {
  const code = `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    const { ${name}: real } = fs.promises;
    let calls = 0;
    fs.promises.${name} = async (...args) => {
      // Not the compiler's.
      if (String(args[0]).startsWith(process.cwd())) calls += 1;
      if (calls === ${at}) ${instead}
      return real(...args);
    };
    syncBuiltinESMExports();`;
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` };
};
const FULL = `throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });`;
const KILLED = `process.kill(process.pid, 'SIGKILL');`;

const secrets = (env: Record<string, string> = {}) => runGraft(['secrets', 'made'], { cwd: folder, env });
const made = () => readdir(path.join(folder, 'made')).catch(() => []);

describe('graft secrets', () => {
  it.each([1, 2, 3])('writes all or nothing where the disk is full at file %i', async (at) => {
    const refused = await secrets(disturbed('writeFile', at, FULL));
    expect(refused).toMatchObject({
      code: 1,
      stderr: 'error: The disk is full: ENOSPC: no space left on device, write.\n',
    });
    expect(await made()).toEqual([]);
    expect((await secrets()).code).toBe(0);
    expect((await made()).sort()).toEqual(['admin-key', 'origin.env', 'worker.json']);
    expect((await secrets()).code).toBe(2);
  });

  it.each([1, 2, 3])('goes on where it was killed at file %i', async (at) => {
    expect((await secrets(disturbed('writeFile', at, KILLED))).code).toBeNull();
    expect((await secrets()).code).toBe(0);
    expect(await made()).toEqual(expect.arrayContaining(['admin-key', 'origin.env', 'worker.json']));
  });

  it('has worker.json last, by which deploy/compose tells that all are there', async () => {
    await secrets(disturbed('rename', 3, KILLED));
    expect((await made()).filter((name) => !/\.[0-9a-f]{8}$/.test(name))).toEqual([
      'admin-key',
      'origin.env',
    ]);
    const compose = await readFile(new URL('../../deploy/compose/compose.yaml', import.meta.url), 'utf8');
    expect(compose).toContain('test -e /secrets/made/worker.json || graft secrets');
  });
});

it('says that the disk is full, in one line, also where the lock of graft dev does not fit', async () => {
  const { code, stderr } = await runGraft(
    ['dev', '--port', '0', '--origin-port', '0', '--base', '.', '--json'],
    {
      cwd: folder,
      env: disturbed('writeFile', 1, FULL),
    },
  );
  expect(code).toBe(1);
  expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'disk_full' } });
});

it('says so of a full disk behind its output', async () => {
  const graft = fileURLToPath(new URL('../../bin/graft.mjs', import.meta.url));
  const child = spawn(process.execPath, [graft, 'completion', 'bash'], {
    env: { ...process.env, NO_COLOR: '1' },
    stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'],
  });
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code] = (await once(child, 'close')) as [number];
  expect([code, stderr]).toEqual([1, expect.stringMatching(/^error: The disk is full: ENOSPC.*\n$/)]);
});
