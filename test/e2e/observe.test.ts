/** The origin and the edge of deploy/observe as processes, with its arguments and environment but for paths, addresses and the base. */
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { writeTinyBase } from '../fixtures/tiny-base.ts';
import { startReceiver } from '../gpu-origin/http/otlp-receiver.ts';
import { freePort, runGraft, startGraft, type GraftProcess } from './graft-process.ts';

const DEPLOY = path.join(import.meta.dirname, '../../deploy');
const Compose = z.looseObject({
  services: z.record(
    z.string(),
    z.looseObject({
      command: z.array(z.string()).optional(),
      environment: z.record(z.string(), z.string()).optional(),
    }),
  ),
});
const servicesOf = (file: string) =>
  Compose.parse(parse(readFileSync(path.join(DEPLOY, file), 'utf8'), { merge: true })).services;
const observe = servicesOf('observe/compose.yaml');
const TOKEN = 'a-token-of-this-test';
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';

let folder: string;
let receiver: Awaited<ReturnType<typeof startReceiver>>;
const running: GraftProcess[] = [];
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-observe-'));
  writeTinyBase(path.join(folder, 'tiny'));
  receiver = await startReceiver();
});
afterAll(async () => {
  for (const process of running.reverse()) {
    process.child.kill('SIGTERM');
    await process.finished;
  }
  await receiver.stop();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

it('send one trace of a request, and show metrics to the token that they were given', async () => {
  const ports = { origin: await freePort(), edge: await freePort() };
  const here = (text: string): string =>
    text
      .replace(
        /(^|=)\/(secrets|state)\b/,
        (_, sign: string, name: string) => `${sign}${path.join(folder, name)}`,
      )
      .replace('0.0.0.0', '127.0.0.1')
      .replace('http://origin-1:8788', `http://127.0.0.1:${ports.origin}`)
      .replace('http://jaeger:4318', receiver.url)
      .replace(/\$\{GRAFT_METRICS_TOKEN:.*\}/, TOKEN);
  const cache = { GRAFT_CACHE: path.join(folder, 'cache') };
  const start = (args: string[], port: number, env: Record<string, string> = {}): GraftProcess => {
    const process = startGraft([...args.map(here), '--port', String(port)], {
      cwd: folder,
      env: { ...cache, ...env },
    });
    running.push(process);
    return process;
  };
  const made = await runGraft(['secrets', path.join(folder, 'secrets/made')], { cwd: folder, env: cache });
  expect(made.code, made.stderr).toBe(0);

  const given = Object.entries(observe['origin-1']?.environment ?? {});
  const env = Object.fromEntries(given.map(([name, value]) => [name, here(value)]));
  const command = servicesOf('compose/compose.yaml')['origin-1']?.command ?? [];
  const origin = start([...command, '--base', 'tiny'], ports.origin, {
    ...env,
    OTEL_BSP_SCHEDULE_DELAY: '100',
  });
  const ready = () =>
    fetch(`http://127.0.0.1:${ports.origin}/readyz`).then(
      ({ status }) => status,
      () => null,
    );
  await Promise.race([
    expect.poll(ready).toBe(200),
    origin.finished.then(({ stderr }) => Promise.reject(new Error(`The origin ended: ${stderr}`))),
  ]);
  const edgeCommand = (observe['edge']?.command ?? []).filter((flag) => !flag.includes('origin-2'));
  await start(edgeCommand, ports.edge).sees(/the edge is on .* in front of origin-1/);

  const url = `http://127.0.0.1:${ports.edge}`;
  const adminKey = (await readFile(path.join(folder, 'secrets/made/admin-key'), 'utf8')).trim();
  const key = await runGraft(['keys', 'create', '--scopes', '**'], {
    cwd: folder,
    env: { ...cache, GRAFT_URL: url, GRAFT_ADMIN_KEY: adminKey },
  });
  expect(key.code, key.stderr).toBe(0);
  const answer = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${key.stdout.trim()}`,
      'content-type': 'application/json',
      traceparent: `00-${TRACE}-00f067aa0ba902b7-00`,
    },
    body: JSON.stringify({ model: 'base', max_tokens: 4, messages: [{ role: 'user', content: 'hi' }] }),
  });
  expect(answer.status, await answer.text()).toBe(200);
  const spans = () => receiver.received.spans.filter(({ traceId }) => traceId === TRACE);
  // Those of kind server: the edge's, and the origin's below it.
  await expect.poll(() => spans().filter(({ kind }) => kind === 2).length).toBe(2);
  const services = new Set(spans().map(({ service }) => service));
  expect(services).toEqual(new Set(['graft-edge', 'graft-origin']));

  const metrics = (headers: Record<string, string>) =>
    fetch(`http://127.0.0.1:${ports.origin}/metrics`, { headers });
  const scraped = await metrics({ authorization: `Bearer ${TOKEN}` });
  expect([scraped.status, await scraped.text()]).toEqual([200, expect.stringContaining('graft_slots ')]);
  expect((await metrics({ authorization: 'Bearer another-token' })).status).toBe(401);
});
