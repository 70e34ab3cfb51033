/** `npm run bench -- profile`: one wave of mixed-16 through the whole stack, taken apart. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { createApiClient } from '../cli/api-client.ts';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { readKeysFile } from '../cli/local/graft-folder.ts';
import { startStack, type Stack } from '../cli/local/stack.ts';
import { createOutput } from '../cli/output.ts';
import { publishAdapter } from '../cli/publish/publish-adapter.ts';
import { QV, writeRandomAdapter } from './adapters/write-random-adapter.ts';
import { runWave, type Wave } from './load/run-wave.ts';
import { targetAt, type Target } from './load/target.ts';
import { describeMachine } from './machine.ts';
import { processesNamed } from './processes.ts';
import { operatorShares } from './profile/operators.ts';
import type { Recorded } from './profile/record-origin.ts';
import { takeApart, type TakenApart } from './profile/take-apart.ts';

const USAGE = `npm run bench -- profile [flags]
  One wave of mixed-16 (16 adapters of rank 8 on q and v, 64 tokens each) through edge and origin, taken apart: parts of
  its wall time, the middle one of several waves, and the time of ONNX Runtime's operators in a run of their own.
  --base PATH        base model (default: the pinned one, from the cache)
  --waves N          waves, the first of which does not count (default 6)
  --adapters N       adapters; 0 = the base alone (default 16)
  --tokens a,b       tokens of the prompts, one table for each length: 100,1000,4000 shows what a context costs
                     (default: mixed-16's, about 50)
  --no-operators     without the second run
  --origin-arg ARG   passed to the origin; may be repeated`;

const REQUESTS = 16;
const TOKENS = 64;
const RANK = 8;
const PREFIX = 'bench/r8-';
/** Parts that lack more of the wall time than this are not all. */
const MOST_REST = 0.05;

interface Options {
  base: string;
  waves: number;
  adapters: number;
  /** Of each prompt; undefined: those of mixed-16. */
  words?: number;
  originArgs: readonly string[];
  signal: AbortSignal;
}

