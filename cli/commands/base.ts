import path from 'node:path';
import { defineCommand } from 'citty';
import { z } from 'zod';
import { Digest, WEB_BASE_MANIFEST } from '../../protocol/index.ts';
import { pickAction, type Actions } from '../actions.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, usageError } from '../flags.ts';
import { interruptible } from '../interruptible.ts';
import { cacheFolder, findBase } from '../local/find-base.ts';
import { originProgress } from '../local/origin-progress.ts';
import { originProgram, ROOT, startOrigin } from '../local/origin-process.ts';
import { createOutput, fileSize } from '../output.ts';

/** What the worker serves under /base/. */
const ASSETS = 'dist/page/base';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft base export --web',
      does: 'among the files that the edge serves: browsers find it under /base/',
    },
    { line: 'graft base export --web --to folder -o site/base', does: 'for any static server' },
    {
      line: 'graft base export --web --base hf:Qwen/Qwen3-0.6B',
      does: 'another base than the default; the edge’s origins must serve the same',
    },
  ],
  notes: [
    'Writes int8 weights, the embedding too, in parts of 24 MiB with a manifest that names each part’s sha256; `graft-lora/browser` fetches them once into the browser’s private storage ([docs/browser.md](browser.md)). Whoever can read them has the base’s weights: the edge serves them to anybody. Its adapters are another matter: those need a download token. A second export writes what has changed.',
  ],
};

export const actions = {
  export: {
    summary: 'Write it in parts that browsers fetch',
    arguments: [],
    flags: ['web', 'to', 'out', 'base', 'base-id'],
  },
} as const satisfies Actions;

const Exported = z.object({
  id: z.string(),
  digest: Digest,
  weights: z.string(),
  parts: z.int(),
  bytes: z.int(),
});

export default defineCommand({
  meta: { name: 'base' },
  args: {
    action: { type: 'positional', description: 'What to do with it', required: true },
    web: { type: 'boolean', description: 'For browsers; the only form that there is' },
    to: {
      type: 'enum',
      options: ['assets', 'folder'],
      description: 'assets: what the edge serves; folder: what -o says',
      default: 'assets',
    },
    out: { type: 'string', alias: 'o', description: 'With --to folder: which', valueHint: 'path' },
    base: {
      type: 'string',
      description: 'A .gguf file, a Hugging Face folder or hf:<owner>/<name>; the default base unless given',
      valueHint: 'base',
    },
    'base-id': { type: 'string', description: 'Id under which origins serve it', valueHint: 'id' },
    ...commonFlags,
  },
  async run({ args }) {
    pickAction({ verb: 'base', actions, word: args.action, args: { ...args, to: undefined } });
    if (args.web !== true) throw usageError('Say --web: a base is exported for browsers.');
    originProgram('export-web-base');
    const folder = folderOf(args);
    const output = createOutput({ json: args.json === true });
    const cache = cacheFolder(process.env);
    const base = await findBase({ base: args.base, cache, env: process.env, output });
    const progress = originProgress(output);
    const exported = await interruptible(async (signal) => {
      const id = args['base-id'] === undefined ? [] : ['--base-id', args['base-id']];
      const process = await startOrigin({
        entry: 'export-web-base',
        failure: 'The base was not exported',
        args: ['--base', base, '--cache', cache, '--out', folder, ...id],
        env: {},
        onEvent: progress.hear,
        signal,
      }).finally(progress.end);
      await process.stop();
      return Exported.parse(process.ready);
    });
    const manifest = path.join(folder, WEB_BASE_MANIFEST);
    output.result({ ...exported, manifest }, () => {
      const { id, weights, parts, bytes } = exported;
      return `${id} (${weights}): ${fileSize(bytes)} in ${parts} ${parts === 1 ? 'part' : 'parts'}, ${manifest}`;
    });
  },
});

/** @throws CliError (usage) */
export function folderOf({ to, out }: { to: string; out?: string | undefined }): string {
  if (to === 'folder') {
    if (out === undefined) throw usageError('--to folder needs -o <path>.');
    return path.resolve(out);
  }
  if (out !== undefined)
    throw usageError('-o is for --to folder; without it the edge’s own files are written.');
  return path.join(ROOT, ASSETS);
}
