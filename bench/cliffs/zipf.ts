import path from 'node:path';
import { R8, writeSet } from '../adapters/adapter-set.ts';
import { benchPrompt } from '../load/prompts.ts';
import { runRequest } from '../load/run-request.ts';
import type { Target } from '../load/target.ts';
import { seededRandom } from '../seeded-random.ts';
import { startStandaloneOrigin } from '../standalone-origin.ts';
import { median, quantile } from '../statistics.ts';
import type { CliffRun } from './cliff.ts';

const ADAPTERS = 1_000;
const RESIDENT = 50;
/** A rank-8 q,v adapter of SmolLM2-135M is 1.84 MB in float32, and as much again while it is in a row. */
const BUDGET_BYTES = RESIDENT * 1_900_000;
/** Half of the rows: an arrival finds one free, so that what is measured is the adapter and not the queue. */
const CLIENTS = 8;
const REQUESTS = 400;
const TOKENS = 32;

export interface ZipfRow {
  adapters: number;
  requests: number;
  ttftMs: { p50: number; p95: number };
  tokensPerSecond: number;
  /** Requests that found their adapter in memory, share. */
  hitRatio: number;
  /** From the disk to ready, mean. */
  loadMs: number;
  problems: string[];
}

/** @returns names 0 … adapters - 1, drawn by Zipf's law with exponent 1. */
function zipfTrace(adapters: number, requests: number, random: () => number): number[] {
  const sums: number[] = [];
  let sum = 0;
  for (let rank = 1; rank <= adapters; rank++) sums.push((sum += 1 / rank));
  return Array.from({ length: requests }, () => {
    const at = random() * sum;
    return sums.findIndex((upTo) => at < upTo);
  });
}

/**
 * Eight clients ask for one of 1,000 adapters each, by Zipf's law, where memory holds 50; then for one of 50, which all
 * fit. The same origin flags, one after the other.
 */
export async function measureZipf({ base, work, signal }: CliffRun): Promise<ZipfRow[]> {
  const adapters = await writeSet(path.join(work, 'zipf'), { ...R8, count: ADAPTERS });
  const rows: ZipfRow[] = [];
  for (const count of [RESIDENT, ADAPTERS]) {
    const origin = await startStandaloneOrigin({
      ...{ base, port: 0, adapters: adapters.slice(0, count) },
      extraArgs: ['--adapter-ram-bytes', String(BUDGET_BYTES), '--prefix-cache-bytes', '0'],
    });
    try {
      const target = origin.target('graft', R8.prefix);
      const trace = zipfTrace(count, REQUESTS, seededRandom(count));
      const ask = (index: number, adapter: number) =>
        runRequest(target, { prompt: benchPrompt(index, 0), tokens: TOKENS, adapter });
      // What is most wanted is in memory first, as after an hour.
      for (let i = 0; i < RESIDENT; i++) await ask(i, RESIDENT - 1 - i);
      const before = await originCounter(target, [
        'graft_adapter_loads_total',
        'graft_adapter_load_seconds_sum',
      ]);
      const firsts: number[] = [];
      const problems = new Set<string>();
      let next = 0;
      const start = performance.now();
      await Promise.all(
        Array.from({ length: CLIENTS }, async () => {
          while (next < trace.length) {
            signal.throwIfAborted();
            const index = next++;
            const result = await ask(RESIDENT + index, trace[index] as number);
            if (result.problem === null) firsts.push(result.firstMs);
            else problems.add(result.problem);
          }
        }),
      );
      const seconds = (performance.now() - start) / 1_000;
      const after = await originCounter(target, [
        'graft_adapter_loads_total',
        'graft_adapter_load_seconds_sum',
      ]);
      const [loads = 0, loadSeconds = 0] = after.map((value, i) => value - (before[i] as number));
      rows.push({
        ...{ adapters: count, requests: firsts.length, problems: [...problems] },
        ttftMs: { p50: median(firsts), p95: quantile(firsts, 0.95) },
        tokensPerSecond: (firsts.length * TOKENS) / seconds,
        hitRatio: 1 - loads / REQUESTS,
        loadMs: loads === 0 ? 0 : (loadSeconds / loads) * 1_000,
      });
    } finally {
      await origin.process.stop();
    }
  }
  return rows;
}

/** @returns the sums over all labels of these Prometheus metrics of a standalone origin; 0 for one that it does not show. */
async function originCounter(
  target: Pick<Target, 'host' | 'port'>,
  names: readonly string[],
): Promise<number[]> {
  const answer = await fetch(`http://${target.host}:${target.port}/metrics`);
  if (!answer.ok) throw new Error(`/metrics: status ${answer.status}`);
  const lines = (await answer.text()).split('\n');
  return names.map((name) =>
    lines
      .filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0),
  );
}
