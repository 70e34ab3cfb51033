import { defineCommand } from 'citty';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { cacheFolder, ensurePinnedBase } from '../local/find-base.ts';
import { PINNED_BASE } from '../local/pinned-base.ts';
import { createOutput } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft pull', does: 'so that the next start needs no network; prints where the file is' },
  ],
};

export default defineCommand({
  meta: { name: 'pull', description: 'Get the default base model into the cache (GRAFT_CACHE)' },
  args: commonFlags,
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const file = await ensurePinnedBase({ cache: cacheFolder(process.env), output });
    output.result({ file, sha256: PINNED_BASE.sha256, bytes: PINNED_BASE.bytes }, () => file);
  },
});
