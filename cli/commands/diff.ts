import { defineCommand } from 'citty';
import { diffAdapters, type AdapterDiff } from '../../adapters/index.ts';
import { baseFlag, loadUsableAdapter } from '../adapter-files/load-adapter.ts';
import { byLayer, byTarget, facts, numberTable, range, significant } from '../adapter-files/module-table.ts';
import { asRefusal } from '../adapter-files/read-input.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput } from '../output.ts';

type Module = AdapterDiff['modules'][number];

/** Tell a small cosine from none. */
const DECIMALS = 3;

export const help: CommandHelp = {
  examples: [
    { line: 'graft diff medicine cardiology', does: 'how far the deltas of two adapters point the same way' },
    { line: 'graft diff alice/notes@1 alice/notes@2', does: 'what changed between two published versions' },
  ],
};

export default defineCommand({
  meta: { name: 'diff' },
  args: {
    a: {
      type: 'positional',
      description: 'One adapter: a folder, a file, or a published name',
      valueHint: 'path',
      required: true,
    },
    b: { type: 'positional', description: 'The other one', valueHint: 'path', required: true },
    summary: { type: 'boolean', description: 'One line for each kind of layer' },
    ...baseFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
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
            : [args.summary === true ? targetTable(modules) : moduleTable(modules), '']),
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

/** That of a zero delta is not defined. */
const cosineText = (cosine: number | null): string => (cosine === null ? '-' : cosine.toFixed(DECIMALS));

const targets = (names: readonly string[]): string =>
  [...byTarget(names.map((name) => ({ name })))].map(([target, of]) => `${target} x${of.length}`).join(', ');

const moduleTable = (modules: readonly Module[]): string =>
  numberTable(
    ['MODULE', 'COSINE', 'NORM A', 'NORM B'],
    modules.map(({ name, cosine, normA, normB }) => [
      name,
      cosineText(cosine),
      significant(normA),
      significant(normB),
    ]),
  );

const targetTable = (modules: readonly Module[]): string =>
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
