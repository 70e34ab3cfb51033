/**
 * A run of tests that is ended in the middle: nothing that it started is left, and there is a summary where there can be.
 * The run is one of this very file, which then has other tests.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { descendants } from '../security/listening-ports.ts';
import { startTinyStack } from './tiny-stack.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const FILE = path.relative(ROOT, import.meta.filename);
const VITEST = [process.execPath, path.join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', FILE];

/** What the inner run calls once all that it starts is there, and waits for in vain. */
const outer = process.env['GRAFT_TEST_OUTER'];

if (outer === 'blocked')
  it('blocks its thread', () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
else if (outer !== undefined) {
  // vitest 4.1 reports at most every 100 ms, and loses the report whose timer fires a moment early (`throttle` of
  // @vitest/runner): a result is certain to arrive only if its test takes longer than that.
  it('passes', async () => setTimeout(200));
  it('takes for ever', async () => {
    await startTinyStack();
    const { Miniflare } = await import('miniflare');
    await new Miniflare({ modules: true, script: 'export default {}' }).ready;
    spawn('/bin/sh', ['-c', 'sleep 86400 & wait']);
    await fetch(outer);
  });
} else {
  it.each([
    // npm ends by the signal itself, once the run has ended.
    {
      how: 'Ctrl-C in a terminal',
      command: ['npm', 'test', '--', FILE],
      signal: 'SIGINT',
      end: [null, 'SIGINT'],
    },
    { how: 'kill', command: VITEST, signal: 'SIGTERM', end: [143, null] },
    { how: 'kill -9', command: VITEST, signal: 'SIGKILL', end: [null, 'SIGKILL'] },
  ] as const)('leaves no process behind after $how', async ({ command, signal, end }) => {
    const server = http.createServer(() => undefined).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const called = once(server, 'request');
    const env = {
      ...process.env,
      GRAFT_TEST_OUTER: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    };
    // A group of its own, as a shell gives a command that is typed.
    const run = spawn(command[0], command.slice(1), { cwd: ROOT, env, stdio: 'pipe', detached: true });
    const ended = once(run, 'exit');
    const said = Promise.all([text(run.stdout), text(run.stderr)]).then((both) => both.join(''));
    await Promise.race([called, ended.then(async () => Promise.reject(new Error(await said)))]);
    const started = descendants(run.pid as number).map(identify);
    const names = started.map(({ name }) => name).join();
    expect(names).toMatch(/workerd[^]*workerd/);
    // A terminal sends it to all that are in the group.
    process.kill(signal === 'SIGINT' ? -(run.pid as number) : (run.pid as number), signal);
    expect(await ended).toEqual(end);
    await expect.poll(() => started.filter(isThere)).toEqual([]);
    server.close();
    if (signal !== 'SIGKILL') expect(await said).toMatch(/Tests +1 passed.* \(2\)[^]*Duration/);
  });

  // vitest's own limits are timers of the thread that is blocked.
  it('ends a run in which nothing goes on, and names the test', async () => {
    const env = { ...process.env, GRAFT_TEST_OUTER: 'blocked', GRAFT_TEST_SLOW: '0.01' };
    const run = spawn(VITEST[0] as string, VITEST.slice(1), {
      cwd: ROOT,
      env,
      stdio: 'pipe',
      detached: true,
    });
    const said = Promise.all([text(run.stdout), text(run.stderr)]).then((both) => both.join(''));
    expect(await once(run, 'exit')).toEqual([1, null]);
    expect(await said).toMatch(
      /No test has ended for 9 s[^]*still running: .*'blocks its thread'[^]*Duration/,
    );
  });
}

interface Process {
  pid: number;
  name: string;
  /** In the machine's ticks: numbers are given again. */
  startedAt: string;
}

function stat(pid: number): Process & { state: string } {
  const [, name = '', rest = ''] = /\((.*)\) (.*)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
  const fields = rest.split(' ');
  return { pid, name, state: fields[0] as string, startedAt: fields[19] as string };
}

function identify(pid: number): Process {
  const { state: _state, ...rest } = stat(pid);
  return rest;
}

/** One that has ended and that nobody has asked about is still listed. */
function isThere({ pid, startedAt }: Process): boolean {
  try {
    const now = stat(pid);
    return now.startedAt === startedAt && now.state !== 'Z';
  } catch {
    return false;
  }
}
