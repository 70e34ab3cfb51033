import { defineCommand } from 'citty';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { interruptible } from '../interruptible.ts';
import { findBase, usableCacheFolder } from '../local/find-base.ts';
import { originProgram } from '../local/origin-process.ts';
import { PINNED_BASE } from '../local/download-package.ts';
import { createOutput } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft pull', does: 'so that the next start needs no network; prints where the file is' },
    {
      line: 'graft pull hf:Qwen/Qwen3-0.6B',
      does: 'a repository of the Hugging Face Hub; graft dev --base hf:Qwen/Qwen3-0.6B then serves it',
    },
  ],
};

export default defineCommand({
  meta: { name: 'pull' },
  args: {
    base: {
      type: 'positional',
      required: false,
      description: 'hf:<owner>/<name>[/<file>.gguf][@<revision>]; the default base unless given',
    },
    ...commonFlags,
  },
  async run({ args }) {
    originProgram('main');
    const output = createOutput({ json: args.json === true });
    const base = typeof args.base === 'string' ? args.base : undefined;
    const cache = await usableCacheFolder(process.env);
    const file = await interruptible((signal) => findBase({ base, cache, env: process.env, output, signal }));
    const pinned = base === undefined ? { sha256: PINNED_BASE.sha256, bytes: PINNED_BASE.bytes } : {};
    output.result({ file, ...pinned }, () => file);
  },
});
