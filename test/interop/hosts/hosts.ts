/**
 * `npm run interop -- hosts [rows[@first]] [host …] [task …] [gpu]`: the example adapters on the real base wherever it
 * runs; WebGPU on SwiftShader, or with `gpu` on the GPU. README.md says how Deno and Bun are got.
 */
import { packAdapter } from '../../../adapters/index.ts';
import { cacheFolder, ensurePinnedBase } from '../../../cli/local/find-base.ts';
import { createOutput } from '../../../cli/output.ts';
import { createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadBase } from '../../../gpu-origin/model/load-base.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { createRunner } from '../../../gpu-origin/runtime/create-runner.ts';
import type { Precision } from '../../../gpu-origin/model/base-model.ts';
import type { Provider } from '../../../gpu-origin/runtime/device.ts';
import { exampleFiles, taskRows } from '../../check/real-base.ts';
import { useSoftwareVulkan } from '../../fixtures/software-vulkan.ts';
import { argmax, divergence, logProbabilities, ON_SWIFTSHADER } from '../../fixtures/tiny-runner.ts';
import { findPeers } from '../peers.ts';
import { runElsewhere, runInPage } from './elsewhere.ts';
import { type Desk, type Rates, rowsOf, takePart, type Task, type Work } from './part.ts';

const ROWS = 8;
const TASKS = {
  medicine: ['medicine'],
  cardiology: ['medicine', 'cardiology'],
  'dr-lee': ['medicine', 'cardiology', 'dr-lee'],
  intent: ['intent-v2'],
} as const;
type TaskName = keyof typeof TASKS;
const NAMES = Object.keys(TASKS) as TaskName[];
/** Rows of a task, from the first or another one on: a slow device is asked piece by piece. */
const COUNT = /^\d+(@\d+)?$/;
const END_OF_TURN = '<|im_end|>';
/** Nats: of 50,000 tokens together, what is below has a chance of one in 10,000. */
const LIKELY = -20;
const DECODE_MS = 3_000;
/** What a GPU that the processor draws is asked for unless the tasks are named: a token of a prompt takes it a second and more. */
const SLOW_TASKS: readonly TaskName[] = ['intent'];

/** What others are compared with comes first. */
const HOSTS = {
  'cpu:f32': { where: 'node', provider: 'cpu', weights: 'f32' },
  'cpu:int8': { where: 'node', provider: 'cpu', weights: 'int8' },
  'web:f32': { where: 'node', provider: 'web', weights: 'f32' },
  'web:int8': { where: 'node', provider: 'web', weights: 'int8' },
  'deno:int8': { where: 'deno', provider: 'web', weights: 'int8' },
  'bun:int8': { where: 'bun', provider: 'web', weights: 'int8' },
  'chromium:wasm': { where: 'page', provider: 'web', weights: 'int8' },
  'webgpu:f32': { where: 'node', provider: 'webgpu', weights: 'f32' },
  'webgpu:int8': { where: 'node', provider: 'webgpu', weights: 'int8' },
  'webgpu:int8:f16': { where: 'node', provider: 'webgpu', weights: 'int8', precision: 'f16' },
  'chromium:webgpu': { where: 'page', provider: 'webgpu', weights: 'int8' },
  'chromium:webgpu:f16': { where: 'page', provider: 'webgpu', weights: 'int8', precision: 'f16' },
} as const satisfies Record<string, Where>;
type Host = keyof typeof HOSTS;
interface Where {
  where: 'node' | 'deno' | 'bun' | 'page';
  provider: Provider;
  weights: 'f32' | 'int8';
  /** float32 unless given. */
  precision?: Precision;
}

interface Measured extends Rates {
  /** By task and row and token, logits behind each token of each answer. */
  logits: Map<string, Float32Array>;
  /** By task, answers that are the likeliest token by token, and how many were asked for. */
  exact: Map<string, { right: number; rows: number }>;
}

