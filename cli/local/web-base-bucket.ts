/** A base for browsers in an R2 bucket, put there by wrangler, which knows whose account it is. */
import { spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import {
  WEB_BASE_MANIFEST,
  WebBaseManifest,
  webBasePartName,
  type WebBaseManifest as Manifest,
} from '../../protocol/index.ts';
import { CliError, EXIT, interrupted } from '../cli-error.ts';

/** Keys begin with it, as the edge's paths do. */
export const BUCKET_FOLDER = 'base';
/** Where wrangler looks: the account's own bucket. Tests look into one on this machine. */
const REMOTE = ['--remote'];
const MISSING = 'key does not exist';

interface Ran {
  code: number | null;
  stdout: Buffer;
  stderr: string;
}

export interface PutParams {
  bucket: string;
  /** Of the export. */
  folder: string;
  manifest: Manifest;
  /** Bytes of the parts that are there. */
  onProgress: (done: number, total: number) => void;
  signal: AbortSignal;
  /** {@link REMOTE} unless given. */
  where?: readonly string[];
}

/**
 * Parts that the bucket's manifest names are not put again; the new one is put last, and what it does not name goes.
 * @returns parts that were put, and removed. @throws CliError with what wrangler says.
 */
export async function putWebBase(params: PutParams): Promise<{ put: number; removed: number }> {
  const { bucket, folder, manifest, onProgress, signal, where = REMOTE } = params;
  const key = (name: string): string => `${bucket}/${BUCKET_FOLDER}/${name}`;
  const object = async (verb: 'get' | 'put' | 'delete', name: string, args: string[]): Promise<Ran> => {
    const ran = await wrangler(['r2', 'object', verb, key(name), ...args, ...where], signal);
    if (ran.code === 0 || (verb === 'get' && ran.stderr.includes(MISSING))) return ran;
    throw new CliError({
      message: `wrangler r2 object ${verb} ${key(name)}: ${reasonIn(ran)}`,
      exitCode: EXIT.error,
      code: 'wrangler_failed',
    });
  };
  const put = (name: string, type: string, cache: string): Promise<Ran> => {
    const file = path.join(folder, name);
    return object('put', name, ['--file', file, '--content-type', type, '--cache-control', cache]);
  };
  const got = await object('get', WEB_BASE_MANIFEST, ['--pipe']);
  const there = new Set(got.code === 0 ? partsOf(got.stdout) : []);
  const total = manifest.parts.reduce((sum, { bytes }) => sum + bytes, 0);
  let [done, count] = [0, 0];
  for (const { sha256, bytes } of manifest.parts) {
    onProgress(done, total);
    if (!there.delete(sha256)) {
      await put(webBasePartName(sha256), 'application/octet-stream', 'public, max-age=31536000, immutable');
      count += 1;
    }
    done += bytes;
  }
  onProgress(done, total);
  await put(WEB_BASE_MANIFEST, 'application/json', 'no-cache');
  for (const sha256 of there) await object('delete', webBasePartName(sha256), []);
  return { put: count, removed: there.size };
}

/** Of a manifest that no version here reads, nothing is taken for granted. */
function partsOf(text: Buffer): string[] {
  try {
    return WebBaseManifest.parse(JSON.parse(text.toString('utf8'))).parts.map(({ sha256 }) => sha256);
  } catch {
    return [];
  }
}

/** Its own words: the line that says ERROR, else the last one. */
function reasonIn({ stderr, stdout, code }: Ran): string {
  const text = stripVTControlCharacters(`${stdout.toString('utf8')}\n${stderr}`);
  const lines = text.split('\n').map((line) => line.trim());
  const said = lines.find((line) => line.includes('[ERROR]')) ?? lines.findLast((line) => line !== '');
  return said?.replace(/^.*\[ERROR\]\s*/, '') ?? `it ended with ${code}`;
}

/** The one that graft brings. Whoever is logged in for it, or has CLOUDFLARE_API_TOKEN, is who puts. */
function wrangler(args: readonly string[], signal: AbortSignal): Promise<Ran> {
  const { resolve } = createRequire(import.meta.url);
  const bin = path.join(path.dirname(resolve('wrangler/package.json')), 'bin/wrangler.js');
  return new Promise((settle, reject) => {
    const child = spawn(process.execPath, [bin, ...args], {
      env: { ...process.env, WRANGLER_SEND_METRICS: 'false' },
      // It may ask nothing here: progress is drawn over it.
      stdio: ['ignore', 'pipe', 'pipe'],
      signal,
    });
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', (error) => reject(signal.aborted ? interrupted() : error));
    child.on('close', (code) =>
      settle({ code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString('utf8') }),
    );
  });
}
