/** `npm run bench -- job`: what a fine-tuning job costs answers of the same origin. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { LOOPBACK } from '../cli/local/ports.ts';
import { createOutput } from '../cli/output.ts';
import { TRAINING_DEFAULTS } from '../protocol/training.ts';
import { type JobDeclaration, JobReport } from '../protocol/training-jobs.ts';
import { benchPrompt } from './load/prompts.ts';
import { runRequest } from './load/run-request.ts';
import type { Target } from './load/target.ts';
import { describeMachine } from './machine.ts';
import { startStandaloneOrigin } from './standalone-origin.ts';
import { median, quantile } from './statistics.ts';

const USAGE = `npm run bench -- job [flags]
  Gaps between tokens of 4 streams, alone and while a job trains at the same origin, in turns.
  --rounds N           turns (default 5)
  --tokens N           of each stream (default 128)
  --base PATH          base model of our origin (default: the pinned one, from the cache)
  --origin-arg ARG     passed to the origin; may be repeated`;

const STREAMS = 4;
/** The aim: the 99th percentile beside a job, of the one alone. */
const MOST = 1.5;
const ID = `ftjob-${'0'.repeat(24)}`;
/** Never done while this runs. */
const STEPS = 1_000_000;
/** Of which many have some hundred tokens. */
const ROWS = 64;
const LOOK_MS = 200;

type Way = 'alone' | 'beside a job';

/** @throws Error that names the flag. */
export async function benchJob(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      rounds: { type: 'string', default: '5' },
      tokens: { type: 'string', default: '128' },
      base: { type: 'string' },
      'origin-arg': { type: 'string', multiple: true, default: [] },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const [rounds, tokens] = [Number(values.rounds), Number(values.tokens)];
  if (!(rounds >= 1 && tokens >= 2)) throw new Error(`--rounds and --tokens are counts\n${USAGE}`);
  const base = await findBase({
    base: values.base,
    cache: cacheFolder(process.env),
    env: process.env,
    output: createOutput({ json: false }),
  });
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-bench-'));
  const extraArgs = ['--train', '--cache', work, '--prefix-cache-bytes', '0', ...values['origin-arg']];
  const origin = await startStandaloneOrigin({ base, port: 0, adapters: [], extraArgs });
  const gaps: Record<Way, number[]> = { alone: [], 'beside a job': [] };
  let steps = 0;
  const worked = { streams: 0, training: 0 };
  const load = os.loadavg()[0];
  try {
    const target = origin.target('graft', '');
    const job = jobAt(target);
    await job.begin();
    // The first turn warms up.
    for (let round = -1; round < rounds; round += 1)
      for (const way of round % 2 === 0
        ? (['alone', 'beside a job'] as const)
        : (['beside a job', 'alone'] as const)) {
        signal.throwIfAborted();
        if (way === 'alone') await job.pause();
        else await job.resume();
        const before = { step: (await job.report()).step, ms: trainingMs(origin.process.pid) };
        const from = performance.now();
        const found = await gapsOf(target, { round: round + 1, tokens });
        const took = performance.now() - from;
        const trained = (await job.report()).step - before.step;
        const trainedMs = trainingMs(origin.process.pid) - before.ms;
        process.stderr.write(
          `${way}: p50 ${median(found).toFixed(0)} ms, p99 ${quantile(found, 0.99).toFixed(0)} ms, ${trained} steps in ${trainedMs} of ${took.toFixed(0)} ms\n`,
        );
        if (round < 0) continue;
        gaps[way].push(...found);
        steps += trained;
        if (way === 'alone') continue;
        worked.streams += took;
        worked.training += trainedMs;
      }
  } finally {
    await origin.process.stop();
    await rm(work, { recursive: true, force: true, maxRetries: 5 });
  }
  const of = (way: Way) => ({
    p50: median(gaps[way]),
    p99: quantile(gaps[way], 0.99),
    worst: gaps[way].reduce((most, gap) => Math.max(most, gap), 0),
    gaps: gaps[way].length,
  });
  const result = { alone: of('alone'), 'beside a job': of('beside a job') };
  const table = new Table({
    head: [`gap between tokens of ${STREAMS} streams, ms`, 'p50', 'p99', 'worst', 'gaps'],
    style: { head: [], border: [] },
  });
  for (const [way, row] of Object.entries(result))
    table.push([way, row.p50.toFixed(1), row.p99.toFixed(1), row.worst.toFixed(0), row.gaps]);
  console.log(table.toString());
  const ratio = result['beside a job'].p99 / result.alone.p99;
  const share = worked.training / worked.streams;
  console.log(
    `p99 beside a job is ${ratio.toFixed(2)} times the one alone (aim: ${MOST}). ${steps} steps were done meanwhile; ` +
      `the training had ${share.toFixed(2)} of a core.`,
  );
  const machine = await describeMachine();
  console.log(
    JSON.stringify({
      date: new Date().toISOString(),
      machine,
      load,
      rounds,
      tokens,
      ratio,
      steps,
      share,
      ...result,
    }),
  );
}

