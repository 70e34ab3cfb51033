import { access } from 'node:fs/promises';
import { MAX_RANK } from '../../protocol/limits.ts';
import { baseIdFlag, parseBaseId } from '../adapter-files/adapter-base.ts';
import {
  checkComposition,
  type ComposeMember,
  composeMembers,
  type Sum,
} from '../adapter-files/compose-members.ts';
import {
  encodeComposed,
  checkOutput,
  outputFiles,
  outputFlags,
  writeOutput,
} from '../adapter-files/write-output.ts';
import { baseFlag, loadUsableAdapter } from '../adapter-files/load-adapter.ts';
import { facts, fileSize } from '../adapter-files/module-table.ts';
import { command } from '../command.ts';
import { usageError } from '../flags.ts';

/** Modules with the largest errors that are printed; `--json` lists all. */
const MAX_WORST = 3;

export const composeCommand = command({
  verb: 'compose',
  examples: [
    {
      line: 'graft compose medicine cardiology -o both.safetensors',
      does: 'one adapter that does what both do',
    },
    {
      line: 'graft compose style:0.5 facts -o mix --to peft --rank 16',
      does: 'half of style and all of facts, truncated to rank 16, as a PEFT folder',
    },
  ],
  args: {
    'adapters...': {
      type: 'positional',
      description: 'Folders, files or published names, each as path or path:scale',
      valueHint: 'path',
      required: true,
    },
    ...outputFlags,
    to: {
      type: 'enum',
      options: ['canonical', 'peft', 'gguf'],
      description: 'canonical is the format of `graft pack`',
      default: 'canonical',
    },
    rank: { type: 'string', description: 'Truncate every module to this rank', valueHint: 'n' },
    ...baseIdFlag,
    ...baseFlag,
  },
  async run({ args, output }) {
    const { to, out } = args;
    const rank = args.rank === undefined ? null : parseRank(args.rank);
    const baseId = parseBaseId(args['base-id']);
    const search = { base: args.base, baseId, output, names: true };
    const paths = await Promise.all(args._.map(parseScaledPath));
    await checkOutput(out, to === 'peft' ? 'folder' : 'file', args.force === true);
    const members: ComposeMember[] = [];
    for (const { path, scale } of paths)
      members.push({ loaded: await loadUsableAdapter(path, search), scale });
    const composed = await checkComposition(members, baseId);
    for (const warning of composed.warnings) output.note(`warning: ${warning}`);
    const sum = composeMembers(members, rank, output);
    const where = members.map(({ loaded }) => loaded.input.where).join(' + ');
    const { content, digest, base } = await encodeComposed(to, sum, composed, where, search);
    await writeOutput(out, content);
    const files = outputFiles(out, content);
    const parent = to === 'canonical' ? composed.parent : null;
    const modules = sum.modules.length;
    const outRank = sum.modules.reduce((largest, module) => Math.max(largest, module.rank), 0);
    output.result(
      {
        members: members.map(({ loaded, scale }) => ({
          path: loaded.input.where,
          format: loaded.read.format,
          scale,
        })),
        to,
        out,
        files,
        digest,
        base,
        parent,
        rank: outRank,
        sum_rank: sum.sumRank,
        modules,
        relative_error: sum.truncated?.relativeError ?? 0,
        errors: (sum.truncated?.perModule ?? []).map((module) => ({
          name: module.name,
          rank: module.rank,
          relative_error: module.relativeError,
        })),
        warnings: composed.warnings,
      },
      () =>
        facts([
          ...files.map((file): [string, string] => ['wrote', `${file.path}, ${fileSize(file.bytes)}`]),
          ...members.map(({ loaded, scale }): [string, string] => [
            'member',
            loaded.input.where + (scale === 1 ? '' : ` x ${scale}`),
          ]),
          ['rank', `${outRank}${outRank === sum.sumRank ? '' : ` of ${sum.sumRank}`}, ${modules} modules`],
          ...errorFacts(sum),
          ['base', base],
          ['parent', to !== 'canonical' ? null : (parent ?? 'the base itself')],
          ['digest', digest],
        ]),
    );
  },
});

function parseRank(text: string): number {
  const rank = Number(text);
  if (Number.isInteger(rank) && rank >= 1 && rank <= MAX_RANK) return rank;
  throw usageError(`--rank ${text} is not a rank (1 to ${MAX_RANK}).`);
}

const percent = (share: number): string => `${(100 * share).toPrecision(3)} %`;

function errorFacts({ truncated }: Sum): [string, string][] {
  if (truncated === null) return [];
  if (truncated.relativeError === 0) return [['error', 'none: no module has a larger rank']];
  const worst = [...truncated.perModule]
    .sort((a, b) => b.relativeError - a.relativeError)
    .slice(0, MAX_WORST)
    .filter(({ relativeError }) => relativeError > 0);
  return [
    ['error', `${percent(truncated.relativeError)} of the sum's norm`],
    ...worst.map(({ name, relativeError }): [string, string] => [
      'worst',
      `${name}, ${percent(relativeError)}`,
    ]),
  ];
}

interface ScaledPath {
  readonly path: string;
  /** Default 1. */
  readonly scale: number;
}

/** A decimal number after the last colon. */
const SCALED = /^(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)$/i;

/**
 * @param given `path` or `path:scale`; if the whole text exists as a path, it is one.
 * @throws CliError (usage) for a scale that is 0 or not finite.
 */
export async function parseScaledPath(given: string): Promise<ScaledPath> {
  const match = SCALED.exec(given);
  const [, path, text] = match ?? [];
  if (path === undefined || text === undefined || (await exists(given))) return { path: given, scale: 1 };
  const scale = Number(text);
  if (scale !== 0 && Number.isFinite(scale)) return { path, scale };
  throw usageError(`${given}: a scale must be a number other than 0.`);
}

const exists = (entry: string): Promise<boolean> =>
  access(entry).then(
    () => true,
    () => false,
  );