/** @throws Error that names the flag, or what is missing. */
export async function benchProfile(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      base: { type: 'string' },
      waves: { type: 'string', default: '6' },
      adapters: { type: 'string', default: String(REQUESTS) },
      tokens: { type: 'string' },
      'no-operators': { type: 'boolean', default: false },
      'origin-arg': { type: 'string', multiple: true, default: [] },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const waves = Number(values.waves);
  const adapters = Number(values.adapters);
  if (!Number.isInteger(waves) || waves < 2) throw new Error('--waves: not a whole number from 2');
  if (!Number.isInteger(adapters) || adapters < 0 || adapters > REQUESTS)
    throw new Error(`--adapters: not a whole number from 0 to ${REQUESTS}`);
  const output = createOutput({ json: false });
  const cache = cacheFolder(process.env);
  const base = await findBase({ base: values.base, cache, env: process.env, output });
  const machine = await describeMachine();
  console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`);
  for (const words of promptWords(values.tokens)) {
    const options: Options = {
      ...{ base, waves, adapters, originArgs: values['origin-arg'], signal },
      ...(words === undefined ? {} : { words }),
    };
    if (words !== undefined) console.log(`prompts of ${words + NUMBERS} tokens`);
    const profile = await profileLength(options, !values['no-operators']);
    const tokens = words === undefined ? {} : { tokens: words + NUMBERS };
    console.log(
      JSON.stringify({ date: new Date().toISOString(), machine, profile: { ...tokens, ...profile } }),
    );
  }
}

/** Tokens of a prompt's two leading numbers. */
const NUMBERS = 3;

/** @param tokens lengths of prompts, separated by commas. @returns words of each. @throws Error that names the flag. */
function promptWords(tokens: string | undefined): (number | undefined)[] {
  if (tokens === undefined) return [undefined];
  return tokens.split(',').map((text) => {
    const length = Number(text);
    if (!Number.isInteger(length) || length <= NUMBERS)
      throw new Error(`--tokens ${text}: not a whole number above ${NUMBERS}`);
    return length - NUMBERS;
  });
}

/** Prints the tables of prompts of one length. */
async function profileLength(
  options: Options,
  withOperators: boolean,
): Promise<{ middle: TakenApart; operators: Awaited<ReturnType<typeof operatorShares>> }> {
  const taken = (await profiledWaves(options)).sort((a, b) => a.wallMs - b.wallMs);
  const middle = taken[taken.length >> 1]!;
  console.log(formatParts(middle, taken));
  const operators = withOperators ? await profiledOperators({ ...options, waves: 2 }) : [];
  if (operators.length > 0) {
    const table = new Table({
      head: ['operator, decode steps', 'ms', 'share'],
      style: { head: [], border: [] },
    });
    for (const { operator, ms, share } of operators)
      if (share >= 0.005) table.push([operator, ms.toFixed(0), `${(share * 100).toFixed(1)} %`]);
    console.log(table.toString());
  }
  return { middle, operators };
}

const waveOf = ({ adapters, words }: Options): Wave => ({
  ...{ requests: REQUESTS, adapters, tokens: TOKENS },
  ...(words === undefined ? {} : { words }),
});

async function profiledWaves(options: Options): Promise<TakenApart[]> {
  return withStack(options, {}, async ({ target, stack, recordFile }) => {
    const taken: TakenApart[] = [];
    for (let round = 0; round < options.waves; round++) {
      options.signal.throwIfAborted();
      await recorded(stack.originPid, recordFile);
      const edgePids = await processesNamed('workerd');
      const before = { edge: await cpuOf(edgePids), mine: process.cpuUsage() };
      const start = performance.timeOrigin + performance.now();
      const result = await runWave(target, waveOf(options), round);
      const end = performance.timeOrigin + performance.now();
      if (result.problems[0] !== undefined) throw new Error(result.problems[0]);
      const mine = process.cpuUsage(before.mine);
      const cpuMs = {
        'edge (workerd)': (await cpuOf(edgePids)) - before.edge,
        'load generator, and the socket before the edge': (mine.user + mine.system) / 1000,
      };
      const record = await recorded(stack.originPid, recordFile);
      process.stderr.write(`wave ${round}: ${result.tokensPerSecond.toFixed(0)} tok/s\n`);
      if (round > 0) taken.push(takeApart({ recorded: record, wave: { start, end }, cpuMs }));
    }
    return taken;
  });
}

async function profiledOperators(options: Options): ReturnType<typeof operatorShares> {
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-operators-'));
  const prefix = path.join(work, 'ort');
  try {
    // The files are written when the origin ends.
    await withStack(options, { BENCH_OPERATORS: prefix }, async ({ target }) => {
      await runWave(target, waveOf(options), 0);
    });
    return await operatorShares(prefix);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Starts edge and origin, the recorder in the origin, and publishes the adapters. */
async function withStack<T>(
  options: Options,
  env: Record<string, string>,
  use: (running: { target: Target; stack: Stack; recordFile: string }) => Promise<T>,
): Promise<T> {
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-profile-'));
  const recordFile = path.join(work, 'recorded.json');
  const recorder = pathToFileURL(path.join(import.meta.dirname, 'profile/record-origin.ts')).href;
  Object.assign(process.env, env, {
    BENCH_PROFILE: recordFile,
    NODE_OPTIONS: `--import tsx --import ${recorder}`,
  });
  const output = createOutput({ json: true });
  let stack: Stack | null = null;
  try {
    stack = await startStack({
      ...{ folder: work, base: options.base, port: 0, originPort: 0, examples: false },
      ...{ originArgs: options.originArgs, env: process.env, output, signal: options.signal },
    });
    Reflect.deleteProperty(process.env, 'NODE_OPTIONS');
    const { url, key, adminKey, base } = stack.local;
    const client = createApiClient({ url, key: adminKey });
    for (let i = 0; i < options.adapters; i++) {
      const folder = path.join(work, 'adapters', String(i));
      await writeRandomAdapter({ folder, seed: i, rank: RANK, modules: QV });
      await publishAdapter({
        client,
        given: folder,
        name: `${PREFIX}${i}`,
        parent: null,
        stage: false,
        output,
      });
    }
    const target: Target = { ...targetAt('edge', url), prefix: PREFIX, base, key };
    return await use({ target, stack, recordFile });
  } finally {
    for (const name of ['NODE_OPTIONS', 'BENCH_PROFILE', ...Object.keys(env)])
      Reflect.deleteProperty(process.env, name);
    const keys = await readKeysFile(work);
    await stack?.stop();
    if (keys !== null)
      await rm(path.join(cacheFolder(process.env), `adapters-${keys.originId}`), {
        recursive: true,
        force: true,
      });
    await rm(work, { recursive: true, force: true });
  }
}

/** @returns what the origin noted since the last time. */
async function recorded(pid: number, file: string): Promise<Recorded> {
  await rm(file, { force: true });
  process.kill(pid, 'SIGUSR2');
  while (!existsSync(file)) await sleep(2);
  return JSON.parse(await readFile(file, 'utf8')) as Recorded;
}

/** CPU time, ms. */
async function cpuOf(pids: readonly number[]): Promise<number> {
  let ms = 0;
  for (const pid of pids) {
    const fields = (await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') ')).split(') ')[1]!.split(' ');
    ms += (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) * 10;
  }
  return ms;
}

/** @returns a table of the parts, and lines of what ran beside them. */
function formatParts(middle: TakenApart, all: readonly TakenApart[]): string {
  const { wallMs, parts, restMs, steps, besideMs, cpuMs } = middle;
  const share = (ms: number): string => `${((ms / wallMs) * 100).toFixed(1)} %`;
  const table = new Table({
    head: ['part of the wall time', 'ms', 'share'],
    style: { head: [], border: [] },
  });
  for (const { name, ms } of parts) table.push([name, ms.toFixed(0), share(ms)]);
  const sum = (values: Record<string, number>) =>
    Object.entries(values)
      .map(([name, ms]) => `${name} ${ms.toFixed(0)} ms`)
      .join(', ');
  return [
    table.toString(),
    `wall time ${wallMs.toFixed(0)} ms (${all.map((each) => each.wallMs.toFixed(0)).join(', ')}), parts lack ${share(restMs)}`,
    ...(Math.abs(restMs) > MOST_REST * wallMs ? ['PROBLEM the parts are not the whole'] : []),
    `${steps.prefill} prefill steps (${steps.mixed} with rows that decode in the same run), ${steps.decode} decode steps, the middle one ${steps.decodeMedianMs.toFixed(1)} ms`,
    `main thread beside steps: ${sum(besideMs)}`,
    `CPU: ${sum(cpuMs)}`,
  ].join('\n');
}
