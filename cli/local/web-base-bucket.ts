/** A base for browsers in an R2 bucket, put there by wrangler, which knows whose account it is. */
import path from 'node:path';
import {
  WEB_BASE_MANIFEST,
  WebBaseManifest,
  webBasePartName,
  type WebBaseManifest as Manifest,
} from '../../protocol/index.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { wranglerRunner, type WranglerResult } from '../deploy/run-wrangler.ts';

/** Keys begin with it, as the edge's paths do. */
export const BUCKET_FOLDER = 'base';
/** Where wrangler looks: the account's own bucket. Tests look into one on this machine. */
const REMOTE = ['--remote'];
const MISSING = 'key does not exist';

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
  // Whoever is logged in for it, or has CLOUDFLARE_API_TOKEN, is who puts; an account may be named in this folder's wrangler.toml.
  const wrangler = wranglerRunner({ folder: process.cwd(), account: null, env: process.env, signal });
  const object = async (
    verb: 'get' | 'put' | 'delete',
    name: string,
    args: string[],
  ): Promise<WranglerResult> => {
    const ran = await wrangler(['r2', 'object', verb, key(name), ...args, ...where]);
    if (ran.ok || (verb === 'get' && ran.message.includes(MISSING))) return ran;
    throw new CliError({
      message: `wrangler r2 object ${verb} ${key(name)}: ${ran.message}`,
      exitCode: EXIT.error,
      code: 'wrangler_failed',
    });
  };
  const put = (name: string, type: string, cache: string): Promise<WranglerResult> => {
    const file = path.resolve(folder, name);
    return object('put', name, ['--file', file, '--content-type', type, '--cache-control', cache]);
  };
  const got = await object('get', WEB_BASE_MANIFEST, ['--pipe']);
  const there = new Set(got.ok ? partsOf(got.stdout) : []);
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
function partsOf(text: string): string[] {
  try {
    return WebBaseManifest.parse(JSON.parse(text)).parts.map(({ sha256 }) => sha256);
  } catch {
    return [];
  }
}
