import { rm } from 'node:fs/promises';
import path from 'node:path';
import { lookUpVersions } from '../cli/admin/admin-client.ts';
import { createApiClient, type ApiClient } from '../cli/api-client.ts';
import { cacheFolder } from '../cli/local/find-base.ts';
import { readKeysFile } from '../cli/local/graft-folder.ts';
import { startStack, type Stack } from '../cli/local/stack.ts';
import { createOutput } from '../cli/output.ts';
import { publishAdapter } from '../cli/publish/publish-adapter.ts';
import type { VersionView } from '../protocol/admin-api/versions.ts';
import type { ChainEntry } from '../protocol/identity.ts';
import { parseSigningKeys } from '../protocol/signature.ts';
import type { SignedOrigin } from './load/sign-for-origin.ts';
import { targetAt, type Target } from './load/target.ts';

/** Edge and origin on free ports, with adapters of the bench's own. */
export interface PublishedStack {
  readonly stack: Stack;
  readonly admin: ApiClient;
  /** The origin, asked as its edge does. */
  readonly signed: SignedOrigin;
  /** Publishes a PEFT folder. @returns what is live then. */
  publish(name: string, folder: string): Promise<VersionView>;
  /** Chain of a published name; empty for the base. */
  chainOf(name: string | null): readonly ChainEntry[];
  /** Adapter i is the published `<prefix>i`. */
  edge(label: string, prefix: string): Target;
  origin(label: string, prefix: string): Target;
  stop(): Promise<void>;
}

/** @param work an empty folder for state. @param env instead of the process's own. */
export async function startPublishedStack(params: {
  base: string;
  work: string;
  originArgs: readonly string[];
  signal: AbortSignal;
  env?: Record<string, string | undefined>;
}): Promise<PublishedStack> {
  const { base, work, signal, originArgs, env = process.env } = params;
  const output = createOutput({ json: true });
  const stack = await startStack({
    ...{ folder: work, base, port: 0, originPort: 0, examples: false, originArgs, env, output, signal },
  });
  const stop = async () => {
    const keys = await readKeysFile(work);
    await stack.stop();
    // The origin's store of adapter files, which nobody will use again.
    if (keys !== null)
      await rm(path.join(cacheFolder(env), `adapters-${keys.originId}`), { recursive: true, force: true });
  };
  try {
    const { url, key, adminKey, originUrl, base: id } = stack.local;
    const admin = createApiClient({ url, key: adminKey });
    const keys = await readKeysFile(work);
    const signingKey = parseSigningKeys(keys?.originKeys ?? '')[0];
    if (keys === null || signingKey === undefined) throw new Error('the stack has no keys');
    const signed: SignedOrigin = { url: originUrl, id: keys.originId, signingKey };
    const chains = new Map<string, readonly ChainEntry[]>();
    const chainOf = (name: string | null) => (name === null ? [] : (chains.get(name) ?? []));
    return {
      ...{ stack, admin, signed, chainOf, stop },
      async publish(name, folder) {
        signal.throwIfAborted();
        await publishAdapter({ client: admin, given: folder, name, parent: null, stage: false, output });
        const live = (await lookUpVersions(admin, name))?.versions[0];
        if (live === undefined) throw new Error(`${name} was not published`);
        chains.set(
          name,
          live.chain.map(({ digest, scale }) => ({ digest, scale })),
        );
        return live;
      },
      edge: (label, prefix) => ({ ...targetAt(label, url), prefix, base: id, key }),
      origin: (label, prefix) => ({
        ...{ ...targetAt(label, originUrl), prefix, base: id },
        signed: {
          ...signed,
          chainOf: (adapter) => chainOf(adapter === null ? null : `${prefix}${adapter}`),
        },
      }),
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
