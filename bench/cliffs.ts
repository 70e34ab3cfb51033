/** `npm run bench -- cliffs`: what must not fall off a cliff: memory for few adapters, cold ones, long prompts, wide ranks, hours. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { createOutput } from '../cli/output.ts';
import { measureBesideStreams, type GapRow } from './cliffs/beside-streams.ts';
import type { CliffRun } from './cliffs/cliff.ts';
import { measureCold, type ColdRow } from './cliffs/cold.ts';
import { measureSoak, type SoakSummary } from './cliffs/soak.ts';
import { measureZipf, type ZipfRow } from './cliffs/zipf.ts';
import { describeMachine } from './machine.ts';
import { megabytes, milliseconds } from './report.ts';

const CLIFFS = ['zipf', 'cold', 'streams', 'soak'] as const;
const USAGE = `npm run bench -- cliffs [flags]
  zipf      1,000 adapters by Zipf's law where memory holds 50, beside 50 that all fit
  cold      a 10 MB adapter from KV to its first token, beside the same in memory
  streams   15 streams while a prompt of 2,000 tokens, or a row of rank 256, joins them
  soak      80 % of what edge and origin can, with new versions, clients that leave and bad requests
  --only a,b           of these (default: zipf,cold,streams, about 6 minutes)
  --minutes N          of the soak (default 60)
  --hours N            the same in hours, for releases`;

export interface Cliffs {
  zipf?: ZipfRow[];
  cold?: ColdRow;
  streams?: GapRow[];
  soak?: SoakSummary;
}

/** @throws Error that names the flag. */
export async function benchCliffs(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', default: 'zipf,cold,streams' },
      minutes: { type: 'string', default: '60' },
      hours: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const wanted = values.only.split(',').map((name) => {
    const known = CLIFFS.find((cliff) => cliff === name.trim());
    if (known === undefined) throw new Error(`--only: unknown '${name}' (${CLIFFS.join(', ')})`);
    return known;
  });
  const minutes = values.hours === undefined ? Number(values.minutes) : 60 * Number(values.hours);
  if (!(minutes > 0)) throw new Error('--minutes, --hours: a number above 0');
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-cliffs-'));
  try {
    const base = await findBase({
      ...{ base: undefined, cache: cacheFolder(process.env), env: process.env },
      output: createOutput({ json: false }),
    });
    const run: CliffRun = { base, work, signal, note: (text) => process.stderr.write(`${text}\n`) };
    const cliffs: Cliffs = {};
    if (wanted.includes('zipf')) cliffs.zipf = await measureZipf(run);
    if (wanted.includes('cold')) cliffs.cold = await measureCold(run);
    if (wanted.includes('streams')) cliffs.streams = await measureBesideStreams(run);
    if (wanted.includes('soak')) cliffs.soak = await measureSoak({ ...run, minutes });
    const machine = await describeMachine();
    console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`);
    console.log(formatCliffs(cliffs));
    console.log(JSON.stringify({ date: new Date().toISOString(), machine, cliffs }));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

const plain = { style: { head: [], border: [] } };

/** @returns a table or a few lines of each that was measured, for people. */
export function formatCliffs({ zipf, cold, streams, soak }: Cliffs): string {
  const parts: string[] = [];
  const problems: string[] = [];
  if (zipf !== undefined) {
    const table = new Table({
      head: ['adapters', 'requests', 'TTFT ms p50', 'p95', 'tok/s', 'in memory', 'load ms'],
      ...plain,
    });
    for (const { adapters, requests, ttftMs, tokensPerSecond, hitRatio, loadMs } of zipf)
      table.push([
        ...[adapters, requests, milliseconds(ttftMs.p50), milliseconds(ttftMs.p95)],
        ...[tokensPerSecond.toFixed(0), `${(hitRatio * 100).toFixed(0)} %`, milliseconds(loadMs)],
      ]);
    const [fit, many] = zipf;
    parts.push(table.toString());
    if (fit !== undefined && many !== undefined)
      parts.push(
        `p95 of ${many.adapters} to ${fit.adapters}: ${(many.ttftMs.p95 / fit.ttftMs.p95).toFixed(2)}x`,
      );
    problems.push(...zipf.flatMap((row) => row.problems));
  }
  if (cold !== undefined) {
    parts.push(
      `cold 10 MB adapter through the edge, ${cold.requests} requests: TTFT median ${milliseconds(cold.coldMs.median)} ms, p95 ` +
        `${milliseconds(cold.coldMs.p95)}; resident ${milliseconds(cold.residentMs.median)}, p95 ${milliseconds(cold.residentMs.p95)}; ` +
        `${milliseconds(cold.addedMs)} ms added`,
    );
    problems.push(...cold.problems);
  }
  if (streams !== undefined) {
    const table = new Table({
      head: ['15 streams beside', 'gap ms p50', 'p99', 'worst', 'its TTFT ms', 'its tok/s'],
      ...plain,
    });
    for (const { beside, gapMs, ttftMs, decodePerSecond } of streams)
      table.push([
        beside,
        ...[gapMs.p50, gapMs.p99, gapMs.worst, ttftMs].map(milliseconds),
        decodePerSecond.toFixed(1),
      ]);
    parts.push(table.toString());
    problems.push(...streams.flatMap((row) => row.problems));
  }
  if (soak !== undefined) {
    const { memory, canary, ttftMs } = soak;
    parts.push(
      `${soak.minutes} minutes at ${soak.rate.toFixed(2)} requests a second: ${soak.good} good, ${soak.failed} failed, ` +
        `${soak.aborted} left, refused ${JSON.stringify(soak.refused)}, ${soak.published} published; TTFT p50 ` +
        `${milliseconds(ttftMs.p50)} ms, p99 ${milliseconds(ttftMs.p99)}`,
      `canary: ${canary.asked} answers, ${canary.otherwise} with other bits`,
      ...(['origin', 'edge'] as const).map(
        (part) =>
          `memory of the ${part}: ${megabytes(memory[part].settled)} settled, ${megabytes(memory[part].end)} at the end, ${megabytes(memory[part].most)} at most`,
      ),
    );
    problems.push(...soak.problems);
  }
  return [...parts, ...problems.map((problem) => `PROBLEM ${problem}`)].join('\n');
}
