import { createApiClient } from '../api-client.ts';
import { command } from '../command.ts';
import {
  compareNames,
  type CompareWish,
  type ComparisonSummary,
  type PairSummary,
  type PositionSummary,
} from '../compare/compare-names.ts';
import { ComparisonRow } from '../compare/ask-answers.ts';
import { PERSON } from '../compare/judge.ts';
import { createResults, type Heading, openResults } from '../compare/results-file.ts';
import type { Estimate } from '../compare/statistics/win-rate.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { parseCount, usageError } from '../flags.ts';
import { interruptible } from '../cli-error.ts';
import { colors, plainTable } from '../output.ts';
import { readJsonLines } from '../read-json-lines.ts';

/** Bradley-Terry of more would compare each with each: forty-five pairs a prompt. */
const MAX_NAMES = 10;
/** An origin's batch has room for more, but also serves others. */
const MAX_PARALLEL = 64;
/** Beyond that an answer is noise (OpenAI's limit). */
const MAX_TEMPERATURE = 2;

export const compareCommand = command({
  verb: 'compare',
  examples: [
    {
      line: 'graft compare support/intent@1 support/intent@2 rows.jsonl',
      does: 'which one gives the expected answers',
    },
    {
      line: 'graft compare alice/notes alice/notes@7 base prompts.jsonl --judge medicine --out results.jsonl',
      does: 'three at once, judged by another adapter; can be interrupted and run again',
    },
  ],
  args: {
    name: {
      type: 'positional',
      description: 'Name, such as alice/notes, or a version of it, or the base',
      required: true,
    },
    other: { type: 'positional', description: 'The other one', required: true },
    'prompts...': {
      type: 'positional',
      description: 'Further names, if any, and last the file of prompts (JSON Lines)',
      valueHint: 'rows.jsonl',
      required: true,
    },
    judge: {
      type: 'string',
      description: 'exact, me, or the name of a model that judges',
      valueHint: 'judge',
    },
    out: {
      type: 'string',
      description: 'Keep answers and verdicts here, to continue later',
      valueHint: 'file',
    },
    'max-tokens': {
      type: 'string',
      description: 'Maximum answer length, tokens',
      valueHint: 'n',
      default: '256',
    },
    temperature: {
      type: 'string',
      description: '0 = always the likeliest token',
      valueHint: 't',
      default: '0',
    },
    parallel: { type: 'string', description: 'Requests at a time', valueHint: 'n', default: '8' },
    seed: {
      type: 'string',
      description: 'For sampling, and for the order in which you see answers',
      valueHint: 'n',
      default: '1',
    },
  },
  async run({ args, output }) {
    const names = args._.slice(0, -1);
    const file = args._.at(-1) ?? '';
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) throw usageError(`${twice} is given twice.`);
    if (names.length > MAX_NAMES)
      throw usageError(`${names.length} names; at most ${MAX_NAMES} can be compared.`);
    const prompts = await readJsonLines({ file, what: file, schema: ComparisonRow });
    const judge = chooseJudge(args.judge, prompts.rows, file);
    const settings = {
      max_tokens: parseCount(args['max-tokens'], '--max-tokens'),
      temperature: parseTemperature(args.temperature),
      seed: parseSeed(args.seed),
    };
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const heading: Heading = { kind: 'graft_compare', sha256: prompts.sha256, ...settings };
    const wish: CompareWish = {
      client: createApiClient({ url: needUrl(connection), key: needKey(connection, 'key') }),
      base: connection.base,
      names,
      prompts,
      judge,
      settings,
      results: args.out === undefined ? createResults() : await openResults(args.out, heading),
      parallel: Math.min(MAX_PARALLEL, parseCount(args.parallel, '--parallel')),
      output,
    };
    const summary = await interruptible((signal) => compareNames({ ...wish, signal }));
    output.result(summary, () => renderComparison(summary));
  },
});

