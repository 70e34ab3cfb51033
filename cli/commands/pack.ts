/** Rewrites an adapter: as the canonical file, or in another format. */
import type { ArgsDef } from 'citty';
import { type CanonicalConfig, checkLineage, parseCanonical } from '../../adapters/index.ts';
import { chainId, Digest, nameProblem, sha256Hex } from '../../protocol/identity.ts';
import { baseIdFlag, parseBaseId, adapterBaseId } from '../adapter-files/adapter-base.ts';
import {
  baseFlag,
  loadAdapter,
  packLoaded,
  type BaseSearch,
  type LoadedAdapter,
  loadUsableAdapter,
} from '../adapter-files/load-adapter.ts';
import { facts, fileSize, FORMAT_NAMES } from '../adapter-files/module-table.ts';
import {
  checkOutput,
  outputFlags,
  writeOutput,
  encodeAsGguf,
  encodeAsPeft,
  type Encoded,
  outputFiles,
} from '../adapter-files/write-output.ts';
import { asRefusal, readInput } from '../adapter-files/read-input.ts';
import { adminClient, lookUpVersions } from '../admin/admin-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { command } from '../command.ts';
import { usageError } from '../flags.ts';

/** The parent chain of a packed file. */
const parentFlags = {
  parent: {
    type: 'string',
    description: 'Name on the server of the adapter that it was trained on',
    valueHint: 'name',
  },
  'parent-chain': {
    type: 'string',
    description: 'The same without a name: a chain id, or packed files, root first: a,b',
    valueHint: 'id|files',
  },
} as const satisfies ArgsDef;

export const packCommand = command({
  verb: 'pack',
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
  },
  async run({ args, output }) {
    const flag = parseBaseId(args['base-id']);
    await checkOutput(args.out, 'file', args.force === true);
    const loaded = await loadAdapter(args.path, { base: args.base, baseId: flag, output });
    const parent = await chooseParent({
      parent: args.parent,
      parentChain: args['parent-chain'],
      own: loaded.read.parent,
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
 * @param own the adapter's own parent, if no flag is given.
 * @throws CliError (usage) for invalid flags, (refused) for files that are not a chain, `model_not_found` when
 * the name has no live version.
 */
async function chooseParent(params: {
  parent: string | undefined;
  parentChain: string | undefined;
  own: string | null;
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
  const live = (await lookUpVersions(await adminClient(), parent))?.versions.find((version) => version.live);
  if (live !== undefined) return live.chain_id;
  throw new CliError({
    message: `The parent '${parent}' has no live version that this key may use.`,
    exitCode: EXIT.notFound,
    code: 'model_not_found',
    next: 'graft ls',
  });
}

/** @throws CliError when a file is not packed, or not on exactly those before it. */
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

export const convertCommand = command({
  verb: 'convert',
  examples: [
    {
      line: 'graft convert adapters/mlx --to peft -o adapters/peft',
      does: 'for PEFT, vLLM and other PEFT readers',
    },
    {
      line: 'graft convert out/notes --to gguf -o notes.gguf --base model.gguf',
      does: 'for llama.cpp; the base determines the order of the rows of q and k',
    },
  ],
  args: {
    path: {
      type: 'positional',
      description: 'PEFT or MLX folder, .safetensors, .gguf or packed file',
      valueHint: 'path',
      required: true,
    },
    to: {
      type: 'enum',
      options: ['peft', 'gguf', 'canonical', 'bf16'],
      description: 'canonical is the format of `graft pack`; bf16 is the same in bfloat16',
      required: true,
    },
    ...outputFlags,
    'dry-run': { type: 'boolean', description: 'Show what would be written, but write nothing' },
    f16: { type: 'boolean', description: 'GGUF in float16 instead of float32' },
    ...baseIdFlag,
    ...baseFlag,
  },
  async run({ args, output }) {
    const { to, out } = args;
    const dryRun = args['dry-run'] === true;
    if (args.f16 === true && to !== 'gguf') throw usageError('--f16 is for --to gguf only.');
    const baseId = parseBaseId(args['base-id']);
    const search = { base: args.base, baseId, output };
    if (!dryRun) await checkOutput(out, to === 'peft' ? 'folder' : 'file', args.force === true);
    const loaded = await loadUsableAdapter(args.path, search);
    const { read, input } = loaded;
    if (read.parent !== null && (to === 'peft' || to === 'gguf'))
      output.note(`warning: ${FORMAT_NAMES[to]} does not record the parent chain ${read.parent}.`);
    const { content, digest } = await encode(loaded, to, args.f16 === true ? 'F16' : 'F32', search);
    if (!dryRun) await writeOutput(out, content);
    const files = outputFiles(out, content);
    output.result({ path: input.where, format: read.format, to, out, files, digest, dry_run: dryRun }, () =>
      facts([
        ...files.map(({ path: file, bytes }): [string, string] => [
          dryRun ? 'would write' : 'wrote',
          `${file}, ${fileSize(bytes)}`,
        ]),
        ['from', `${input.where} (${FORMAT_NAMES[read.format]}), ${fileSize(input.bytes)}`],
        ['digest', digest],
      ]),
    );
  },
});

async function encode(
  loaded: LoadedAdapter,
  to: 'peft' | 'gguf' | 'canonical' | 'bf16',
  dtype: 'F32' | 'F16',
  search: BaseSearch & { baseId: string | undefined },
): Promise<Encoded> {
  const { input, read } = loaded;
  const { modules, invocation, classifier } = read;
  const content = { modules, invocation, classifier };
  const where = input.where;
  const baseModel = read.baseModel ?? search.baseId ?? null;
  if (to === 'peft') return encodeAsPeft({ ...content, baseModel, where });
  if (to === 'gguf')
    return encodeAsGguf({
      ...content,
      baseModel,
      baseId: adapterBaseId(baseModel),
      dtype,
      where,
      search,
    });
  const { packed } = await packLoaded({
    loaded,
    baseId: search.baseId,
    parent: read.parent,
    dtype: to === 'bf16' ? 'BF16' : 'keep',
  });
  for (const warning of packed.warnings)
    if (!read.warnings.includes(warning)) search.output.note(`warning: ${warning}`);
  return { content: packed.bytes, digest: packed.digest };
}
