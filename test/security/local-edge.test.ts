/** The edge on a developer's machine: what its processes answer to whoever finds their ports. */
import { existsSync, statSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { startTestEdge, type TestEdge } from '../worker/edge-harness.ts';
import { descendants, listeningPorts } from './listening-ports.ts';
import { readAnswers, sendRaw } from './raw-socket.ts';

let graft: TestEdge;
let folder: string;
/** Of this process and its children, less what was there before and the fake origin's. */
let ports: number[];
let umask: number;

const allPorts = (): number[] => [process.pid, ...descendants(process.pid)].flatMap(listeningPorts);
const edgePort = (): number => Number(new URL(graft.edge.url).port);

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-ports-'));
  const before = new Set(allPorts());
  // As most systems have it: others may read.
  umask = process.umask(0o022);
  graft = await startTestEdge();
  ports = allPorts().filter((port) => !before.has(port) && port !== Number(new URL(graft.origin.url).port));
});
afterAll(async () => {
  process.umask(umask);
  await graft.stop();
  await rm(folder, { recursive: true, force: true });
});

const send = async (port: number, head: readonly string[], body = '') =>
  readAnswers(
    await sendRaw(
      `http://127.0.0.1:${port}`,
      `${[...head, 'Connection: close'].join('\r\n')}\r\n\r\n${body}`,
    ),
  );

/** As workerd itself would send it, as another program, as a page of a stranger's site, and past a look at the path. */
const SENDERS: [string, string[]][] = [
  ['workerd', ['Host: localhost']],
  ['a program', ['Host: 127.0.0.1']],
  ['a page', ['Host: evil.example', 'Origin: https://evil.example', 'Sec-Fetch-Site: cross-site']],
  ['a page that rebinds', ['Host: evil.example']],
  ['one without a host', []],
];

describe('every port that the edge opens', () => {
  it('is known: the edge, and two of Miniflare', () => {
    expect(ports).toContain(edgePort());
    expect(ports).toHaveLength(3);
  });

  it.each(SENDERS)('writes no file for %s', async (_who, head) => {
    const up = '/..'.repeat(12);
    for (const port of ports) {
      const target = `${folder}/pwned-${port}`;
      const query = `extension=${encodeURIComponent(`${up}${target}`)}`;
      const length = 'Content-Length: 4';
      for (const request of [
        [`POST /core/store-temp-file?${query} HTTP/1.1`],
        [`POST /core/log HTTP/1.1`, `MF-Original-URL: http://localhost/core/store-temp-file?${query}`],
        [`POST /core/error HTTP/1.1`, `MF-Original-URL: http://localhost/core/store-temp-file?${query}`],
      ]) {
        const { statuses } = await send(port, [...request, ...head, length], 'evil');
        for (const status of statuses) expect([400, 403, 404]).toContain(status);
      }
      expect(existsSync(target)).toBe(false);
    }
    expect(await readdir(folder)).toEqual([]);
  });

  it.each(SENDERS)('starts, tells and deletes nothing for %s', async (_who, head) => {
    for (const port of ports)
      for (const line of [
        'GET /browser/launch',
        'GET /browser/sessionIds',
        'GET /core/public-url',
        'GET /core/dev-registry',
        'GET /core/do-storage/-PointerWriter',
        'DELETE /core/do-storage/-PointerWriter',
        'DELETE /core/workflow-storage/x/y',
        'GET /cdn-cgi/mf/reload',
        'GET /cdn-cgi/handler/scheduled',
        'GET /cdn-cgi/platform-proxy',
        'GET /cdn-cgi/explorer',
      ]) {
        const { statuses } = await send(port, [`${line} HTTP/1.1`, ...head]);
        for (const status of statuses)
          expect([port, line, status]).toEqual([port, line, expect.toBeOneOf([400, 403, 404])]);
      }
  });

  it.each(SENDERS)('writes no line into the log for %s', async (_who, head) => {
    for (const port of ports)
      await send(
        port,
        ['POST /core/log HTTP/1.1', ...head, 'MF-Log-Level: 1', 'Content-Length: 6'],
        'forged',
      );
    expect(graft.logs.join('\n')).not.toContain('forged');
  });

  it('serves the API at one of them alone', async () => {
    const { adminKey } = graft;
    for (const port of ports.filter((other) => other !== edgePort()))
      for (const trick of [
        'X: a',
        'MF-Route-Override: ',
        'MF-Route-Override: graft',
        'MF-Route-Override: worker',
      ]) {
        const { statuses, text } = await send(port, [
          'GET /admin/names HTTP/1.1',
          'Host: 127.0.0.1',
          `Authorization: Bearer ${adminKey}`,
          trick,
        ]);
        for (const status of statuses) expect([403, 404]).toContain(status);
        expect(text).not.toContain('names');
      }
  });
});