/** @throws CliError (usage) when this judge cannot judge these rows. */
function chooseJudge(
  given: string | undefined,
  rows: readonly { line: number; row: ComparisonRow }[],
  file: string,
): string {
  const unknown = rows.find(({ row }) => row.expected === undefined);
  if (given === PERSON && (!process.stdin.isTTY || !process.stderr.isTTY))
    throw usageError('--judge me needs a terminal.');
  if (given === undefined && unknown !== undefined)
    throw usageError(`${file}, line ${unknown.line} has no "expected". Use --judge <model> or --judge me.`);
  const judge = given ?? 'exact';
  if (judge === 'exact' && unknown !== undefined)
    throw usageError(`--judge exact: ${file}, line ${unknown.line} has no "expected".`);
  if (judge === '') throw usageError('--judge needs exact, me, or a name.');
  return judge;
}

function parseTemperature(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= MAX_TEMPERATURE))
    throw usageError(`--temperature ${text} is not a number from 0 to ${MAX_TEMPERATURE}.`);
  return value;
}

function parseSeed(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < 0 || value > 0xffff_ffff)
    throw usageError(`--seed ${text} is not a whole number from 0 to 4294967295.`);
  return value;
}

const percent = (share: number): string => (100 * share).toFixed(1);
const percents = ({ low, high }: Estimate): string => `${percent(low)} to ${percent(high)} %`;
/** The typographical minus is as wide as the plus. */
const signed = (value: number): string => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)}`;

export function renderComparison({ judge, prompts, names, pairs, position }: ComparisonSummary): string {
  const scored = names.some(({ exact }) => exact !== null);
  const strengths = plainTable(
    ['NAME', 'ANSWERED BY', ...(scored ? ['EXACT'] : []), 'STRENGTH', '95 %'],
    names.map(({ name, adapter, exact, strength }) => [
      name,
      adapter ?? '-',
      ...(scored ? [exact === null ? '-' : `${exact.right} of ${exact.of}`] : []),
      signed(strength.estimate),
      `${signed(strength.low)} to ${signed(strength.high)}`,
    ]),
  );
  const duels = plainTable(
    ['', 'AGAINST', 'WINS', 'TIES', 'LOSSES', 'WIN RATE', '95 %', ''],
    pairs.map((pair) => [
      pair.names[0],
      pair.names[1],
      String(pair.wins),
      String(pair.ties),
      String(pair.losses),
      pair.win_rate === null ? '-' : `${percent(pair.win_rate.estimate)} %`,
      pair.win_rate === null ? '-' : percents(pair.win_rate),
      verdictOf(pair),
    ]),
  );
  const skipped = pairs.reduce((sum, pair) => sum + pair.skipped, 0);
  const notes = [
    `${prompts.rows} prompts, judge: ${judge}${skipped > 0 ? `, ${skipped} skipped` : ''}`,
    ...(position === null ? [] : positionLines(position)),
  ];
  return [duels, '', strengths, '', ...notes.map((line) => colors.dim(line))].join('\n');
}

function verdictOf({ names: [a, b], win_rate: rate }: PairSummary): string {
  if (rate === null) return '';
  if (rate.low > 0.5) return `${a} is better`;
  if (rate.high < 0.5) return `${b} is better`;
  return 'open';
}

function positionLines({
  to_first: first,
  to_second: second,
  neutral,
  rate,
  changed,
  unclear,
}: PositionSummary): string[] {
  const total = first + second + neutral;
  const bias = rate !== null && (rate.low > 0.5 || rate.high < 0.5);
  const line =
    rate === null
      ? []
      : [
          `position: the answer shown first was preferred in ${percent(rate.estimate)} % ` +
            `(${percents(rate)})${bias ? ', which is a bias' : ''}`,
        ];
  const judgedOtherwise =
    changed === null || changed === 0
      ? []
      : [`${changed} of ${total} verdicts changed with the order, and count as ties`];
  return [
    ...line,
    ...judgedOtherwise,
    ...(unclear > 0 ? [`${unclear} replies were neither A, B nor T`] : []),
  ];
}
