/** A page that runs graft-lora/browser over a tiny base, its server, and the same base run natively. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buildBrowser } from '../../bin/build-browser.mjs';
import { exportWebBase } from '../../gpu-origin/export-web-base.ts';
import type { WebBaseManifest } from '../../protocol/browser-downloads.ts';
import { TINY_LLAMA, type TinyShape, writeTinyBase } from '../fixtures/tiny-base.ts';
import { openNative } from './native-engine.ts';
import type { EngineHere } from '../../browser/worker/in-browser-engine.ts';

/** What a page needs that runs graft-lora/browser, and nothing else. */
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self' http://127.0.0.1:*; base-uri 'none'";
const ISOLATED = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
};
const TYPES: Record<string, string> = {
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
};
const PAGE =
  '<!doctype html><meta charset="utf-8"><title>graft</title><script type="module" src="/page.js"></script>';

/** Tokens, of a byte each: what says to a base which tools there are has 800. */
const CONTEXT = 2_048;

/** So that a tiny base has several. */
const PART_BYTES = 100_000;

export interface GraftRig {
  /** Of the page; another one each time it is asked for has an empty storage of its own. */
  readonly url: string;
  /** Of graft-lora/browser. */
  readonly built: string;
  readonly baseFolder: string;
  readonly manifest: WebBaseManifest;
  readonly shape: TinyShape;
  /** The same base, run natively. */
  readonly native: EngineHere;
  /** Adapters that the native one knows, by digest. */
  readonly files: Map<string, Uint8Array<ArrayBuffer>>;
  /** Paths that were asked for since it was emptied. */
  readonly requests: string[];
  /** Answers instead of the files; null = go on. */
  intercept: ((path: string) => { status: number; body: Uint8Array } | 'cut' | null) | null;
  stop(): Promise<void>;
}

/**
 * @param params.isolated whether the page may share memory, and so use threads. @param params.shape of the base, whose context
 * the rig replaces.
 */
export async function startGraftRig({ isolated = false, shape: given = TINY_LLAMA } = {}): Promise<GraftRig> {
  const shape = { ...given, context: CONTEXT };
  const folder = mkdtempSync(path.join(tmpdir(), 'graft-browser-'));
  const built = path.join(folder, 'graft');
  const basePath = path.join(folder, 'tiny-base');
  const baseFolder = path.join(folder, 'base');
  await buildBrowser(built, { page: true });
  writeTinyBase(basePath, shape);
  const manifest = await exportWebBase({
    ...{ basePath, folder: baseFolder, cacheDir: path.join(folder, 'cache') },
    onProgress: () => {},
    partBytes: PART_BYTES,
  });
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  const native = await openNative(basePath, path.join(folder, 'cache'), manifest.base, files);
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const where = new URL(request.url ?? '/', 'http://localhost').pathname;
    requests.push(where);
    const headers = { 'content-security-policy': POLICY, ...(isolated ? ISOLATED : {}) };
    if (where === '/') {
      response.writeHead(200, { 'content-type': 'text/html', ...headers });
      response.end(PAGE);
      return;
    }
    if (where === '/page.js') {
      response.writeHead(200, { 'content-type': 'text/javascript', ...headers });
      response.end("globalThis.graft = await import('/graft/index.js');");
      return;
    }
    const instead = rig.intercept?.(where) ?? null;
    const file = instead === null || instead === 'cut' ? readFile(path.join(folder, where)) : instead.body;
    const status = instead !== null && instead !== 'cut' ? instead.status : file === null ? 404 : 200;
    response.writeHead(status, {
      'content-type': TYPES[path.extname(where)] ?? 'application/octet-stream',
      'content-length': String(file?.length ?? 0),
      ...headers,
    });
    if (instead !== 'cut' || file === null) return void response.end(file ?? '');
    response.write(file.subarray(0, file.length >> 1), () => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const rig: GraftRig = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ...{ built, baseFolder, manifest, shape, native, files, requests, intercept: null },
    async stop() {
      await native.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return rig;
}

function readFile(file: string): Uint8Array | null {
  try {
    return new Uint8Array(readFileSync(file));
  } catch {
    return null;
  }
}
