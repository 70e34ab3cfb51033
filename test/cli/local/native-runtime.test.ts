import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { nativeRuntime, runsNatively, type RunProgram } from '../../../cli/local/native-runtime.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-runtime-'));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

const noProgress = { progress: () => ({ update: () => undefined, end: () => undefined }) };

const fetchWith = async (run: RunProgram, wanted = true) => {
  const notes: string[] = [];
  const cache = path.join(folder, 'cache');
  const found = await nativeRuntime({
    ...{ cache, wanted, run, root: folder },
    output: { note: (line) => notes.push(line), ...noProgress },
  });
  const left = await readdir(path.join(cache, 'onnxruntime')).catch(() => []);
  return { found, notes, left };
};

it('recognises flags that need no native library', () => {
  expect(runsNatively(['--port', '0'])).toBe(true);
  expect(runsNatively(['--provider', 'cpu', '--engine', 'native'])).toBe(true);
  expect(runsNatively(['--provider', 'web'])).toBe(false);
  expect(runsNatively(['--provider=web'])).toBe(false);
  expect(runsNatively(['--engine', 'vllm'])).toBe(false);
});

it('downloads nothing if the package is installed or not needed', async () => {
  const never: RunProgram = () => Promise.reject(new Error('must not run'));
  expect(await fetchWith(never, false)).toEqual({ found: {}, notes: [], left: [] });
  await mkdir(path.join(folder, 'node_modules/onnxruntime-node'), { recursive: true });
  await writeFile(path.join(folder, 'node_modules/onnxruntime-node/package.json'), '{}');
  expect(await fetchWith(never)).toEqual({ found: {}, notes: [], left: [] });
});

it('continues without it, explains why and what to do, and leaves nothing behind', async () => {
  const { found, notes, left } = await fetchWith(() => Promise.reject(new Error('ENOTFOUND')));
  expect([found, left]).toEqual([{}, []]);
  expect(notes.join('\n')).toMatch(
    /could not be downloaded \(ENOTFOUND\).*WebAssembly.*npm install --ignore-scripts/,
  );
});

it('discards a library with other bytes than pinned', async () => {
  const commands: string[] = [];
  const { found, notes, left } = await fetchWith(async (command, work) => {
    commands.push(command.join(' '));
    await writeFile(path.join(work, 'onnxruntime-node.tgz'), 'something else');
  });
  expect(commands).toEqual([expect.stringMatching(/pack onnxruntime-node@[\d.]+ --ignore-scripts/)]);
  expect([found, left]).toEqual([{}, []]);
  expect(notes.join('\n')).toContain('sha512');
});

/** A registry with one package, which keeps the second half of the file until somebody has asked for it. */
async function startRegistry(version: string, archive: Uint8Array, integrity: string) {
  let giveRest: () => void;
  const rest = new Promise<void>((resolve) => (giveRest = resolve));
  const server = http.createServer(({ url: asked }, response) => {
    const half = archive.length / 2;
    if (asked?.endsWith('.tgz') === true) {
      response.writeHead(200, { 'content-length': archive.length }).write(archive.subarray(0, half));
      void rest.then(() => response.end(archive.subarray(half)));
      return;
    }
    const tarball = `${url}/onnxruntime-node/-/onnxruntime-node-${version}.tgz`;
    const one = { name: 'onnxruntime-node', version, dist: { tarball, integrity } };
    const answer = { name: one.name, 'dist-tags': { latest: version }, versions: { [version]: one } };
    response.setHeader('content-type', 'application/json').end(JSON.stringify(answer));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    giveRest: () => giveRest(),
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

it("shows download progress, and keeps only this machine's part", async () => {
  const ours = `package/bin/napi-v6/${process.platform}/${process.arch}`;
  const library = randomBytes(8_000_000);
  for (const [place, bytes] of [
    [ours, library],
    ['package/bin/napi-v6/other/cpu', randomBytes(10)],
  ] as const) {
    await mkdir(path.join(folder, place), { recursive: true });
    await writeFile(path.join(folder, place, 'library'), bytes);
  }
  await promisify(execFile)('tar', ['-czf', 'made.tgz', 'package'], { cwd: folder });
  const archive = new Uint8Array(await readFile(path.join(folder, 'made.tgz')));
  const integrity = `sha512-${createHash('sha512').update(archive).digest('base64')}`;
  const registryFile = { version: '9.9.9', integrity, bytes: archive.length };
  const registry = await startRegistry(registryFile.version, archive, integrity);
  vi.stubEnv('npm_config_registry', registry.url);
  vi.stubEnv('NO_PROXY', '127.0.0.1');
  vi.stubEnv('npm_execpath', undefined);
  const said: string[] = [];
  const seen: number[] = [];
  try {
    const found = await nativeRuntime({
      ...{ cache: path.join(folder, 'cache'), wanted: true, root: folder, registryFile },
      output: {
        note: (line) => said.push(line),
        progress: (label) => ({
          update(done, total) {
            if (done === 0 || total !== archive.length) return;
            seen.push(done);
            registry.giveRest();
          },
          end: () => said.push(`the bar of ${label} is gone`),
        }),
      },
    });
    // It was seen before the second half was sent.
    expect(seen[0]).toBeLessThanOrEqual(archive.length / 2);
    expect(said).toEqual([
      "downloading ONNX Runtime 9.9.9 from npm's registry, once (8.0 MB)",
      'the bar of ONNX Runtime 9.9.9 is gone',
    ]);
    const home = found.GRAFT_ONNXRUNTIME ?? '';
    const kept = await readFile(path.join(home, ours.replace('package/', ''), 'library'));
    expect(kept.equals(library)).toBe(true);
    expect(await readdir(path.join(home, 'bin/napi-v6'))).toEqual([process.platform]);
    expect(await readdir(path.dirname(home))).toEqual([path.basename(home)]);
  } finally {
    await registry.stop();
  }
});