/** Linux counts in hundredths of a second. */
const TICK_MS = 10;

/** Processor time of the origin's children, ms; 0 where there is no /proc. */
function trainingMs(origin: number): number {
  if (!existsSync('/proc')) return 0;
  let ticks = 0;
  for (const pid of readdirSync('/proc'))
    try {
      // After the name in brackets: state, parent, …; user and system time are the 12th and 13th.
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
      if (Number(fields[1]) === origin) ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // No process, or it has ended.
    }
  return ticks * TICK_MS;
}

async function gapsOf(
  target: Target,
  { round, tokens }: { round: number; tokens: number },
): Promise<number[]> {
  const ended = await Promise.all(
    Array.from({ length: STREAMS }, (_, at) =>
      runRequest(target, { prompt: benchPrompt(at, round), tokens, adapter: null }),
    ),
  );
  const problem = ended.find((one) => one.problem !== null)?.problem;
  if (problem != null) throw new Error(problem);
  // While the first one decodes, others' prompts are read.
  const from = Math.max(...ended.map(({ firstMs }) => firstMs));
  return ended.flatMap(({ tokenMs }) =>
    tokenMs.slice(1).flatMap((ms, i) => (tokenMs[i]! >= from ? [ms - tokenMs[i]!] : [])),
  );
}

/** A training with the settings of `graft train`, which the origin is told to pause and to go on with. */
function jobAt({ port }: Target) {
  const call = async (method: string, rest: string, body?: string): Promise<JobReport> => {
    const answer = await fetch(`http://${LOOPBACK}:${port}/jobs/${ID}${rest}`, {
      method,
      ...(body === undefined ? {} : { body }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${rest}: ${answer.status} ${text}`);
    return JobReport.parse(JSON.parse(text));
  };
  const report = async (): Promise<JobReport> => {
    const now = await call('GET', '');
    if (now.state === 'failed') throw new Error(now.failure?.message);
    return now;
  };
  const trains = async (from: number): Promise<void> => {
    while ((await report()).step <= from) await sleep(LOOK_MS);
  };
  return {
    report,
    async begin(): Promise<void> {
      const rows = Array.from({ length: ROWS }, (_, at) =>
        JSON.stringify({ prompt: benchPrompt(at, 0), completion: benchPrompt(at, 1) }),
      ).join('\n');
      const declaration: JobDeclaration = {
        tenant: 'bench',
        request: { ...TRAINING_DEFAULTS, targets: [...TRAINING_DEFAULTS.targets], least_steps: STEPS },
        chain: [],
        rows: {
          bytes: Buffer.byteLength(rows),
          sha256: createHash('sha256').update(rows).digest('hex'),
        },
        max_seconds: 3_600,
      };
      await call('PUT', '', JSON.stringify(declaration));
      await call('PUT', '/parts/0', rows);
      await trains(0);
    },
    async pause(): Promise<void> {
      await call('POST', '/pause');
      // It tells so when its process has ended.
      for (;;) {
        const { events } = await report();
        if (events.at(-1)?.message.startsWith('Paused') === true) return;
        await sleep(LOOK_MS);
      }
    },
    /** @returns once it trains. */
    async resume(): Promise<void> {
      const { step, state } = await call('POST', '/resume');
      if (state === 'running') await trains(step);
    },
  };
}
