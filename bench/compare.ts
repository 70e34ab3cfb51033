/** `npm run bench -- compare`, which `bench/compare.sh` calls: graft beside vLLM and llama.cpp on the same work. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { ROOT } from '../cli/local/origin-process.ts';
import { createOutput } from '../cli/output.ts';
import { COMPARED, comparePeers, type Comparison } from './compare/measure.ts';
import { drawComparison, readmeTable, replaceTable } from './compare/render.ts';
import { describeMachine } from './machine.ts';
import { milliseconds, waveTable } from './report.ts';

const USAGE = `npm run bench -- compare [flags]     (bench/compare.sh sets the peers up first)
  Starts edge and origin, vLLM's CPU build and llama.cpp's server with the same adapters, and sends the same waves to
  each in turn, the order reversed from turn to turn. About 30 minutes on two cores; nothing else should run.
  --peers FOLDER       what bench/peers/setup.sh filled (default: PEERS, or ~/.cache/graft-peers)
  --only a,b           scenarios: ${COMPARED.join(', ')} (default: all)
  --turns N            turns of each system (default 4)
  --waves N            counted waves a turn (default 2)
  --write              puts the table into README.md and the plot into docs/compare.svg`;

/** @throws Error that names the flag, or says what is missing. */
export async function benchCompare(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      peers: {
        type: 'string',
        default: process.env['PEERS'] ?? path.join(os.homedir(), '.cache/graft-peers'),
      },
      only: { type: 'string', default: COMPARED.join(',') },
      turns: { type: 'string', default: '4' },
      waves: { type: 'string', default: '2' },
      write: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const only = values.only.split(',').map((name) => {
    const known = COMPARED.find((each) => each === name.trim());
    if (known === undefined) throw new Error(`--only: unknown '${name}' (${COMPARED.join(', ')})`);
    return known;
  });
  if (values.write && only.length < COMPARED.length) throw new Error('--write needs all, without --only');
  const whole = (flag: 'turns' | 'waves') => {
    const value = Number(values[flag]);
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${flag} ${values[flag]}: not a whole number from 1`);
    return value;
  };
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-compare-'));
  try {
    const base = await findBase({
      ...{ base: undefined, cache: cacheFolder(process.env), env: process.env },
      output: createOutput({ json: false }),
    });
    const comparison = await comparePeers({
      ...{ base, peers: path.resolve(values.peers), work, signal },
      ...{ only, turns: whole('turns'), waves: whole('waves') },
      note: (text) => process.stderr.write(`${text}\n`),
    });
    const machine = await describeMachine();
    console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`);
    console.log(formatComparison(comparison));
    console.log(JSON.stringify({ date: new Date().toISOString(), machine, compare: comparison }));
    if (!values.write) return;
    const readme = path.join(ROOT, 'README.md');
    await writeFile(readme, replaceTable(await readFile(readme, 'utf8'), readmeTable(comparison)));
    await writeFile(path.join(ROOT, 'docs/compare.svg'), drawComparison(comparison));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** @returns the waves, what graft is to its peers with the spread over the turns, and the two lines beside them. */
export function formatComparison({ waves, ratios, lonely, many }: Comparison): string {
  const compared = new Table({
    head: ['scenario', 'graft to', 'of', 'median', 'lowest', 'highest', 'turns'],
    style: { head: [], border: [] },
  });
  for (const { scenario, peer, what, turns, median, lowest, highest } of ratios)
    compared.push([
      ...[scenario, peer, what],
      ...[median, lowest, highest].map((ratio) => ratio.toFixed(2)),
      turns.length,
    ]);
  const problems = waves.flatMap((row) =>
    row.problems.map((problem) => `PROBLEM ${row.scenario} ${row.system}: ${problem}`),
  );
  return [
    waveTable(waves),
    compared.toString(),
    ...(lonely === null ? [] : [lonelyLine(lonely)]),
    ...(many === null ? [] : [manyLine(many)]),
    ...problems,
  ].join('\n');
}

function lonelyLine({ llamaBench: [before, after], graft }: NonNullable<Comparison['lonely']>): string {
  const times = ((2 * graft) / (before + after)).toFixed(2);
  return (
    `one request, decode: graft ${graft.toFixed(1)} tok/s; llama-bench ${before.toFixed(1)} before and ` +
    `${after.toFixed(1)} after (${times}x)`
  );
}

const manyLine = ({ worstTtftMs, prefillAloneMs }: NonNullable<Comparison['many']>): string =>
  `64 at once: worst TTFT ${milliseconds(worstTtftMs)} ms, their prefill alone ` +
  `${milliseconds(prefillAloneMs)} ms (${(worstTtftMs / prefillAloneMs).toFixed(2)}x)`;
