import { defineCommand } from 'citty';
import { commonFlags } from '../flags.ts';
import { cacheFolder, ensurePinnedBase } from '../local/find-base.ts';
import { PINNED_BASE } from '../local/pinned-base.ts';
import { createOutput } from '../output.ts';

export default defineCommand({
  meta: { name: 'pull', description: 'Get the default base model into the cache (GRAFT_CACHE)' },
  args: commonFlags,
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const file = await ensurePinnedBase({ cache: cacheFolder(process.env), output });
    output.result({ file, sha256: PINNED_BASE.sha256, bytes: PINNED_BASE.bytes }, () => file);
  },
});
