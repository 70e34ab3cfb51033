import { defineCommand } from 'citty';
import { baseIdFlag, parseBaseId } from '../adapter-files/base-id.ts';
import { baseFlag, loadAdapter } from '../adapter-files/load-adapter.ts';
import { facts, fileSize, FORMAT_NAMES } from '../adapter-files/module-table.ts';
import { outputFlags } from '../adapter-files/output-flags.ts';
import { packLoaded } from '../adapter-files/pack-loaded.ts';
import { chooseParent, parentFlags } from '../adapter-files/parent-chain.ts';
import { checkOutput, writeOutput } from '../adapter-files/write-output.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
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
    {
      line: 'graft pack out/child -o child.safetensors --parent-chain medicine.safetensors',
      does: 'the same without a server',
    },
  ],
  notes: [
    'Packing the same adapter gives the same bytes, and their sha256 is the adapter’s digest. An adapter that was packed before keeps its parent, and is refused for another.',
  ],
};

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
