import { defineCommand } from 'citty';
import {
  AdapterFormatError,
  checkValues,
  describeAdapter,
  packAdapter,
  type AdapterDescription,
} from '../../adapters/index.ts';
import { adapterBaseId } from '../adapter-files/adapter-base.ts';
import { ANY_HEADS, baseFlag, loadAdapter, type LoadedAdapter } from '../adapter-files/load-adapter.ts';
import {
  byLayer,
  byTarget,
  facts,
  fileSize,
  FORMAT_NAMES,
  numberTable,
  range,
  significant,
} from '../adapter-files/module-table.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { colors, createOutput } from '../output.ts';

type Module = AdapterDescription['modules'][number];

/** Problems that are printed; `--json` has all of them. */
const MAX_PROBLEMS = 10;

export const help: CommandHelp = {
  examples: [
    { line: 'graft show examples/adapters/medicine --summary', does: 'one line for each kind of layer' },
    { line: 'graft show notes.gguf --json', does: 'everything, for scripts' },
  ],
};

export default defineCommand({
  meta: { name: 'show' },
  args: {
    path: {
      type: 'positional',
      description: 'PEFT or MLX folder, .safetensors, .gguf or packed file, or a published name',
      valueHint: 'path',
      required: true,
    },
    summary: { type: 'boolean', description: 'One line for each kind of layer' },
    ...baseFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const loaded = await loadAdapter(args.path, { base: args.base, orElse: ANY_HEADS, output, names: true });
    const { input, read, attention } = loaded;
    const description = describeAdapter({ read, bytes: input.bytes });
    const { packed, problems, warnings } = attention === ANY_HEADS ? unordered(loaded) : await check(loaded);
    for (const warning of warnings) output.note(`warning: ${warning}`);
    const norm = Math.hypot(...description.modules.map((module) => module.norm));
    output.result(
      {
        path: input.where,
        ...description,
        targets: description.targets.map(({ minRank, maxRank, ...target }) => ({
          ...target,
          min_rank: minRank,
          max_rank: maxRank,
        })),
        norm,
        packed_bytes: packed?.bytes.length ?? null,
        digest: packed?.digest ?? null,
        warnings,
        problems: problems.map(({ code, message }) => ({ code, message })),
      },
      () => {
        const modules = byLayer(description.modules);
        return [
          args.summary === true ? targetTable(modules) : moduleTable(modules),
          '',
          facts([
            ['format', FORMAT_NAMES[read.format]],
            ['base', description.base ?? 'not said'],
            ['parent', description.parent ?? (read.format === 'canonical' ? 'the base itself' : 'not said')],
            ['modules', `${modules.length}, rank ${range(modules.map(({ rank }) => rank))}`],
            [
              'parameters',
              `${description.parameters.toLocaleString('en')} in ${description.dtypes.join(', ')}`,
            ],
            ['norm', `${significant(norm)} of the whole delta`],
            [
              'size',
              fileSize(input.bytes) + (packed === null ? '' : `, packed ${fileSize(packed.bytes.length)}`),
            ],
            [
              'digest',
              packed?.digest ??
                (description.base === null ? 'unknown, like the base that it depends on' : null),
            ],
            ...problems
              .slice(0, MAX_PROBLEMS)
              .map(({ code, message }): [string, string] => [colors.red('problem'), `${message} (${code})`]),
          ]),
        ].join('\n');
      },
    );
    if (problems.length > 0)
      throw new CliError({
        message: `${input.where} would be refused: ${problems.length === 1 ? 'one problem' : `${problems.length} problems`}.`,
        exitCode: EXIT.refused,
        code: 'adapter_invalid',
      });
  },
});

const unordered = ({ read }: LoadedAdapter) => ({
  packed: null,
  problems: checkValues(read.modules),
  warnings: [
    ...read.warnings,
    'The order of the rows of q and k depends on the base: give it with --base to see the digest.',
  ],
});

/** What packing would say and write. */
async function check({ input, read, attention }: LoadedAdapter) {
  const warnings = [...read.warnings];
  const problems = checkValues(read.modules);
  const baseId = adapterBaseId(read.baseModel);
  if (problems.length > 0 || baseId === null) return { packed: null, problems, warnings };
  try {
    const packed = await packAdapter({ files: input.files, attention, baseId, parentChainId: read.parent });
    return { packed, problems, warnings: [...new Set([...warnings, ...packed.warnings])] };
  } catch (error) {
    if (!(error instanceof AdapterFormatError)) throw error;
    return { packed: null, problems: [error], warnings };
  }
}

const moduleTable = (modules: readonly Module[]): string =>
  numberTable(
    ['MODULE', 'RANK', 'ALPHA', 'SCALE', 'DTYPE', 'IN', 'OUT', 'NORM'],
    modules.map((module) => [
      module.name,
      String(module.rank),
      significant(module.alpha),
      significant(module.scale),
      module.dtype,
      String(module.in),
      String(module.out),
      significant(module.norm),
    ]),
  );

const targetTable = (modules: readonly Module[]): string =>
  numberTable(
    ['TARGET', 'MODULES', 'RANK', 'SCALE', 'DTYPE', 'IN', 'OUT', 'NORM'],
    [...byTarget(modules)].map(([target, items]) => [
      target,
      String(items.length),
      range(items.map(({ rank }) => rank)),
      range(items.map(({ scale }) => scale)),
      [...new Set(items.map(({ dtype }) => dtype))].sort().join(', '),
      range(items.map((item) => item.in)),
      range(items.map((item) => item.out)),
      range(items.map(({ norm }) => norm)),
    ]),
  );
