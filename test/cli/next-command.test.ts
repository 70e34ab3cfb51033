/** Errors end with the command that follows, if there is one. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';

const GRAFT = fileURLToPath(new URL('../../bin/graft.mjs', import.meta.url));
/** Without a stack, and without anybody's keys. */
const folder = mkdtempSync(path.join(tmpdir(), 'graft-next-'));
afterAll(() => rmSync(folder, { recursive: true }));

const stderrOf = (...args: string[]): Promise<string> =>
  new Promise((resolve) => {
    const env = { PATH: process.env['PATH'], HOME: folder };
    execFile(process.execPath, [GRAFT, ...args], { cwd: folder, env }, (_, __, stderr) => resolve(stderr));
  });

it.each([
  [['nothing'], /^error: Unknown command 'nothing'\.[^\n]*\nnext: graft --help\n$/],
  [['run'], /^error: Missing argument <name>\.\nnext: graft run --help\n$/],
  [['ls'], /^error: No server\.[^\n]*\nnext: graft dev\n$/],
  [['inspect', '--what'], /\nnext: graft --help\n$/],
] as const)('after %j', async (args, said) => {
  expect(await stderrOf(...args)).toMatch(said);
});

it('is a field of its own with --json', async () => {
  const { error } = JSON.parse(await stderrOf('ls', '--json')) as { error: object };
  expect(error).toEqual({
    code: 'no_server',
    message: expect.stringContaining('GRAFT_URL') as string,
    next: 'graft dev',
  });
});
