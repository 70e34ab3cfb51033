/** `npm run bench -- train`: a step's time and memory, and losses, beside PEFT; and a base of 1B parameters. */
import { spawn } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { createOutput } from '../cli/output.ts';
import type { LlamaConfig } from '../gpu-origin/model/base-model.ts';
import { createChatTemplate } from '../gpu-origin/model/chat-template.ts';
import { loadBase } from '../gpu-origin/model/load-base.ts';
import { loadTokenizer } from '../gpu-origin/model/load-tokenizer.ts';
import { encodeRows, type TrainingRow } from '../gpu-origin/training/rows.ts';
import { parseRows } from '../protocol/training-rows.ts';
import { describeMachine } from './machine.ts';
import { megabytes } from './report.ts';
import { median } from './statistics.ts';
import {
  makePlan,
  orderedBatches,
  type Plan,
  type PlannedBatch,
  randomBatches,
  writeStart,
} from './train/plan.ts';
import { SHAPES, writeRandomWeights } from './train/random-base.ts';
import type { Job, JobBase, PlanLine } from './train/run-plan.ts';
import type { Parts } from './train/timed-device.ts';

const USAGE = `npm run bench -- train [flags]
  Trains rank 8 on all seven linears, each system in a process of its own, in turns.
  step: 8 rows of 128 random tokens on the base in float32 and int8, with and without recomputation; seconds of a step,
  peak of resident memory, and what a step's time goes into.
  order: the same rows in the same order from the same start in float32, losses side by side.
  --only a,b           step, order (default: both)
  --shape ${Object.keys(SHAPES).join(', ')}           instead of both: 4 rows of 256 tokens on random weights of this shape, in int8
  --peft PYTHON        a Python with torch, transformers and peft, to compare with (default: graft alone)
  --peft-base FOLDER   the base in float32 for it (default: $PEERS/hf if it is there, otherwise converted)
  --base PATH          base model (default: the pinned one, from the cache)
  --rows FILE          rows of 'order' (default: test/fixtures/tasks/intent.jsonl)
  --threads N          threads of both (default: the cores of this machine)
  --steps N            counted steps of 'step' and '--shape', after one that warms up (default 5)
  --order-steps N      steps of 'order' (default 50)
  --turns N            turns of 'step', the second in reverse order and so on (default 1)
  --layers N           the first layers alone, without PEFT, for a quick look`;

/** Shares of PEFT's that are to be reached. */
const BARS = { step: 1, memory: 0.4, recomputed: 0.25, loss: 0.01, shapeBytes: 6e9 } as const;
const STEP = { rows: 8, length: 128 } as const;
const SHAPE = { rows: 4, length: 256 } as const;
/** Rows of a step of `order`, as trainings of few rows have them. */
const ORDER_BATCH = 4;
const MAX_LENGTH = 512;
/** Losses that are printed. */
const ORDER_LINES = 10;

interface Options {
  threads: number;
  steps: number;
  orderSteps: number;
  turns: number;
  layers: number | null;
  python: string | null;
  /** Hugging Face folder; '' without PEFT. */
  peftBase: string;
  rows: string;
  work: string;
  signal: AbortSignal;
}

export interface StepResult {
  system: string;
  recompute: boolean;
  /** Of counted steps of all turns. */
  seconds: number[];
  /** The largest of all turns. */
  peakBytes: number;
  /** Of graft's last turn. */
  parts: { parts: Parts; total: number } | null;
}

