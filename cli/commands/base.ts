/** Base models: download one into the cache, export one for browsers. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import {
  WEB_BASE_MANIFEST,
  WebBaseManifest,
  type WebBaseManifest as Manifest,
  webBasePartName,
} from '../../protocol/browser-downloads.ts';
import { Digest } from '../../protocol/identity.ts';
import { type Actions, pickAction, command } from '../command.ts';
import { CliError, EXIT, interruptible } from '../cli-error.ts';
import { type WranglerResult, wranglerRunner } from '../deploy/run-wrangler.ts';
import { usageError } from '../flags.ts';
import { findBase, usableCacheFolder } from '../local/find-base.ts';
import { originProgram, originProgress, ROOT, startOrigin } from '../local/origin-process.ts';
import { fileSize, type Output } from '../output.ts';
import { PINNED_BASE } from '../local/download-package.ts';

/** The folder that the worker serves under /base/. */
const ASSETS = 'dist/page/base';

export const actions = {
  export: {
    summary: 'Write it in parts that browsers download',
    arguments: [],
    flags: ['web', 'to', 'out', 'bucket', 'base', 'base-id'],
  },
} as const satisfies Actions;

const Exported = z.object({
  id: z.string(),
  digest: Digest,
  weights: z.string(),
  parts: z.int(),
  bytes: z.int(),
});

export const baseCommand = command({
  verb: 'base',
  examples: [
    {
      line: 'graft base export --web',
      does: 'among the files that the edge serves: browsers find it under /base/',
    },
    { line: 'graft base export --web --to folder -o site/base', does: 'for any static server' },
    {
      line: 'graft base export --web --to r2 --bucket web-base',
      does: 'into an R2 bucket with wrangler, below base/; existing parts are not uploaded again',
    },
    {
      line: 'graft base export --web --base hf:Qwen/Qwen3-0.6B',
      does: 'another base than the default; the edge’s origins must serve the same base',
    },
  ],
  actions,
  args: {
    action: { type: 'positional', description: 'What to do with it', required: true },
    web: { type: 'boolean', description: 'For browsers; the only format' },
    to: {
      type: 'enum',
      options: ['assets', 'folder', 'r2'],
      description:
        'assets: the files that the edge serves; folder: the path of -o; r2: the bucket of --bucket',
      default: 'assets',
    },
    out: { type: 'string', alias: 'o', description: 'With --to folder: its path', valueHint: 'path' },
    bucket: { type: 'string', description: "With --to r2: the bucket's name", valueHint: 'name' },
    base: {
      type: 'string',
      description: 'A .gguf file, a Hugging Face folder or hf:<owner>/<name>; default: the default base',
      valueHint: 'base',
    },
    'base-id': { type: 'string', description: 'Id under which origins serve it', valueHint: 'id' },
  },
  async run({ args, output }) {
    pickAction({ verb: 'base', actions, word: args.action, args: { ...args, to: undefined } });
    if (args.web !== true) throw usageError('Add --web: a base can only be exported for browsers.');
    originProgram('export-web-base');
    const cache = await usableCacheFolder(process.env);
    const folder = folderOf(args, cache);
    const progress = originProgress(output);
    const exported = await interruptible(async (signal) => {
      const base = await findBase({ base: args.base, cache, env: process.env, output, signal });
      const id = args['base-id'] === undefined ? [] : ['--base-id', args['base-id']];
      const exporter = await startOrigin({
        entry: 'export-web-base',
        failure: 'The base was not exported',
        args: ['--base', base, '--cache', cache, '--out', folder, ...id],
        env: {},
        onEvent: progress.hear,
        signal,
      }).finally(progress.end);
      await exporter.stop();
      const said = Exported.parse(exporter.ready);
      return { ...said, ...(await putInBucket(args.bucket, folder, output, signal)) };
    });
    const manifest =
      args.bucket === undefined
        ? path.join(folder, WEB_BASE_MANIFEST)
        : `${args.bucket}/${BUCKET_FOLDER}/${WEB_BASE_MANIFEST}`;
    output.result({ ...exported, manifest }, () => {
      const { id, weights, parts, bytes } = exported;
      return `${id} (${weights}): ${fileSize(bytes)} in ${parts} ${parts === 1 ? 'part' : 'parts'}, ${manifest}`;
    });
  },
});

