import type { ApiClient } from '../api-client.ts';
import { CliError } from '../cli-error.ts';
import type { Output } from '../output.ts';
import type { JsonLines } from '../read-json-lines.ts';
import { readKeys } from '../ask-at-terminal.ts';
import { askAnswers, inParallel } from './ask-answers.ts';
import type { ComparisonRow } from './complete.ts';
import { judgeByModel } from './judge-by-model.ts';
import { judgeByPerson, PERSON } from './judge-by-person.ts';
import type { Results } from './results-file.ts';
import { judgeExactly, pairingsOf, tieOfEquals, type Pairing } from './decide-pairings.ts';
import { summarize, type ComparisonSummary } from './summarize.ts';

export interface CompareWish {
  readonly client: ApiClient;
  /** What `base` means; undefined when it is not known. */
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
  /** What a person types; the terminal unless given. */
  readonly keys?: () => AsyncIterable<string>;
  /** Shows a person what is to be judged; on stderr unless given. */
  readonly show?: (text: string) => void;
}

/** Asks what has not been answered, judges what has not been judged, and sums up. @throws CliError */
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
  if (names.includes(judge)) output.note(`${judge} judges its own answers, which it may prefer`);
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
    if (!all) output.note('ended before all were judged: this is the result so far');
    return;
  }
  const model = modelOf(wish)(judge);
  await showing(wish, 'verdicts', (onProgress) => {
    let done = 0;
    onProgress(done, open.length);
    // Each asks twice.
    return inParallel(open, Math.max(1, Math.floor(parallel / 2)), async (pairing) => {
      results.add(await judgeByModel({ asking: wish, judge, model, pairing }));
      onProgress(++done, open.length);
    });
  });
}

/** Shows how far `work` is. A failure that is not ours to explain comes out of requests that Ctrl-C ended. */
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