it('the state is its owner’s alone: adapters, names, hashes of keys', async () => {
  expect((await graft.publish({ name: 'notes', adapter: tinyAdapter({ seed: 1 }) })).status).toBe(201);
  const kept = await readdir(graft.stateFolder, { recursive: true });
  const wide = kept.filter((name) => (statSync(path.join(graft.stateFolder, name)).mode & 0o077) !== 0);
  expect(kept.length).toBeGreaterThan(10);
  expect(wide).toEqual([]);
});

describe('headers that Miniflare obeys', () => {
  it.each<[string, string[]]>([
    ['another URL', ['MF-Original-URL: http://127.0.0.1/admin/names']],
    ['another worker', ['MF-Route-Override: closed']],
    ['another method of the proxy', ['MF-Op: GET', 'MF-Op-Target: 1']],
    ['another client', ['CF-Connecting-IP: 1.2.3.4', 'MF-CF-Blob: {"clientIp":"1.2.3.4:5"}']],
    ['a client that is a list', ['MF-CF-Blob: [1]']],
    ['a secret', ['MF-Proxy-Shared-Secret: a']],
    ['no pretty errors', ['MF-Disable-Pretty-Error: 1']],
  ])('%s: nothing to the edge', async (_what, headers) => {
    const head = ['Host: 127.0.0.1', `Authorization: Bearer ${graft.adminKey}`, ...headers];
    const { statuses, bodyOf } = await send(edgePort(), ['GET /healthz HTTP/1.1', ...head]);
    expect([statuses, bodyOf(0)]).toEqual([[200], '{"status":"ok"}']);
  });

  it('what no client may send: 400', async () => {
    expect(
      (await send(edgePort(), ['GET /healthz HTTP/1.1', 'Host: a', 'MF-CF-Blob: nonsense'])).statuses,
    ).toEqual([400]);
  });
});

describe('heads that workerd refuses by itself', () => {
  it.each<[string, string[]]>([
    ['a target without a slash', ['GET healthz HTTP/1.1', 'Host: a']],
    ['a whole URL', ['GET http://evil.example/healthz HTTP/1.1', 'Host: a']],
    ['two hosts', ['GET /healthz HTTP/1.1', 'Host: a', 'Host: b']],
    ['a length that is none', ['POST /healthz HTTP/1.1', 'Host: a', 'Content-Length: \u001b[2Jx']],
    ['a tunnel', ['CONNECT a:80 HTTP/1.1', 'Host: a:80']],
  ])('%s: no answer of ours, and one printable line in the log', async (_what, head) => {
    graft.logs.length = 0;
    const { text } = await send(edgePort(), head);
    expect(text).toMatch(/^HTTP\/1\.1 500 [^]*\r\n\r\nInternal Server Error$/);
    await expect.poll(() => graft.logs.length).toBeGreaterThan(0);
    // What comes after is said before the next answer.
    expect((await graft.request('/healthz')).status).toBe(200);
    expect(graft.logs).toEqual([
      expect.stringMatching(/^workerd\/[^\u0000-\u001f]* failed: [^\u0000-\u001f]*$/),
    ]);
  });
});
