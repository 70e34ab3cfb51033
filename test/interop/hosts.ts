/**
 * `npm run interop -- hosts [rows[@first]] [provider:weights …] [task …] [gpu]`: the example adapters on the real base wherever a provider
 * of this machine runs it; WebGPU on SwiftShader, or with `gpu` on the GPU. Each answer of the tasks is forced, so that one difference does not make all that follow differ.
 */
import type { Provider } from '../../gpu-origin/runtime/device.ts';
import { makeRealRunner, taskRows, teacherForced, type RealRunner } from '../check/real-base.ts';
import { useSoftwareVulkan } from '../fixtures/software-vulkan.ts';
import { argmax, divergence, logProbabilities } from '../fixtures/tiny-runner.ts';

const ROWS = 8;
const TASKS = {
  medicine: ['medicine'],
  cardiology: ['medicine', 'cardiology'],
  'dr-lee': ['medicine', 'cardiology', 'dr-lee'],
  intent: ['intent-v2'],
} as const;
type Task = keyof typeof TASKS;
const NAMES = Object.keys(TASKS) as Task[];
/** Rows of a task, from the first or another one on: a slow device is asked piece by piece. */
const COUNT = /^\d+(@\d+)?$/;
const END_OF_TURN = '<|im_end|>';
/** Nats: of 50,000 tokens together, what is below has a chance of one in 10,000. */
const LIKELY = -20;
/** Rows of all tasks decode together, one step that prepares kernels and then for so long, or once. */
const DECODE_MS = 3_000;

/** What others are compared with comes first. */
const HOSTS = ['cpu:f32', 'cpu:int8', 'web:f32', 'web:int8', 'webgpu:f32', 'webgpu:int8'] as const;
type Host = (typeof HOSTS)[number];

interface Measured {
  /** By task, logits behind each token of each answer. */
  logits: Partial<Record<Task, Float32Array[]>>;
  exact: Partial<Record<Task, number>>;
  promptRate: number;
  decodeRate: number;
}

/** @returns the exit code: 1 when a score is another one than that of float32 on the processor. */
export async function runHosts(args: readonly string[]): Promise<number> {
  const [count, from] = (args.find((arg) => COUNT.test(arg)) ?? `${ROWS}`).split('@').map(Number);
  const part = { rows: count ?? ROWS, first: from ?? null };
  for (const arg of args)
    if (!COUNT.test(arg) && ![...HOSTS, ...NAMES, 'gpu'].includes(arg))
      throw new Error(`${arg}: a number of rows, ${[...HOSTS, ...NAMES].join(', ')} or gpu`);
  const named = HOSTS.filter((host) => args.includes(host));
  const tasks = NAMES.filter((task) => args.includes(task));
  if (tasks.length === 0) tasks.push(...NAMES);
  const missing = args.includes('gpu') ? null : useSoftwareVulkan();
  const chosen = HOSTS.filter((host, at) => at === 0 || named.length === 0 || named.includes(host));
  const table = [['provider', ...tasks, 'worst difference', 'KL', 'prompt tok/s', 'decode tok/s']];
  let truth: Measured | null = null;
  let same = true;
  for (const host of chosen) {
    if (host.startsWith('webgpu') && missing !== null) {
      console.log(`skipped: ${host}, for want of a device: ${missing}`);
      continue;
    }
    const measured = await measure(host, part, tasks);
    truth ??= measured;
    const { worst, kl } = compare(truth, measured);
    same &&= tasks.every((task) => measured.exact[task] === truth!.exact[task]);
    table.push([
      host,
      ...tasks.map((task) => `${measured.exact[task]} of ${part.rows}`),
      ...[worst.toExponential(1), kl.toExponential(1)],
      ...[measured.promptRate, measured.decodeRate].map((rate) => (rate > 0 ? rate.toFixed(1) : '')),
    ]);
  }
  console.log(plainTable(table));
  return same ? 0 : 1;
}

async function measure(
  host: Host,
  part: { rows: number; first: number | null },
  tasks: readonly Task[],
): Promise<Measured> {
  const { rows, first } = part;
  const [provider, weights] = host.split(':') as [Provider, 'f32' | 'int8'];
  const real = await makeRealRunner(weights, NAMES.length, provider, 512);
  try {
    const logits: Measured['logits'] = {};
    const exact: Measured['exact'] = {};
    let [tokens, ms] = [0, 0];
    for (const task of tasks) {
      logits[task] = [];
      exact[task] = 0;
      for (const { user, expected } of taskRows(task).slice(first ?? 0, (first ?? 0) + rows)) {
        const prompt = real.encodePrompt(user);
        const answer = real.encodeAnswer(expected + END_OF_TURN);
        const started = performance.now();
        const forced = await teacherForced(real, TASKS[task], prompt, answer);
        // The first row compiles shaders and opens sessions.
        if (logits[task].length > 0) {
          ms += performance.now() - started;
          tokens += prompt.length + answer.length - 1;
        }
        if (forced.every((row, at) => argmax(row) === answer[at])) exact[task] += 1;
        logits[task].push(...forced);
      }
      console.log(`${host} ${task}: ${exact[task]} of ${rows}`);
    }
    // A piece is asked for where steps take minutes.
    const decodeRate = first === null ? await decode(real) : NaN;
    return { logits, exact, promptRate: (tokens / ms) * 1_000, decodeRate };
  } finally {
    await real.runner.close();
  }
}

/** Tokens a second of one row of each task together. */
async function decode({ runner, delta }: RealRunner): Promise<number> {
  const tokens = NAMES.map((_, row) => 100 + row);
  for (const [slot, task] of NAMES.entries()) {
    runner.assign(slot, delta(TASKS[task]));
    await runner.prefill({ slot, tokens: [1, 2, 3, 4], past: 0, positions: [] });
  }
  await runner.decode({ tokens, lengths: tokens.map(() => 4) });
  const started = performance.now();
  let steps = 0;
  while (steps === 0 || performance.now() - started < DECODE_MS) {
    steps += 1;
    await runner.decode({ tokens, lengths: tokens.map(() => 4 + steps) });
  }
  return (tokens.length * steps * 1_000) / (performance.now() - started);
}

/** Largest difference of a likely token's log-probability, and the mean KL, nats. */
function compare(truth: Measured, measured: Measured): { worst: number; kl: number } {
  let [worst, sum, count] = [0, 0, 0];
  for (const task of NAMES)
    for (const [at, row] of (measured.logits[task] ?? []).entries()) {
      const wanted = truth.logits[task]![at]!;
      const expected = logProbabilities(wanted);
      logProbabilities(row).forEach((value, id) => {
        if (expected[id]! > LIKELY) worst = Math.max(worst, Math.abs(value - expected[id]!));
      });
      sum += divergence(wanted, row);
      count += 1;
    }
  return { worst, kl: sum / count };
}

/** As a table of Markdown. */
function plainTable(rows: readonly string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map(
    (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`,
  );
  return [lines[0], `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...lines.slice(1)].join(
    '\n',
  );
}
