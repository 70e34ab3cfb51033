import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { originProgram } from '../../../cli/local/origin-process.ts';
import { text } from 'node:stream/consumers';
import { createInterface } from 'node:readline';
import { afterAll, describe, expect, it } from 'vitest';
import { writeTinyBase } from '../../fixtures/tiny-base.ts';

const base = mkdtempSync(join(tmpdir(), 'graft-main-'));
writeTinyBase(base);
afterAll(() => rmSync(base, { recursive: true }));

const start = (args: string[]): ChildProcess =>
  spawn(process.execPath, [...originProgram('main'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
const standalone = ['--dev', '--base', base, '--cache', join(base, 'cache')];

async function ready(child: ChildProcess): Promise<{ url: string; base: string }> {
  for await (const line of createInterface({ input: child.stdout! })) {
    const event = JSON.parse(line) as { event: string; url: string; base: string };
    if (event.event === 'ready') return event;
  }
  throw new Error(`the origin ended: ${await text(child.stderr!)}`);
}

describe('main', () => {
  it('reports on stdout when it is ready, serves, and ends at SIGTERM', async () => {
    const child = start([...standalone, '--port', '0']);
    const exited = once(child, 'exit');
    const { url } = await ready(child);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    const body = JSON.stringify({
      model: 'base',
      messages: [{ role: 'user', content: 'hello' }],
      max_tokens: 2,
    });
    expect((await fetch(`${url}/v1/chat/completions`, { method: 'POST', body })).status).toBe(200);

    const second = start([...standalone, '--port', new URL(url).port]);
    const [message, [code]] = await Promise.all([text(second.stderr!), once(second, 'exit')]);
    expect(message).toBe(
      `gpu-origin: port ${new URL(url).port} on 127.0.0.1 is taken. Choose another with --port\n`,
    );
    expect(code).toBe(1);

    child.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
  });

  it('reports wrong flags or a wrong base in one line', async () => {
    const flags = start(['--port', 'x', '--base', base, '--dev']);
    const none = join(base, 'none');
    writeTinyBase(none);
    rmSync(join(none, 'tokenizer.json'));
    const folder = start(['--dev', '--base', none, '--port', '0', '--cache', join(base, 'cache')]);
    const [one, two, [first], [second]] = await Promise.all([
      text(flags.stderr!),
      text(folder.stderr!),
      once(flags, 'exit'),
      once(folder, 'exit'),
    ]);
    expect(one).toMatch(/^gpu-origin: --port must be [^\n]*\n$/);
    expect(two).toMatch(/^gpu-origin: [^\n]*no tokenizer.json\n$/);
    expect([first, second]).toEqual([2, 1]);
  });
});
