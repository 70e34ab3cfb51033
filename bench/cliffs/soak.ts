import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { R8, writeSet } from '../adapters/adapter-set.ts';
import { benchPrompt } from '../load/prompts.ts';
import { runRequest } from '../load/run-request.ts';
import { runWave } from '../load/run-wave.ts';
import type { Target } from '../load/target.ts';
import { startPublishedStack, type PublishedStack } from '../published-stack.ts';
import { processesNamed } from '../processes.ts';
import { megabytes } from '../report.ts';
import { residentBytes } from '../resident-memory.ts';
import { seededRandom } from '../seeded-random.ts';
import { median, quantile } from '../statistics.ts';
import type { CliffRun } from './cliff.ts';

const NAMES = 40;
const PREFIX = 'bench/soak-';
const CANARY = 'bench/canary';
const TOKENS = 64;
/** All names and a few versions of before: full within minutes, so that what grows then is no cache. */
const BUDGET_BYTES = 50 * 3_700_000;
/** Of what a closed wave of 16 reaches. */
const LOAD = 0.8;
/** Shares of the arrivals. */
const ABORTED = 0.1;
const BAD = 0.05;
const CHURN_MS = 10_000;
const CANARY_MS = 15_000;
const SAMPLE_MS = 10_000;
/** Memory is compared with that after this share of the time: pools and caches have filled by then. */
const SETTLED = 0.2;

export interface SoakSummary {
  minutes: number;
  /** Arrivals a second. */
  rate: number;
  good: number;
  failed: number;
  aborted: number;
  /** Bad requests, by the status that they got. */
  refused: Record<string, number>;
  published: number;
  ttftMs: { p50: number; p99: number };
  canary: { asked: number; otherwise: number };
  /** Resident sets, bytes: settled, at the end, the largest. */
  memory: Record<'origin' | 'edge', { settled: number; end: number; most: number }>;
  problems: string[];
}

/** Edge and origin at 80 % of what they can, while versions change, clients leave and bad requests come. */
export async function measureSoak(run: CliffRun & { minutes: number }): Promise<SoakSummary> {
  const { base, signal, minutes, note } = run;
  const work = path.join(run.work, 'soak');
  const stack = await startPublishedStack({
    ...{ base, work, signal, originArgs: ['--adapter-ram-bytes', String(BUDGET_BYTES)] },
  });
  try {
    const folders = (await writeSet(path.join(work, 'adapters'), { ...R8, count: NAMES + 20 })).map(
      ({ folder }) => folder,
    );
    await stack.publish(CANARY, folders[0] as string);
    for (let i = 0; i < NAMES; i++) await stack.publish(`${PREFIX}${i}`, folders[i] as string);
    const edge = stack.edge('edge', PREFIX);
    await runWave(edge, { requests: 16, adapters: 16, tokens: TOKENS }, 0);
    const closed = await runWave(edge, { requests: 16, adapters: 16, tokens: TOKENS }, 1);
    const rate = (LOAD * closed.tokensPerSecond) / TOKENS;
    note(`${rate.toFixed(2)} requests a second for ${minutes} minutes`);
    return await soak({ stack, edge, folders, rate, minutes, signal, note });
  } finally {
    await stack.stop();
  }
}

