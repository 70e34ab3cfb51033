/** Which chain of adapters a packed file says it was trained on top of. */
import type { ArgsDef } from 'citty';
import { checkLineage, parseCanonical, type CanonicalConfig } from '../../adapters/index.ts';
import { chainId, Digest, nameProblem, sha256Hex } from '../../protocol/index.ts';
import { lookUpVersions } from '../admin/look-up.ts';
import { createApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { usageError } from '../flags.ts';
import { readInput } from './read-input.ts';
import { asRefusal } from './refusal.ts';

export const parentFlags = {
  parent: {
    type: 'string',
    description: 'Name of the adapter it was trained on top of, on the server',
    valueHint: 'name',
  },
  'parent-chain': {
    type: 'string',
    description: 'The same without one: a chain id, or packed files, root first: a,b',
    valueHint: 'id|files',
  },
} as const satisfies ArgsDef;

/**
 * @param own what the adapter itself says, for when no flag does.
 * @throws CliError (usage) for flags that are not right, (refused) for files that are no chain, `model_not_found` when the name has no live version.
 */
export async function chooseParent(params: {
  parent: string | undefined;
  parentChain: string | undefined;
  own: string | null;
  env: Record<string, string | undefined>;
  folder: string;
}): Promise<string | null> {
  const { parent, parentChain, own } = params;
  if (parent !== undefined && parentChain !== undefined)
    throw usageError('Give --parent or --parent-chain, not both.');
  if (parentChain !== undefined) {
    if (Digest.safeParse(parentChain).success) return parentChain;
    return chainOfFiles(parentChain.split(',').filter((file) => file !== ''));
  }
  if (parent === undefined) return own;
  const problem = nameProblem(parent);
  if (problem !== null) throw usageError(`--parent ${parent}: ${problem}.`);
  const connection = await readConnection(params);
  const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
  const live = (await lookUpVersions(client, parent))?.versions.find((version) => version.live);
  if (live !== undefined) return live.chain_id;
  throw new CliError({
    message: `The parent '${parent}' has no live version that this key may use; \`graft ls\` lists the names.`,
    exitCode: EXIT.notFound,
    code: 'model_not_found',
  });
}

/** @throws CliError when a file is not packed, or not for exactly those before it. */
async function chainOfFiles(paths: readonly string[]): Promise<string> {
  if (paths.length === 0) throw usageError('--parent-chain needs a chain id, or packed files.');
  const chain: { digest: string; scale: number; config: CanonicalConfig }[] = [];
  for (const given of paths) {
    const { files, where } = await readInput(given);
    try {
      const { config } = parseCanonical(files.weights, { path: where });
      chain.push({ digest: await sha256Hex(new Uint8Array(files.weights)), scale: 1, config });
    } catch (error) {
      throw asRefusal(error, where);
    }
  }
  const problem = await checkLineage(chain);
  if (problem !== null) throw asRefusal(problem, paths.join(','));
  return chainId(chain);
}
