import type { ApiClient } from '../api-client.ts';
import { CliError } from '../cli-error.ts';
import type { Output } from '../output.ts';
import type { JsonLines } from '../read-json-lines.ts';
import { readKeys } from '../ask-at-terminal.ts';
import { askAnswers, inParallel, type ComparisonRow, type Rows } from './ask-answers.ts';
import {
  judgeByModel,
  judgeExactly,
  pairingsOf,
  tieOfEquals,
  type Pairing,
  judgeByPerson,
  PERSON,
  isExact,
  pairsOf,
} from './judge.ts';
import type { Results, Verdict } from './results-file.ts';
import { bradleyTerry } from './statistics/bradley-terry.ts';
import { winRate, type Estimate, type Outcomes } from './statistics/win-rate.ts';

export interface CompareWish {
  readonly client: ApiClient;
  /** The id of `base`; undefined if unknown. */
  readonly base: string | undefined;
  readonly names: readonly string[];
  readonly prompts: JsonLines<ComparisonRow>;
  /** `exact`, `me`, or a model. */
  readonly judge: string;
  readonly settings: {
    readonly max_tokens: number;
    readonly temperature: number;
    readonly seed: number;
  };
  readonly results: Results;
  /** Requests at a time. */
  readonly parallel: number;
  readonly output: Output;
  readonly signal?: AbortSignal;
  /** Keys of a person; default: the terminal. */
  readonly keys?: () => AsyncIterable<string>;
  /** Output for a person; default: stderr. */
  readonly show?: (text: string) => void;
}

/** Fetches missing answers and verdicts, and sums up. @throws CliError */
export async function compareNames(wish: CompareWish): Promise<ComparisonSummary> {
  const { names, prompts, judge, settings, results, parallel, output } = wish;
  const { rows, sha256 } = prompts;
  await showing(wish, 'answers', (onProgress) =>
    askAnswers({
      asking: wish,
      rows,
      names,
      modelOf: modelOf(wish),
      // Greedy answers do not depend on a seed.
      settings:
        settings.temperature === 0 ? { max_tokens: settings.max_tokens, temperature: 0 } : { ...settings },
      results,
      parallel,
      onProgress,
    }),
  );
  const pairings = pairingsOf(rows, names, results);
  if (judge !== 'exact') await judgeRest(wish, pairings);
  const verdicts = pairings.flatMap((pairing) =>
    judge === 'exact'
      ? judgeExactly(pairing)
      : (tieOfEquals(judge, pairing) ??
        results.verdict(judge, pairing.line, pairing.a.name, pairing.b.name) ??
        []),
  );
  if (names.includes(judge)) output.note(`${judge} judges its own answers, and may prefer them`);
  return summarize({ judge, rows, sha256, names, results, verdicts });
}

const modelOf =
  ({ base }: CompareWish) =>
  (name: string): string =>
    name === 'base' && base !== undefined ? base : name;

async function judgeRest(wish: CompareWish, pairings: readonly Pairing[]): Promise<void> {
  const { judge, settings, results, parallel, output, signal } = wish;
  const open = pairings.filter(
    (pairing) =>
      tieOfEquals(judge, pairing) === null &&
      results.verdict(judge, pairing.line, pairing.a.name, pairing.b.name) === undefined,
  );
  if (open.length === 0) return;
  if (judge === PERSON) {
    const all = await judgeByPerson({
      pairings: open,
      seed: settings.seed,
      keys: wish.keys?.() ?? readKeys({ signal }),
      write: wish.show ?? ((text) => process.stderr.write(text)),
      onVerdict: results.add,
    });
    if (!all) output.note('ended early: this is the result so far');
    return;
  }
  const model = modelOf(wish)(judge);
  await showing(wish, 'verdicts', (onProgress) => {
    let done = 0;
    onProgress(done, open.length);
    // Each verdict takes two requests.
    return inParallel(open, Math.max(1, Math.floor(parallel / 2)), async (pairing) => {
      results.add(await judgeByModel({ asking: wish, judge, model, pairing }));
      onProgress(++done, open.length);
    });
  });
}

/** Shows the progress of `work`. Requests ended by Ctrl-C throw errors that need no explanation. */
async function showing(
  { output, signal }: CompareWish,
  label: string,
  work: (onProgress: (done: number, total: number) => void) => Promise<void>,
): Promise<void> {
  const bar = output.progress(label, 'rows');
  try {
    await work(bar.update);
  } catch (error) {
    bar.end();
    if (signal?.aborted && !(error instanceof CliError)) throw signal.reason;
    throw error;
  }
  bar.end();
}