async function soak(params: {
  stack: PublishedStack;
  edge: Target;
  folders: readonly string[];
  rate: number;
  minutes: number;
  signal: AbortSignal;
  note: (text: string) => void;
}): Promise<SoakSummary> {
  const { stack, edge, folders, rate, minutes, signal, note } = params;
  const random = seededRandom(7);
  const start = performance.now();
  const lastsMs = minutes * 60_000;
  const over = () => signal.aborted || performance.now() - start > lastsMs;
  const firsts: number[] = [];
  const problems = new Set<string>();
  const refused: Record<string, number> = {};
  const counted = { good: 0, failed: 0, aborted: 0, published: 0 };
  const canary = { asked: 0, otherwise: 0 };
  const edgePids = await processesNamed('workerd');
  const samples: Record<'origin' | 'edge', { atMs: number; bytes: number }[]> = { origin: [], edge: [] };

  const every = async (pauseMs: number, work: (round: number) => Promise<void>) => {
    for (let round = 0; !over(); round++) {
      await work(round).catch((error: unknown) => {
        counted.failed++;
        problems.add(String(error));
      });
      await sleep(Math.min(pauseMs, Math.max(0, start + lastsMs - performance.now())));
    }
  };
  const churn = every(CHURN_MS, async (round) => {
    const folder = folders[(7 * round) % folders.length] as string;
    await stack.publish(`${PREFIX}${round % NAMES}`, folder);
    counted.published++;
  });
  let expected: string | null = null;
  const canaries = every(CANARY_MS, async () => {
    const said = await askCanary(edge);
    expected ??= said;
    canary.asked++;
    if (said !== expected) canary.otherwise++;
  });
  const memory = every(SAMPLE_MS, async (round) => {
    const atMs = performance.now() - start;
    const edgeBytes = await Promise.all(edgePids.map(residentBytes));
    samples.origin.push({ atMs, bytes: await residentBytes(stack.stack.originPid) });
    samples.edge.push({ atMs, bytes: edgeBytes.reduce((sum, bytes) => sum + bytes, 0) });
    if (round % 6 === 0)
      note(
        `${(atMs / 60_000).toFixed(0)} min: ${JSON.stringify(counted)}, origin ${last(samples.origin)}, edge ${last(samples.edge)}`,
      );
  });
  const load: Promise<void>[] = [];
  const arrive = async (index: number) => {
    const kind = random();
    const adapter = Math.min(NAMES - 1, Math.floor(NAMES ** random()) - 1);
    if (kind < BAD) {
      const status = String(await askBadly(edge, index));
      refused[status] = (refused[status] ?? 0) + 1;
      return;
    }
    const leaves = kind < BAD + ABORTED ? AbortSignal.timeout(Math.round(200 + 2_000 * random())) : undefined;
    const ask = { prompt: benchPrompt(index, 0), tokens: TOKENS, adapter };
    const result = await runRequest(edge, ask, false, leaves);
    if (result.problem === null) {
      counted.good++;
      firsts.push(result.firstMs);
    } else if (leaves?.aborted === true) counted.aborted++;
    else {
      counted.failed++;
      problems.add(result.problem);
    }
  };
  for (let index = 0; !over(); index++) {
    load.push(arrive(index));
    await sleep((-Math.log(1 - random()) / rate) * 1_000);
  }
  await Promise.all([churn, canaries, memory, ...load]);
  const of = (taken: readonly { atMs: number; bytes: number }[]) => ({
    settled: taken.find(({ atMs }) => atMs >= SETTLED * lastsMs)?.bytes ?? NaN,
    end: taken.at(-1)?.bytes ?? NaN,
    most: Math.max(...taken.map(({ bytes }) => bytes)),
  });
  return {
    ...{ minutes, rate, ...counted, refused, canary, problems: [...problems] },
    ttftMs: { p50: median(firsts), p99: quantile(firsts, 0.99) },
    memory: { origin: of(samples.origin), edge: of(samples.edge) },
  };
}

const last = (taken: readonly { bytes: number }[]): string => megabytes(taken.at(-1)?.bytes ?? NaN);

const post = (edge: Target, body: string): Promise<Response> =>
  fetch(`http://${edge.host}:${edge.port}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${edge.key}` },
    body,
  });

/** @returns text and log-probabilities, as they came. */
async function askCanary(edge: Target): Promise<string> {
  const ask = { model: CANARY, prompt: benchPrompt(1, 99), max_tokens: 32, temperature: 0, logprobs: 2 };
  const answer = await post(edge, JSON.stringify(ask));
  if (answer.status !== 200) throw new Error(`canary: status ${answer.status}`);
  return JSON.stringify(((await answer.json()) as { choices: unknown }).choices);
}

/** @returns the status of a request that must be refused. */
async function askBadly(edge: Target, index: number): Promise<number> {
  const good = { model: `${PREFIX}0`, prompt: 'a', max_tokens: 4 };
  const bodies = [
    JSON.stringify({ ...good, model: `bench/nobody-${index}` }),
    JSON.stringify({ ...good, temperature: 'hot' }),
    JSON.stringify({ ...good, prompt: 'word '.repeat(40_000) }),
    '{"model": ',
  ];
  const answer = await post(edge, bodies[index % bodies.length] as string);
  await answer.arrayBuffer();
  return answer.status;
}