/** @returns the exit code: 1 when a score is another one than that of float32 on the processor. */
export async function runHosts(args: readonly string[]): Promise<number> {
  const hosts = Object.keys(HOSTS) as Host[];
  const [count, from] = (args.find((arg) => COUNT.test(arg)) ?? `${ROWS}`).split('@').map(Number);
  for (const arg of args)
    if (!COUNT.test(arg) && ![...hosts, ...NAMES, 'gpu'].includes(arg))
      throw new Error(`${arg}: a number of rows, ${[...hosts, ...NAMES].join(', ')} or gpu`);
  const named = hosts.filter((host) => args.includes(host));
  const tasks = NAMES.filter((task) => args.includes(task));
  const chosen = hosts.filter((host, at) => at === 0 || named.length === 0 || named.includes(host));
  const onGpu = args.includes('gpu');
  const noGpu = onGpu ? null : useSoftwareVulkan();
  const peers = findPeers(process.env);
  const cache = cacheFolder(process.env);
  const basePath = await ensurePinnedBase({ cache, output: createOutput({ json: false }) });
  const { adapters, encode, baseId } = await prepare(basePath);
  const first = from ?? 0;
  const work = (names: readonly TaskName[], rows: number, decodeMs: number): Work => ({
    adapters: Object.fromEntries([...adapters].map(([name, { digest }]) => [name, digest])),
    tasks: names.map((name) => ({
      ...{ name, chain: TASKS[name] },
      rows: taskRows(name)
        .slice(first, first + rows)
        .map(({ user, expected }) => encode(user, expected)),
    })),
    // A piece is asked for where steps take minutes.
    decodeMs: from === undefined ? decodeMs : null,
  });
  const table = [['host', ...NAMES, 'worst difference', 'KL', 'prompt tok/s', 'decode tok/s']];
  let truth: Measured | null = null;
  let same = true;
  for (const host of chosen) {
    const { where, provider, weights, precision = 'f32' }: Where = HOSTS[host];
    const slow = provider === 'webgpu' && !onGpu;
    const asked =
      slow && tasks.length === 0
        ? work(SLOW_TASKS, 1, 0)
        : work(tasks.length === 0 ? NAMES : tasks, count ?? ROWS, DECODE_MS);
    const file = async (name: string): Promise<Uint8Array<ArrayBuffer>> => adapters.get(name)!.bytes;
    const { desk, measured } = measuring(host, asked, file);
    const missing =
      slow && where === 'node'
        ? noGpu
        : where === 'deno' || where === 'bun'
          ? absent(where, peers[where])
          : null;
    if (missing !== null) {
      console.log(`skipped: ${host}, for want of ${missing}`);
      continue;
    }
    const child = ['test/interop/hosts/child.ts'];
    const told = [basePath, cache, provider, weights];
    const run = (): Promise<Rates> =>
      where === 'page'
        ? runInPage(desk, {
            basePath,
            baseId,
            cache,
            device: provider === 'webgpu' ? 'webgpu' : 'wasm',
            precision,
            software: slow,
          })
        : where === 'deno'
          ? runElsewhere(desk, [peers.deno!, 'run', '-A', '--node-modules-dir=manual', ...child], told)
          : where === 'bun'
            ? runElsewhere(desk, [peers.bun!, ...child], told)
            : runHere(desk, { basePath, cache, provider, weights, precision });
    const rates = await run().catch((error: unknown) => {
      if (precision !== 'f16' || !/float16/.test(String(error))) throw error;
      console.log(`skipped: ${host}, for want of float16 (${String(error)})`);
      return null;
    });
    if (rates === null) continue;
    Object.assign(measured, rates);
    truth ??= measured;
    const { worst, kl } = compare(truth, measured);
    for (const [task, { right }] of measured.exact) same &&= slow || right === truth.exact.get(task)?.right;
    table.push([
      host,
      ...NAMES.map((task) => {
        const score = measured.exact.get(task);
        return score === undefined ? '' : `${score.right} of ${score.rows}`;
      }),
      ...[worst.toExponential(1), kl.toExponential(1)],
      ...[measured.prompt, measured.decode].map((rate) => (rate > 0 ? rate.toFixed(1) : '')),
    ]);
  }
  console.log(plainTable(table));
  return same ? 0 : 1;
}

const absent = (name: string, found: string | null): string | null =>
  found === null ? `${name} in PEERS (test/interop/README.md)` : null;

async function prepare(basePath: string) {
  const { base, tokenizerSource } = await loadBase(basePath, undefined);
  const baseId = base.id;
  base.close();
  const tokenizer = loadTokenizer(tokenizerSource);
  const template = createChatTemplate(tokenizer)!;
  const adapters = new Map<string, { digest: string; bytes: Uint8Array<ArrayBuffer> }>();
  for (const name of new Set(NAMES.flatMap((task) => TASKS[task])))
    adapters.set(name, await packAdapter({ files: exampleFiles(name), baseId, parentChainId: null }));
  const encode = (user: string, expected: string): Task['rows'][number] => ({
    prompt: template.encode([{ role: 'user', content: user }]),
    answer: tokenizer.encode(expected + END_OF_TURN, { allowSpecial: true }),
  });
  return { adapters, encode, baseId };
}

function measuring(host: Host, work: Work, file: Desk['file']): { desk: Desk; measured: Measured } {
  const measured: Measured = { logits: new Map(), exact: new Map(), prompt: NaN, decode: NaN };
  const hand: Desk['hand'] = async (at, row, logits) => {
    const { name, rows } = work.tasks[at]!;
    const { answer } = rows[row]!;
    const vocab = logits.length / answer.length;
    const behind = answer.map((_, index) => logits.subarray(index * vocab, (index + 1) * vocab));
    behind.forEach((one, index) => measured.logits.set(`${name} ${row} ${index}`, one));
    const right = behind.every((one, index) => argmax(one) === answer[index]);
    const score = measured.exact.get(name) ?? { right: 0, rows: rows.length };
    measured.exact.set(name, { ...score, right: score.right + (right ? 1 : 0) });
    if (row === rows.length - 1)
      console.log(`${host} ${name}: ${measured.exact.get(name)!.right} of ${rows.length}`);
  };
  return { desk: { work, file, hand }, measured };
}

async function runHere(
  desk: Desk,
  params: {
    basePath: string;
    cache: string;
    provider: Provider;
    weights: 'f32' | 'int8';
    precision: Precision;
  },
): Promise<Rates> {
  const { runner } = await createRunner({
    ...{ ...params, cacheDir: params.cache, slots: rowsOf(desk.work), context: 512 },
    onProgress: () => {},
    onNotice: (message) => {
      if (!ON_SWIFTSHADER.test(message)) console.log(message);
    },
  });
  try {
    return await takePart(runner, desk);
  } finally {
    await runner.close();
  }
}

/** Largest difference of a likely token's log-probability, and the mean KL, nats. */
function compare(truth: Measured, measured: Measured): { worst: number; kl: number } {
  let [worst, sum, count] = [0, 0, 0];
  for (const [key, row] of measured.logits) {
    const wanted = truth.logits.get(key)!;
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