interface NameSummary {
  readonly name: string;
  /** `name@version` that answered, or `base`. */
  readonly adapter: string | null;
  /** Of prompts with a known answer; null when there are none. */
  readonly exact: { readonly right: number; readonly of: number } | null;
  /** Bradley-Terry, natural log of odds against the mean of all. */
  readonly strength: Estimate;
}

export interface PairSummary extends Outcomes {
  readonly names: readonly [string, string];
  /** Prompts that the person skipped. */
  readonly skipped: number;
  /** Of the first of the names. */
  readonly win_rate: Estimate | null;
}

/** Effect of the order in which answers were shown. Without bias the rate is one half. */
export interface PositionSummary {
  readonly to_first: number;
  readonly neutral: number;
  readonly to_second: number;
  readonly rate: Estimate | null;
  /** Verdicts that changed with the order; null when only one order was asked. */
  readonly changed: number | null;
  /** Replies that were none of A, B and T. */
  readonly unclear: number;
}

export interface ComparisonSummary {
  readonly judge: string;
  readonly prompts: { readonly rows: number; readonly sha256: string };
  readonly names: readonly NameSummary[];
  readonly pairs: readonly PairSummary[];
  /** null when nobody was asked. */
  readonly position: PositionSummary | null;
}

export function summarize(params: {
  judge: string;
  rows: Rows;
  sha256: string;
  names: readonly string[];
  results: Results;
  verdicts: readonly Verdict[];
}): ComparisonSummary {
  const { judge, rows, sha256, names, results, verdicts } = params;
  const counted = verdicts.filter(({ skipped }) => !skipped);
  const strengths = bradleyTerry(
    names.length,
    counted.map(({ line, names: [a, b], winner }) => ({
      a: names.indexOf(a),
      b: names.indexOf(b),
      score: winner === null ? 0.5 : winner === a ? 1 : 0,
      group: line,
    })),
  );
  return {
    judge,
    prompts: { rows: rows.length, sha256 },
    names: names.map((name, i) => ({
      name,
      adapter: results.adapterOf(name) ?? null,
      exact: exactOf(rows, name, results),
      strength: strengths[i] as Estimate,
    })),
    pairs: pairsOf(names).map((pair) => pairOf(pair, verdicts)),
    position: positionOf(counted),
  };
}

function exactOf(rows: Rows, name: string, results: Results): NameSummary['exact'] {
  const answers = rows.flatMap(({ line, row }) => {
    const answer = row.expected === undefined ? undefined : results.answer(line, name);
    return answer === undefined ? [] : [isExact(answer, row.expected)];
  });
  return answers.length === 0 ? null : { right: answers.filter(Boolean).length, of: answers.length };
}

function pairOf([a, b]: [string, string], verdicts: readonly Verdict[]): PairSummary {
  const theirs = verdicts.filter(({ names }) => names.includes(a) && names.includes(b));
  const counted = theirs.filter(({ skipped }) => !skipped);
  const won = (name: string | null): number => counted.filter(({ winner }) => winner === name).length;
  const outcomes = { wins: won(a), ties: won(null), losses: won(b) };
  return {
    names: [a, b],
    ...outcomes,
    skipped: theirs.length - counted.length,
    win_rate: winRate(outcomes),
  };
}

function positionOf(verdicts: readonly Verdict[]): PositionSummary | null {
  const asked = verdicts.filter((verdict) => verdict.asked.length > 0);
  if (asked.length === 0) return null;
  const leanings = asked.map((verdict) =>
    Math.sign(
      verdict.asked.reduce(
        (sum, { first, chose }) => sum + (chose === null ? 0 : chose === first ? 1 : -1),
        0,
      ),
    ),
  );
  const count = (leaning: number): number => leanings.filter((one) => one === leaning).length;
  const twice = asked.filter((verdict) => verdict.asked.length > 1);
  return {
    to_first: count(1),
    neutral: count(0),
    to_second: count(-1),
    rate: winRate({ wins: count(1), ties: count(0), losses: count(-1) }),
    changed:
      twice.length === 0
        ? null
        : twice.filter((verdict) => new Set(verdict.asked.map(({ chose }) => chose)).size > 1).length,
    unclear: asked.flatMap((verdict) => verdict.asked).filter(({ unclear }) => unclear !== undefined).length,
  };
}