async function putInBucket(
  bucket: string | undefined,
  folder: string,
  output: Output,
  signal: AbortSignal,
): Promise<{ put?: number; removed?: number }> {
  if (bucket === undefined) return {};
  const text = await readFile(path.join(folder, WEB_BASE_MANIFEST), 'utf8');
  const bar = output.progress(bucket);
  try {
    return await putWebBase({
      ...{ bucket, folder, signal, manifest: WebBaseManifest.parse(JSON.parse(text)) },
      onProgress: (done, total) => bar.update(done, total),
    });
  } finally {
    bar.end();
  }
}

interface Where {
  to: string;
  out?: string | undefined;
  bucket?: string | undefined;
}

/** @param cache for the parts that go to a bucket. @throws CliError (usage) */
export function folderOf({ to, out, bucket }: Where, cache: string): string {
  if (bucket !== undefined && to !== 'r2') throw usageError('--bucket needs --to r2.');
  if (to === 'folder') {
    if (out === undefined) throw usageError('--to folder needs -o <path>.');
    return path.resolve(out);
  }
  if (out !== undefined)
    throw usageError('-o needs --to folder; without it, the edge’s own files are written.');
  if (to !== 'r2') return path.join(ROOT, ASSETS);
  if (bucket === undefined) throw usageError('--to r2 needs --bucket <name>.');
  return path.join(cache, 'web-base', bucket);
}

/** Prefix of the bucket's keys, like the edge's paths. */
const BUCKET_FOLDER = 'base';
/** The account's own bucket. Tests use a local one. */
const REMOTE = ['--remote'];
const MISSING = 'key does not exist';

interface PutParams {
  bucket: string;
  /** Of the export. */
  folder: string;
  manifest: Manifest;
  /** Bytes of existing parts. */
  onProgress: (done: number, total: number) => void;
  signal: AbortSignal;
  /** Default: {@link REMOTE}. */
  where?: readonly string[];
}

/**
 * Parts in the bucket's manifest are not uploaded again; the new manifest is uploaded last, and parts that it
 * does not name are removed.
 * @returns uploaded and removed parts. @throws CliError with wrangler's message.
 */
export async function putWebBase(params: PutParams): Promise<{ put: number; removed: number }> {
  const { bucket, folder, manifest, onProgress, signal, where = REMOTE } = params;
  const key = (name: string): string => `${bucket}/${BUCKET_FOLDER}/${name}`;
  // Uses wrangler's own sign-in or CLOUDFLARE_API_TOKEN; this folder's wrangler.toml may name an account.
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

/** A manifest that this version cannot read counts as missing. */
function partsOf(text: string): string[] {
  try {
    return WebBaseManifest.parse(JSON.parse(text)).parts.map(({ sha256 }) => sha256);
  } catch {
    return [];
  }
}

export const pullCommand = command({
  verb: 'pull',
  examples: [
    { line: 'graft pull', does: "so that the next start needs no network; prints the file's path" },
    {
      line: 'graft pull hf:Qwen/Qwen3-0.6B',
      does: 'a repository of the Hugging Face Hub; graft dev --base hf:Qwen/Qwen3-0.6B then serves it',
    },
  ],
  args: {
    base: {
      type: 'positional',
      required: false,
      description: 'hf:<owner>/<name>[/<file>.gguf][@<revision>]; default: the default base',
    },
  },
  async run({ args, output }) {
    originProgram('main');
    const base = typeof args.base === 'string' ? args.base : undefined;
    const cache = await usableCacheFolder(process.env);
    const file = await interruptible((signal) => findBase({ base, cache, env: process.env, output, signal }));
    const pinned = base === undefined ? { sha256: PINNED_BASE.sha256, bytes: PINNED_BASE.bytes } : {};
    output.result({ file, ...pinned }, () => file);
  },
});
