import { rm } from 'node:fs/promises';
import path from 'node:path';
import { ROOT } from '../../cli/local/origin-process.ts';
import { cacheFolder } from '../../cli/local/find-base.ts';
import { readKeysFile } from '../../cli/local/keys-file.ts';
import { startStack } from '../../cli/local/stack.ts';
import { lookUpVersions } from '../../cli/admin/look-up.ts';
import { createApiClient } from '../../cli/api-client.ts';
import { createOutput } from '../../cli/output.ts';
import { publishAdapter } from '../../cli/publish/publish-adapter.ts';
import { parseSigningKeys } from '../../protocol/index.ts';
import { measureEdgeOverhead, type EdgeSummary } from './edge-overhead.ts';

const NAME = 'bench/intent';

/** Starts the whole stack on free ports, publishes one real adapter, and compares the edge with its own origin. */
export async function benchEdge(params: {
  base: string;
  work: string;
  pairs: number;
  signal: AbortSignal;
}): Promise<EdgeSummary> {
  const output = createOutput({ json: true });
  const cache = cacheFolder(process.env);
  const stack = await startStack({
    folder: params.work,
    base: params.base,
    port: 0,
    originPort: 0,
    examples: false,
    originArgs: [],
    env: process.env,
    output,
    signal: params.signal,
  });
  try {
    const { url, key, adminKey, originUrl } = stack.local;
    const client = createApiClient({ url, key: adminKey });
    const folder = path.join(ROOT, 'examples/adapters/intent-v2');
    await publishAdapter({ client, given: folder, name: NAME, parent: null, stage: false, output });
    const live = (await lookUpVersions(client, NAME))?.versions[0];
    const keys = await readKeysFile(params.work);
    const signingKey = parseSigningKeys(keys?.originKeys ?? '')[0];
    if (live === undefined || keys === null || signingKey === undefined)
      throw new Error('the stack published nothing');
    return await measureEdgeOverhead({
      edge: { url, key, model: NAME },
      origin: {
        url: originUrl,
        id: keys.originId,
        signingKey,
        chain: live.chain.map(({ digest, scale }) => ({ digest, scale })),
      },
      pairs: params.pairs,
    });
  } finally {
    const keys = await readKeysFile(params.work);
    await stack.stop();
    // The origin's store of adapter files, which nobody will use again.
    if (keys !== null)
      await rm(path.join(cache, `adapters-${keys.originId}`), { recursive: true, force: true });
  }
}
