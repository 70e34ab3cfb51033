import path from 'node:path';
import { QV } from '../adapters/write-random-adapter.ts';
import { R8, writeSet, type AdapterSet } from '../adapters/adapter-set.ts';
import { benchPrompt } from '../load/prompts.ts';
import { runRequest, type RequestResult } from '../load/run-request.ts';
import type { Target } from '../load/target.ts';
import { startStandaloneOrigin } from '../standalone-origin.ts';
import { median, quantile } from '../statistics.ts';
import type { CliffRun } from './cliff.ts';

const STREAMS = 15;
/** Long enough to outlast the prompt beside them: 15 rows decode about 30 tokens a second each. */
const TOKENS = 320;
/** Words of a prompt of about 2,000 tokens. */
const LONG_WORDS = 1_950;
/** Streams decode by themselves for so long before something comes, ms. */
const SETTLE_MS = 2_500;
const ROUNDS = 2;
const WIDE: AdapterSet = { prefix: 'wide-', count: 1, rank: 256, modules: QV, seed: 900 };

export interface GapRow {
  beside: string;
  /** Between two tokens of one of the 15 streams, ms: over all streams and rounds. */
  gapMs: { p50: number; p99: number; worst: number };
  /** Of the request beside them; its tokens after the first. */
  ttftMs: number;
  decodePerSecond: number;
  problems: string[];
}

/** What joins 15 decoding streams after a while, and is asked to outlast none of them. */
interface Joiner {
  beside: string;
  target: Target;
  words: number;
  tokens: number;
  adapter: number | null;
}

/**
 * 15 rank-8 streams that decode, and one more request: a like one, one with a prompt of 2,000 tokens, one of rank 256.
 * Gaps are those while the one more is there, from its request to its last token.
 */
export async function measureBesideStreams({ base, work, signal, note }: CliffRun): Promise<GapRow[]> {
  const folder = path.join(work, 'streams');
  const adapters = [...(await writeSet(folder, R8)), ...(await writeSet(folder, WIDE))];
  const origin = await startStandaloneOrigin({
    ...{ base, port: 0, adapters, extraArgs: ['--context', '4096', '--prefix-cache-bytes', '0'] },
  });
  try {
    const r8 = origin.target('graft', R8.prefix);
    const joiners: readonly Joiner[] = [
      { beside: 'a like one', target: r8, words: 48, tokens: 80, adapter: 15 },
      { beside: 'a prompt of 2,000 tokens', target: r8, words: LONG_WORDS, tokens: 8, adapter: 15 },
      { beside: 'rank 256', target: origin.target('graft', WIDE.prefix), words: 48, tokens: 80, adapter: 0 },
    ];
    const found = joiners.map(() => ({
      gaps: [] as number[],
      firsts: [] as number[],
      rates: [] as number[],
      problems: new Set<string>(),
    }));
    // The first round warms up; then the order turns from round to round.
    for (let round = -1; round < ROUNDS; round++)
      for (const at of round % 2 === 0 ? [0, 1, 2] : [2, 1, 0]) {
        signal.throwIfAborted();
        const joiner = joiners[at] as Joiner;
        const { gaps, request, problems } = await besideOne(r8, joiner, 10 * (round + 1) + at);
        note(`${joiner.beside}: worst gap ${Math.max(...gaps).toFixed(0)} ms`);
        if (round < 0) continue;
        const into = found[at]!;
        into.gaps.push(...gaps);
        into.firsts.push(request.firstMs);
        into.rates.push(((joiner.tokens - 1) * 1_000) / (request.lastMs - request.firstMs));
        for (const problem of problems) into.problems.add(problem);
      }
    return joiners.map(({ beside }, at) => {
      const { gaps, firsts, rates, problems } = found[at]!;
      return {
        beside,
        gapMs: { p50: median(gaps), p99: quantile(gaps, 0.99), worst: Math.max(...gaps) },
        ttftMs: median(firsts),
        decodePerSecond: median(rates),
        problems: [...problems],
      };
    });
  } finally {
    await origin.process.stop();
  }
}

async function besideOne(
  streams: Target,
  joiner: Joiner,
  round: number,
): Promise<{ gaps: number[]; request: RequestResult; problems: string[] }> {
  const begun = performance.now();
  const running = Array.from({ length: STREAMS }, async (_, adapter) => {
    const start = performance.now();
    const result = await runRequest(streams, {
      prompt: benchPrompt(adapter, round),
      tokens: TOKENS,
      adapter,
    });
    return { result, start };
  });
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS - (performance.now() - begun)));
  const from = performance.now();
  const { target, words, tokens, adapter } = joiner;
  const prompt = benchPrompt(STREAMS, round, words);
  const request = await runRequest(target, { prompt, tokens, adapter });
  const until = performance.now();
  const ended = await Promise.all(running);
  const gaps = ended.flatMap(({ result, start }) => {
    const at = result.tokenMs.map((ms) => ms + start);
    return at.slice(1).flatMap((ms, i) => {
      const before = at[i] as number;
      return ms > from && before < until ? [ms - before] : [];
    });
  });
  const problems = [request, ...ended.map(({ result }) => result)].flatMap(({ problem }) => problem ?? []);
  const first = Math.min(...ended.map(({ result, start }) => start + result.lastMs));
  if (first < until) problems.push('a stream had ended before the request beside it');
  return { gaps, request, problems };
}
