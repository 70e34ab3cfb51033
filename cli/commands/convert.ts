import { defineCommand } from 'citty';
import { adapterBaseId, baseIdFlag, parseBaseId } from '../adapter-files/adapter-base.ts';
import {
  encodeAsGguf,
  encodeAsPeft,
  type Encoded,
  checkOutput,
  outputFiles,
  outputFlags,
  writeOutput,
} from '../adapter-files/write-output.ts';
import {
  baseFlag,
  type BaseSearch,
  type LoadedAdapter,
  loadUsableAdapter,
  packLoaded,
} from '../adapter-files/load-adapter.ts';
import { facts, fileSize, FORMAT_NAMES } from '../adapter-files/module-table.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, usageError } from '../flags.ts';
import { createOutput } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft convert adapters/mlx --to peft -o adapters/peft',
      does: 'for PEFT, vLLM and what else reads it',
    },
    {
      line: 'graft convert out/notes --to gguf -o notes.gguf --base model.gguf',
      does: 'for llama.cpp; the base says how many heads the rows of q and k belong to',
    },
  ],
};

export default defineCommand({
  meta: { name: 'convert' },
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
      description: 'canonical is what `graft pack` writes, bf16 the same in bfloat16',
      required: true,
    },
    ...outputFlags,
    'dry-run': { type: 'boolean', description: 'Say what would be written, and write nothing' },
    f16: { type: 'boolean', description: 'GGUF in float16 instead of float32' },
    ...baseIdFlag,
    ...baseFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
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
  const { modules } = read;
  const where = input.where;
  const baseModel = read.baseModel ?? search.baseId ?? null;
  if (to === 'peft') return encodeAsPeft({ modules, baseModel, where });
  if (to === 'gguf')
    return encodeAsGguf({ modules, baseModel, baseId: adapterBaseId(baseModel), dtype, where, search });
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
