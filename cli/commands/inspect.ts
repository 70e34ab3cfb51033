/** What is in an adapter, and how two differ, module by module. */
import {
  AdapterFormatError,
  checkValues,
  describeAdapter,
  packAdapter,
  type AdapterDescription,
  diffAdapters,
  type AdapterDiff,
  type ClassifierDescription,
  type Invocation,
  printable,
} from '../../adapters/index.ts';
import { adapterBaseId } from '../adapter-files/adapter-base.ts';
import {
  ANY_HEADS,
  baseFlag,
  loadAdapter,
  type LoadedAdapter,
  loadUsableAdapter,
} from '../adapter-files/load-adapter.ts';
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
import { command } from '../command.ts';
import { colors } from '../output.ts';
import { asRefusal } from '../adapter-files/read-input.ts';

type Module = AdapterDescription['modules'][number];

/** Problems that are printed; `--json` lists all of them. */
const MAX_PROBLEMS = 10;

export const showCommand = command({
  verb: 'show',
  examples: [
    { line: 'graft show examples/adapters/medicine --summary', does: 'one line for each kind of layer' },
    { line: 'graft show notes.gguf --json', does: 'everything, for scripts' },
  ],
  args: {
    path: {
      type: 'positional',
      description: 'PEFT or MLX folder, .safetensors, .gguf or packed file, or a published name',
      valueHint: 'path',
      required: true,
    },
    summary: { type: 'boolean', description: 'One line for each kind of layer' },
    ...baseFlag,
  },
  async run({ args, output }) {
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
        ...(description.classifier === undefined ? {} : { classifier: inJson(description.classifier) }),
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
            ['base', description.base ?? 'not recorded'],
            [
              'parent',
              description.parent ?? (read.format === 'canonical' ? 'the base itself' : 'not recorded'),
            ],
            ['activated', invocationText(read.invocation)],
            ['classes', classifierText(description.classifier)],
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
              packed?.digest ?? (description.base === null ? 'unknown, as it depends on the base' : null),
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
        message:
          `${input.where} would be refused: ` +
          `${problems.length === 1 ? 'one problem' : `${problems.length} problems`}.`,
        exitCode: EXIT.refused,
        code: 'adapter_invalid',
      });
  },
});

/** null = it acts on every token. */
const invocationText = (invocation: Invocation): string | null =>
  invocation === undefined ? null : `from the last ${invocation.join(' ')} (token ids) in a prompt on`;

const inJson = ({ problemType, ...classifier }: ClassifierDescription) => ({
  ...classifier,
  problem_type: problemType,
});

/** Labels that a line shows. */
const MAX_LABELS = 8;

/** null = it generates text. */
function classifierText(classifier: ClassifierDescription | undefined): string | null {
  if (classifier === undefined) return null;
  const { classes, labels } = classifier;
  if (labels === null) return `${classes}, without labels`;
  const more = labels.length > MAX_LABELS ? ', …' : '';
  return `${classes}: ${labels.slice(0, MAX_LABELS).map(printable).join(', ')}${more}`;
}

const unordered = ({ read }: LoadedAdapter) => ({
  packed: null,
  problems: checkValues(read),
  warnings: [
    ...read.warnings,
    'The order of the rows of q and k depends on the base. Set --base to see the digest.',
  ],
});

/** The result of packing. */
async function check({ input, read, attention }: LoadedAdapter) {
  const warnings = [...read.warnings];
  const problems = checkValues(read);
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

type ComparedModule = AdapterDiff['modules'][number];

/** Digits that distinguish a small cosine from none. */
const DECIMALS = 3;

export const diffCommand = command({
  verb: 'diff',
  examples: [
    { line: 'graft diff medicine cardiology', does: 'how similar the deltas of two adapters are' },
    { line: 'graft diff alice/notes@1 alice/notes@2', does: 'what changed between two published versions' },
  ],
  args: {
    a: {
      type: 'positional',
      description: 'One adapter: a folder, a file, or a published name',
      valueHint: 'path',
      required: true,
    },
    b: { type: 'positional', description: 'The other adapter', valueHint: 'path', required: true },
    summary: { type: 'boolean', description: 'One line for each kind of layer' },
    ...baseFlag,
  },
  async run({ args, output }) {
    const search = { base: args.base, output, names: true };
    const a = await loadUsableAdapter(args.a, search);
    const b = await loadUsableAdapter(args.b, search);
    const diff = compare(a.read.modules, b.read.modules, a.input.where, b.input.where);
    for (const warning of diff.warnings) output.note(`warning: ${warning}`);
    output.result(
      {
        a: a.input.where,
        b: b.input.where,
        cosine: diff.cosine,
        norm_a: diff.normA,
        norm_b: diff.normB,
        modules: diff.modules.map(({ name, cosine, normA, normB }) => ({
          name,
          cosine,
          norm_a: normA,
          norm_b: normB,
        })),
        only_a: diff.onlyA,
        only_b: diff.onlyB,
        warnings: diff.warnings,
      },
      () => {
        const modules = byLayer(diff.modules);
        const only = (names: readonly string[]): string | null =>
          names.length === 0 ? null : `${names.length} modules: ${targets(names)}`;
        return [
          ...(modules.length === 0
            ? []
            : [args.summary === true ? comparedTargets(modules) : comparedModules(modules), '']),
          facts([
            ['A', `${a.input.where}, norm ${significant(diff.normA)}`],
            ['B', `${b.input.where}, norm ${significant(diff.normB)}`],
            ['only in A', only(diff.onlyA)],
            ['only in B', only(diff.onlyB)],
            ['in both', `${modules.length} modules`],
            ['cosine', `${cosineText(diff.cosine)} of the whole deltas`],
          ]),
        ].join('\n');
      },
    );
  },
});

type Modules = Parameters<typeof diffAdapters>[0];

function compare(a: Modules, b: Modules, whereA: string, whereB: string): AdapterDiff {
  try {
    return diffAdapters(a, b);
  } catch (error) {
    throw asRefusal(error, `${whereA} and ${whereB}`);
  }
}

/** A zero delta has no cosine. */
const cosineText = (cosine: number | null): string => (cosine === null ? '-' : cosine.toFixed(DECIMALS));

const targets = (names: readonly string[]): string =>
  [...byTarget(names.map((name) => ({ name })))].map(([target, of]) => `${target} x${of.length}`).join(', ');

const comparedModules = (modules: readonly ComparedModule[]): string =>
  numberTable(
    ['MODULE', 'COSINE', 'NORM A', 'NORM B'],
    modules.map(({ name, cosine, normA, normB }) => [
      name,
      cosineText(cosine),
      significant(normA),
      significant(normB),
    ]),
  );

const comparedTargets = (modules: readonly ComparedModule[]): string =>
  numberTable(
    ['TARGET', 'MODULES', 'COSINE', 'NORM A', 'NORM B'],
    [...byTarget(modules)].map(([target, of]) => [
      target,
      String(of.length),
      cosineRange(of.flatMap(({ cosine }) => cosine ?? [])),
      range(of.map(({ normA }) => normA)),
      range(of.map(({ normB }) => normB)),
    ]),
  );

function cosineRange(cosines: readonly number[]): string {
  const texts = [Math.min(...cosines), Math.max(...cosines)].map(cosineText);
  if (cosines.length === 0) return '-';
  return texts[0] === texts[1] ? texts[0]! : texts.join(' to ');
}
