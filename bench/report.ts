import Table from 'cli-table3';
import type { Machine } from './machine.ts';
import type { WaveSummary } from './measurements/compare-waves.ts';
import type { LongParts } from './measurements/long-parts.ts';
import type { EdgeSummary } from './measurements/edge-overhead.ts';
import type { SwapSummary } from './measurements/swap-adapters.ts';

export interface Report {
  date: string;
  machine: Machine;
  /** Of our origin; null when no scenario needed one by itself. */
  base: { id: string; digest: string; weights: string } | null;
  waves: WaveSummary[];
  /** Peak resident set of our origin during mixed-16, bytes, by scenario. */
  peakBytes: Record<string, number>;
  longParts: LongParts | null;
  swaps: SwapSummary | null;
  edge: EdgeSummary | null;
}

export const milliseconds = (value: number): string =>
  Number.isNaN(value) ? '-' : value.toFixed(value < 10 ? 2 : 0);
export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;

/** @returns the machine, a table and a few lines, for people. */
export function formatReport(report: Report): string {
  const { machine, base } = report;
  const versions = Object.entries(machine.versions).map(([name, version]) => `${name} ${version}`);
  const problems = [
    ...report.waves.flatMap((row) =>
      row.problems.map((problem) => `${row.scenario} ${row.system}: ${problem}`),
    ),
    ...(report.swaps?.problems.map((problem) => `swaps: ${problem}`) ?? []),
    ...(report.longParts?.problems.map((problem) => `long16: ${problem}`) ?? []),
    ...(report.edge?.problems.map((problem) => `edge: ${problem}`) ?? []),
  ];
  return [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`,
    versions.join(', '),
    ...(base === null ? [] : [`base ${base.id}, ${base.weights}, ${base.digest.slice(0, 12)}`]),
    ...(report.waves.length > 0 ? [waveTable(report.waves)] : []),
    ...Object.entries(report.peakBytes).map(
      ([scenario, bytes]) => `memory of the origin during ${scenario}: ${megabytes(bytes)} at most`,
    ),
    ...(report.longParts === null ? [] : [longPartsLine(report.longParts)]),
    ...(report.swaps === null ? [] : [swapLine(report.swaps)]),
    ...(report.edge === null ? [] : [edgeLine(report.edge)]),
    ...problems.map((problem) => `PROBLEM ${problem}`),
  ].join('\n');
}

/** @returns a row a system and scenario. */
export function waveTable(waves: readonly WaveSummary[]): string {
  const table = new Table({
    head: [
      'scenario',
      'system',
      'tok/s median',
      'best',
      'worst',
      'TTFT ms median',
      'worst',
      'decode tok/s a request',
    ],
    style: { head: [], border: [] },
  });
  for (const { scenario, system, tokensPerSecond, ttftMs, decodePerSecond } of waves) {
    const rates = [tokensPerSecond.median, tokensPerSecond.best, tokensPerSecond.worst].map((rate) =>
      rate.toFixed(0),
    );
    table.push([
      scenario,
      system,
      ...rates,
      milliseconds(ttftMs.median),
      milliseconds(ttftMs.worst),
      decodePerSecond.toFixed(1),
    ]);
  }
  return table.toString();
}

const longPartsLine = ({ rounds, wholeMs, promptsMs, stepsMs, times }: LongParts): string =>
  `long16, ${rounds} rounds: ${milliseconds(wholeMs)} ms, its prompts alone ${milliseconds(promptsMs)}, its decode steps ` +
  `alone ${milliseconds(stepsMs)}: ${times.median.toFixed(2)} times both (${times.best.toFixed(2)} to ${times.worst.toFixed(2)})`;

const swapLine = (swaps: SwapSummary): string =>
  `${swaps.swaps} adapter swaps: TTFT median ${milliseconds(swaps.ttftMs.median)} ms, p95 ${milliseconds(swaps.ttftMs.p95)} ms; memory ` +
  `${megabytes(swaps.rssAfterSettledBytes)} once settled, ${megabytes(swaps.rssAtEndBytes)} at the end (${(swaps.growth * 100).toFixed(1)} %)`;

const edgeLine = (edge: EdgeSummary): string =>
  `edge overhead over ${edge.pairs} pairs: ${milliseconds(edge.overheadMs.median)} ms median, ${milliseconds(edge.overheadMs.p99)} p99 (edge ${milliseconds(edge.edgeMs.median)} ms, ` +
  `origin ${milliseconds(edge.originMs.median)} ms)`;