/** @throws Error that names the flag. */
export async function benchTrain(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', default: 'step,order' },
      shape: { type: 'string' },
      peft: { type: 'string' },
      'peft-base': { type: 'string' },
      base: { type: 'string' },
      rows: { type: 'string' },
      threads: { type: 'string', default: String(os.availableParallelism()) },
      steps: { type: 'string', default: '5' },
      'order-steps': { type: 'string', default: '50' },
      turns: { type: 'string', default: '1' },
      layers: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const whole = (flag: 'threads' | 'steps' | 'order-steps' | 'turns'): number => {
    const value = Number(values[flag]);
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${flag} ${values[flag]}: not a whole number from 1`);
    return value;
  };
  const wanted = values.only.split(',');
  for (const name of wanted)
    if (name !== 'step' && name !== 'order')
      throw new Error(`--only: unknown scenario '${name}' (step, order)`);
  const shape = values.shape;
  if (shape !== undefined && SHAPES[shape] === undefined)
    throw new Error(`--shape: unknown shape '${shape}' (${Object.keys(SHAPES).join(', ')})`);
  const layers = values.layers === undefined ? null : Number(values.layers);
  if (layers !== null && (!Number.isInteger(layers) || layers < 1))
    throw new Error(`--layers ${values.layers}: not a whole number from 1`);
  if (layers !== null && values.peft !== undefined) throw new Error('--layers is without --peft');
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-train-'));
  const options: Options = {
    threads: whole('threads'),
    steps: whole('steps'),
    orderSteps: whole('order-steps'),
    turns: whole('turns'),
    layers,
    python: values.peft ?? null,
    peftBase: '',
    rows: values.rows ?? path.join(import.meta.dirname, '../test/fixtures/tasks/intent.jsonl'),
    work,
    signal,
  };
  try {
    const machine = await describeMachine();
    console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`);
    let train: object;
    if (shape === undefined) {
      const cache = cacheFolder(process.env);
      const output = createOutput({ json: false });
      const base = await findBase({ base: values.base, cache, env: process.env, output });
      if (options.python !== null) options.peftBase = await peftBase(options, base, values['peft-base']);
      const { config, rows } = await readBase(base, options.rows);
      const given = { options, base, cache, config };
      const step = wanted.includes('step') ? await benchSteps(given) : null;
      if (step !== null) console.log(formatSteps(step));
      const order = wanted.includes('order') ? await benchOrder(given, rows) : null;
      if (order !== null) console.log(formatOrder(order));
      train = { step, order };
    } else {
      const result = await benchShape(options, shape);
      console.log(formatSteps([result]));
      console.log(`peak memory ${megabytes(result.peakBytes)} (bar: ${megabytes(BARS.shapeBytes)})`);
      train = { shape, ...result };
    }
    console.log(JSON.stringify({ date: new Date().toISOString(), machine, threads: options.threads, train }));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

interface Given {
  options: Options;
  base: string;
  cache: string;
  config: LlamaConfig;
}

async function readBase(
  base: string,
  rowsFile: string,
): Promise<{ config: LlamaConfig; rows: TrainingRow[] }> {
  const opened = await loadBase(base, undefined);
  const tokenizer = loadTokenizer(opened.tokenizerSource);
  const { config } = opened.base;
  opened.base.close();
  const format = rowsFile.endsWith('.csv') ? 'csv' : 'jsonl';
  const parsed = parseRows({ bytes: new Uint8Array(await readFile(rowsFile)), format, method: 'sft' });
  const [problem] = parsed.problems;
  if (problem !== undefined) throw new Error(`${rowsFile}, line ${problem.line}: ${problem.problem}`);
  const template = createChatTemplate(tokenizer);
  return { config, rows: encodeRows(parsed.rows, { tokenizer, template, maxLength: MAX_LENGTH }).rows };
}

/** The base as a folder in float32. */
async function peftBase(
  { python, work, signal }: Options,
  base: string,
  given: string | undefined,
): Promise<string> {
  if (given !== undefined) return given;
  if (statSync(base).isDirectory()) return base;
  const peers = process.env['PEERS'] ?? path.join(os.homedir(), '.cache/graft-peers');
  const ready = path.join(peers, 'hf');
  if (existsSync(path.join(ready, 'model.safetensors'))) return ready;
  const folder = path.join(work, 'hf');
  process.stderr.write('the base in float32, as PEFT reads it\n');
  await lines(python!, [path.join(import.meta.dirname, 'peers/gguf_to_hf.py'), base, folder], signal);
  return folder;
}

/** Runs a program to its end. @returns its lines of JSON. */
async function lines(program: string, args: readonly string[], signal: AbortSignal): Promise<PlanLine[]> {
  signal.throwIfAborted();
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], signal });
  const ended = new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${path.basename(program)} ${args.join(' ')} ended with ${code}`));
    });
  });
  const found: PlanLine[] = [];
  for await (const line of createInterface(child.stdout)) {
    if (!line.startsWith('{')) continue;
    const parsed = JSON.parse(line) as PlanLine;
    if ('step' in parsed)
      process.stderr.write(
        `  step ${parsed.step}: ${parsed.seconds.toFixed(2)} s, loss ${parsed.loss.toFixed(4)}\n`,
      );
    found.push(parsed);
  }
  await ended;
  return found;
}

async function runGraft(options: Options, job: Job): Promise<PlanLine[]> {
  const file = path.join(options.work, 'job.json');
  await writeFile(file, JSON.stringify(job));
  const program = path.join(import.meta.dirname, 'train/run-plan.ts');
  return lines(process.execPath, ['--import', 'tsx', program, file], options.signal);
}

const runPeft = ({ python, signal }: Options, plan: string): Promise<PlanLine[]> =>
  lines(python!, [path.join(import.meta.dirname, 'peers/train_peft.py'), plan], signal);

async function writePlan(
  { options, config }: Pick<Given, 'options' | 'config'>,
  name: string,
  batches: readonly PlannedBatch[],
): Promise<string> {
  const { work, threads, peftBase: base } = options;
  const start = path.join(work, `${name}-start`);
  const plan: Plan = makePlan({ config, base, start, threads, batches });
  if (options.python !== null) await writeStart(config, plan);
  const file = path.join(work, `${name}.json`);
  await writeFile(file, JSON.stringify(plan));
  return file;
}

const measuredOf = (found: readonly PlanLine[]): Pick<StepResult, 'seconds' | 'peakBytes' | 'parts'> => ({
  // The first one also builds graphs and touches memory.
  seconds: found.flatMap((line) => ('step' in line && line.step > 0 ? [line.seconds] : [])),
  peakBytes: Math.max(0, ...found.flatMap((line) => ('peakBytes' in line ? [line.peakBytes] : []))),
  parts: found.find((line) => 'parts' in line) ?? null,
});

async function benchSteps(given: Given): Promise<StepResult[]> {
  const { options, base, cache, config } = given;
  const steps = 1 + options.steps;
  const plan = await writePlan(given, 'step', randomBatches({ steps, ...STEP, vocab: config.vocab }));
  const systems: { system: string; recompute: boolean; run: () => Promise<PlanLine[]> }[] = [];
  for (const weights of ['f32', 'int8'] as const) {
    const job = {
      base: { kind: 'file', path: base, weights, cache } satisfies JobBase,
      layers: options.layers,
      profile: true,
    };
    // Preparing weights takes memory of its own.
    await runGraft(options, { ...job, plan: null, recompute: false });
    for (const recompute of [false, true])
      systems.push({
        system: `graft ${weights}`,
        recompute,
        run: () => runGraft(options, { ...job, plan, recompute }),
      });
  }
  if (options.python !== null)
    systems.push({ system: 'PEFT', recompute: false, run: () => runPeft(options, plan) });
  const results = systems.map(({ system, recompute }): StepResult => ({
    system,
    recompute,
    seconds: [],
    peakBytes: 0,
    parts: null,
  }));
  for (let turn = 0; turn < options.turns; turn++) {
    const order = [...systems.keys()];
    for (const at of turn % 2 === 0 ? order : order.reverse()) {
      const result = results[at]!;
      process.stderr.write(`${nameOf(result)}\n`);
      const { seconds, peakBytes, parts } = measuredOf(await systems[at]!.run());
      result.seconds.push(...seconds);
      result.peakBytes = Math.max(result.peakBytes, peakBytes);
      result.parts = parts;
    }
  }
  return results;
}

async function benchShape(options: Options, shape: string): Promise<StepResult> {
  const config = SHAPES[shape]!;
  const file = path.join(options.work, 'weights.bin');
  const entries = writeRandomWeights(config, file);
  const batches = randomBatches({ steps: 1 + options.steps, ...SHAPE, vocab: config.vocab });
  const plan = await writePlan({ options: { ...options, python: null }, config }, 'shape', batches);
  const found = await runGraft(options, {
    plan,
    base: { kind: 'random', shape, file, entries },
    recompute: true,
    layers: options.layers,
    profile: true,
  });
  return { system: `graft int8, ${shape}`, recompute: true, ...measuredOf(found) };
}

export interface OrderResult {
  /** Mean loss of each step. */
  graft: number[];
  /** null without PEFT. */
  peft: number[] | null;
}

async function benchOrder(given: Given, rows: readonly TrainingRow[]): Promise<OrderResult> {
  const { options, base, cache } = given;
  const plan = await writePlan(given, 'order', orderedBatches(rows, ORDER_BATCH, options.orderSteps));
  const lossesOf = (found: readonly PlanLine[]): number[] =>
    found.flatMap((line) => ('step' in line ? [line.loss] : []));
  process.stderr.write('order: graft f32\n');
  const graft = await runGraft(options, {
    plan,
    base: { kind: 'file', path: base, weights: 'f32', cache },
    recompute: false,
    layers: options.layers,
    profile: false,
  });
  if (options.python === null) return { graft: lossesOf(graft), peft: null };
  process.stderr.write('order: PEFT\n');
  return { graft: lossesOf(graft), peft: lossesOf(await runPeft(options, plan)) };
}

const nameOf = ({ system, recompute }: Pick<StepResult, 'system' | 'recompute'>): string =>
  recompute ? `${system}, recomputed` : system;

const plain = { style: { head: [], border: [] } };
const share = (value: number): string => (Number.isFinite(value) ? value.toFixed(2) : '-');

/** @returns a table of all systems, and one of the parts of graft's steps. */
export function formatSteps(results: readonly StepResult[]): string {
  const peft = results.find(({ system }) => system === 'PEFT');
  const table = new Table({
    head: ['system', 's a step median', 'best', 'worst', "of PEFT's (bar)", 'peak memory', "of PEFT's (bar)"],
    ...plain,
  });
  for (const result of results) {
    const { seconds, peakBytes, recompute } = result;
    const ofStep = median(seconds) / median(peft?.seconds ?? []);
    const ofMemory = peakBytes / (peft?.peakBytes ?? NaN);
    const bars =
      result === peft
        ? ['', '']
        : [
            `${share(ofStep)}${recompute ? '' : ` (${BARS.step})`}`,
            `${share(ofMemory)} (${recompute ? BARS.recomputed : BARS.memory})`,
          ];
    table.push([
      nameOf(result),
      ...[median(seconds), Math.min(...seconds), Math.max(...seconds)].map((value) => value.toFixed(2)),
      bars[0],
      megabytes(peakBytes),
      bars[1],
    ]);
  }
  const own = results.filter(({ parts }) => parts !== null);
  const names = [...new Set(own.flatMap(({ parts }) => Object.keys(parts!.parts)))];
  const parts = new Table({ head: ['a step of its own, ms (share)', ...own.map(nameOf)], ...plain });
  const cell = (ms: number, total: number): string =>
    `${ms.toFixed(0)} (${((ms / total) * 100).toFixed(1)} %)`;
  for (const name of names)
    parts.push([name, ...own.map(({ parts: one }) => cell(one!.parts[name] ?? 0, one!.total))]);
  const restOf = ({ parts: one, total }: { parts: Parts; total: number }): number =>
    total - Object.values(one).reduce((sum, ms) => sum + ms, 0);
  parts.push(['everything else', ...own.map(({ parts: one }) => cell(restOf(one!), one!.total))]);
  parts.push(['whole step', ...own.map(({ parts: one }) => one!.total.toFixed(0))]);
  return [table.toString(), ...(own.length === 0 ? [] : [parts.toString()])].join('\n');
}

/** @returns losses of some steps, and how far the last ones are apart. */
export function formatOrder({ graft, peft }: OrderResult): string {
  const table = new Table({ head: ['step', 'loss, graft', 'loss, PEFT', 'difference'], ...plain });
  const every = Math.max(1, Math.round(graft.length / ORDER_LINES));
  const apart = (step: number): number =>
    peft === null ? NaN : Math.abs(graft[step]! - peft[step]!) / peft[step]!;
  const percent = (value: number): string => (Number.isNaN(value) ? '-' : `${(value * 100).toFixed(4)} %`);
  const last = graft.length - 1;
  for (const step of graft.keys())
    if (step === 0 || (step + 1) % every === 0 || step === last)
      table.push([step + 1, graft[step]!.toFixed(6), peft?.[step]?.toFixed(6) ?? '-', percent(apart(step))]);
  return [
    table.toString(),
    `difference at step ${last + 1}: ${percent(apart(last))} (bar: ${BARS.loss * 100} %)`,
  ].join('\n');
}
