import { type ArgsDef, defineCommand } from 'citty';
import { type CanonicalConfig, checkLineage, parseCanonical } from '../../adapters/index.ts';
import { chainId, Digest, nameProblem, sha256Hex } from '../../protocol/index.ts';
import { baseIdFlag, parseBaseId } from '../adapter-files/adapter-base.ts';
import { baseFlag, loadAdapter, packLoaded } from '../adapter-files/load-adapter.ts';
import { facts, fileSize, FORMAT_NAMES } from '../adapter-files/module-table.ts';
import { checkOutput, outputFlags, writeOutput } from '../adapter-files/write-output.ts';
import { asRefusal, readInput } from '../adapter-files/read-input.ts';
import { lookUpVersions } from '../admin/admin-client.ts';
import { createApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { commonFlags, usageError } from '../flags.ts';
import { createOutput } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft pack out/checkpoint-500 -o notes.safetensors',
      does: 'the file that `graft publish` uploads',
    },
    {
      line: 'graft pack out/child -o child.safetensors --parent medicine --bf16',
      does: 'for a child of medicine, half the size',
    },
  ],
};

/** Which chain of adapters a packed file says it was trained on top of. */
const parentFlags = {
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

export default defineCommand({
  meta: { name: 'pack' },
  args: {
    path: {
      type: 'positional',
      description: 'PEFT or MLX folder, .safetensors, .gguf or packed file',
      valueHint: 'path',
      required: true,
    },
    ...outputFlags,
    out: { ...outputFlags.out, description: 'The file to write' },
    ...baseIdFlag,
    ...parentFlags,
    bf16: { type: 'boolean', description: 'Round to bfloat16: half the size of float32' },
    ...baseFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const flag = parseBaseId(args['base-id']);
    await checkOutput(args.out, 'file', args.force === true);
    const loaded = await loadAdapter(args.path, { base: args.base, baseId: flag, output });
    const parent = await chooseParent({
      parent: args.parent,
      parentChain: args['parent-chain'],
      own: loaded.read.parent,
      env: process.env,
      folder: process.cwd(),
    });
    const { packed, baseId } = await packLoaded({
      loaded,
      baseId: flag,
      parent,
      dtype: args.bf16 === true ? 'BF16' : 'keep',
    });
    for (const warning of packed.warnings) output.note(`warning: ${warning}`);
    await writeOutput(args.out, packed.bytes);
    const { digest, rank, warnings, modules } = packed;
    output.result(
      {
        path: loaded.input.where,
        format: loaded.read.format,
        out: args.out,
        digest,
        bytes: packed.bytes.length,
        base: baseId,
        parent,
        rank,
        modules: modules.length,
        warnings,
      },
      () =>
        facts([
          ['wrote', `${args.out}, ${fileSize(packed.bytes.length)}`],
          ['from', `${loaded.input.where} (${FORMAT_NAMES[loaded.read.format]})`],
          ['digest', digest],
          ['base', baseId],
          ['parent', parent ?? 'the base itself'],
          ['rank', `${rank}, ${modules.length} modules`],
        ]),
    );
  },
});

/**
 * @param own what the adapter itself says, for when no flag does.
 * @throws CliError (usage) for flags that are not right, (refused) for files that are no chain, `model_not_found` when the name has no live version.
 */
async function chooseParent(params: {
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
