/** `npm run bench -- vllm`: what graft adds to a vLLM that runs, asked alone and through graft in turn. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { describeMachine } from './machine.ts';
import { measureThroughVllm, type ThroughVllm } from './measurements/through-vllm.ts';
import { milliseconds, waveTable } from './report.ts';

const USAGE = `npm run bench -- vllm --url URL --base FOLDER [flags]
  Asks a vLLM that runs, by itself, through an origin, and through edge and origin, in turn, the order reversed from turn
  to turn: mixed-16 and the base with 16 requests at once, one request at a time, and adapters that vLLM does not have.
  Start it so, on this machine, and nothing else beside it:
    VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve FOLDER --port 8000 --enable-lora --api-server-count 1 \\
      --max-loras 16 --max-cpu-loras 64 --max-lora-rank 16
  --url URL            vLLM's address (GRAFT_ENGINE_KEY: its --api-key)
  --base FOLDER        the folder that it serves
  --max-loras N        as it was started with (default 16)
  --max-lora-rank N    as it was started with (default 16)
  --turns N            turns of each system (default 6)
  --waves N            counted waves a turn (default 2)
  --tokens N           new tokens of each request in a wave (default 64)
  --singles N          rounds of single requests, each system once (default 100)
  --swaps N            cold adapters for each system (default 30)`;

/** @throws Error that names the flag, or says what vLLM lacks. */
export async function benchVllm(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      url: { type: 'string' },
      base: { type: 'string' },
      'max-loras': { type: 'string', default: '16' },
      'max-lora-rank': { type: 'string', default: '16' },
      turns: { type: 'string', default: '6' },
      waves: { type: 'string', default: '2' },
      tokens: { type: 'string', default: '64' },
      singles: { type: 'string', default: '100' },
      swaps: { type: 'string', default: '30' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const { url, base } = values;
  if (url === undefined || base === undefined) throw new Error(`--url and --base are needed\n${USAGE}`);
  const whole = (
    flag: 'max-loras' | 'max-lora-rank' | 'turns' | 'waves' | 'tokens' | 'singles' | 'swaps',
  ) => {
    const value = Number(values[flag]);
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${flag} ${values[flag]}: not a whole number from 1`);
    return value;
  };
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-bench-'));
  const apiKey = process.env['GRAFT_ENGINE_KEY'];
  try {
    const measured = await measureThroughVllm({
      ...{ url: url.replace(/\/+$/, ''), base: path.resolve(base), work, signal },
      ...(apiKey === undefined ? {} : { apiKey }),
      ...{ maxLoras: whole('max-loras'), maxLoraRank: whole('max-lora-rank') },
      ...{ tokens: whole('tokens'), turns: whole('turns'), waves: whole('waves') },
      ...{ singles: whole('singles'), swaps: whole('swaps') },
      // Adapters are the bench's own, and go with its folder.
      env: { ...process.env, GRAFT_CACHE: path.join(work, 'cache') },
      onWave: (scenario, system, { tokensPerSecond, problems: [problem] }) =>
        process.stderr.write(
          `${scenario} ${system}: ${tokensPerSecond.toFixed(0)} tok/s${problem === undefined ? '' : ` PROBLEM ${problem}`}\n`,
        ),
    });
    const machine = await describeMachine();
    console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`);
    console.log(formatThroughVllm(measured));
    console.log(JSON.stringify({ date: new Date().toISOString(), machine, vllm: measured }));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

const plain = { style: { head: [], border: [] } };

/** @returns tables for people: waves, ratios to vLLM alone with their spread over the turns, single requests, swaps. */
export function formatThroughVllm({ waves, ratios, firstToken, swaps }: ThroughVllm): string {
  const compared = new Table({
    head: ['scenario', 'to vLLM alone', 'of', 'median', 'lowest', 'highest', 'turns'],
    ...plain,
  });
  for (const { scenario, system, what, turns, median, lowest, highest } of ratios)
    compared.push([
      ...[scenario, system, what],
      ...[median, lowest, highest].map((ratio) => ratio.toFixed(3)),
      turns.length,
    ]);
  const singles = new Table({
    head: ['one at a time', 'requests', 'TTFT ms median', 'p95', 'added ms, median of pairs'],
    ...plain,
  });
  for (const { system, requests, ttftMs, addedMs } of firstToken)
    singles.push([system, requests, ...[ttftMs.median, ttftMs.p95, addedMs].map(milliseconds)]);
  const colds = new Table({
    head: ['cold adapter', 'swaps', 'to the first token ms median', 'p95', 'asked again ms median', 'p95'],
    ...plain,
  });
  for (const { system, swaps: count, ttftMs, residentMs } of swaps)
    colds.push([
      ...[system, count],
      ...[ttftMs.median, ttftMs.p95, residentMs.median, residentMs.p95].map(milliseconds),
    ]);
  const problems = [...waves, ...firstToken, ...swaps].flatMap((row) =>
    row.problems.map((problem) => `PROBLEM ${row.system}: ${problem}`),
  );
  return [waveTable(waves), compared.toString(), singles.toString(), colds.toString(), ...problems].join(
    '\n',
  );
}
