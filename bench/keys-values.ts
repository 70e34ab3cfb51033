/** `npm run bench -- keys-values`: int8 keys and values beside float32 ones, in one process, by turns. */
import os from 'node:os';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { createOutput } from '../cli/output.ts';
import { GraphBuilder, MICROSOFT } from '../gpu-origin/model/onnx-proto.ts';
import { INT8_ATTENTION } from '../gpu-origin/model/llama-graph.ts';
import { createRunner } from '../gpu-origin/runtime/create-runner.ts';
import type { Binding, Device, DeviceTensor } from '../gpu-origin/runtime/device.ts';
import { KV_FORMATS, type KvFormat } from '../gpu-origin/runtime/kv-cache.ts';
import { NativeDevice, ortLibrary } from '../gpu-origin/runtime/native/native-device.ts';
import type { OrtRunner } from '../gpu-origin/runtime/ort-runner.ts';
import { describeMachine } from './machine.ts';

const USAGE = `npm run bench -- keys-values [flags]
  Times int8 and float32 keys and values by turns: attention of a decode step in all layers, decode steps, and chunks of
  prompts; the best and the middle of several runs.
  --base PATH     base model (default: the pinned one, from the cache)
  --runs N        runs of each (default 20)
  --threads N     default: all cores`;

/** Heads of SmolLM2-135M. */
const HEADS = { layers: 30, heads: 9, kvHeads: 3, headDim: 64 };
const ROWS = 16;
const CONTEXT = 4_352;

interface Timing {
  what: string;
  times: Record<KvFormat, number[]>;
}

/** @throws Error that names the flag, or what is missing. */
export async function benchKeysValues(argv: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      base: { type: 'string' },
      runs: { type: 'string', default: '20' },
      threads: { type: 'string', default: String(os.availableParallelism()) },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const [runs, threads] = [Number(values.runs), Number(values.threads)];
  if (!Number.isInteger(runs) || runs < 1) throw new Error('--runs: not a whole number from 1');
  if (!Number.isInteger(threads) || threads < 1) throw new Error('--threads: not a whole number from 1');
  const output = createOutput({ json: false });
  const base = await findBase({
    base: values.base,
    cache: cacheFolder(process.env),
    env: process.env,
    output,
  });
  const timings: Timing[] = [];
  for (const past of [100, 1_000]) timings.push(await timeAttention(past, runs, threads));
  timings.push(...(await timeRunners(base, runs, threads)));
  const machine = await describeMachine();
  console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`);
  const table = new Table({ head: ['', 'float32, ms', 'int8, ms', 'int8 to float32'] });
  const rows = timings.map(({ what, times }) => {
    const of = (format: KvFormat): { best: number; middle: number } => {
      const sorted = [...times[format]].sort((a, b) => a - b);
      return { best: sorted[0]!, middle: sorted[sorted.length >> 1]! };
    };
    return { what, float32: of('f32'), int8: of('int8') };
  });
  for (const { what, float32, int8 } of rows) {
    const both = ({ best, middle }: typeof int8): string => `${best.toFixed(2)} (${middle.toFixed(2)})`;
    const ratios = `${(int8.best / float32.best).toFixed(2)} (${(int8.middle / float32.middle).toFixed(2)})`;
    table.push([what, both(float32), both(int8), ratios]);
  }
  console.log(`best of ${runs} (middle one)`);
  console.log(table.toString());
  console.log(JSON.stringify({ date: new Date().toISOString(), machine, runs, threads, rows }));
}

/** One after the other, so that others on the machine slow both down. */
async function byTurns(
  what: string,
  runs: number,
  run: (format: KvFormat, index: number) => Promise<unknown>,
): Promise<Timing> {
  const times: Timing['times'] = { int8: [], f32: [] };
  for (const format of KV_FORMATS) await run(format, 0);
  for (let index = 1; index <= runs; index++)
    for (const format of KV_FORMATS) {
      const startedAt = performance.now();
      await run(format, index);
      times[format].push(performance.now() - startedAt);
    }
  return { what, times };
}

/** Attention alone, each layer over memory of its own: keys and values come from memory, not from caches. */
async function timeAttention(past: number, runs: number, threads: number): Promise<Timing> {
  const device = new NativeDevice(ortLibrary(), threads);
  const bindings: Partial<Record<KvFormat, Binding>> = {};
  for (const format of KV_FORMATS) bindings[format] = await attentionStep(device, format, past);
  return byTurns(`attention, ${ROWS} rows of ${past} tokens, ${HEADS.layers} layers`, runs, (format) =>
    bindings[format]!.run(),
  );
}

async function attentionStep(device: Device, format: KvFormat, past: number): Promise<Binding> {
  const { layers, heads, kvHeads, headDim } = HEADS;
  const g = new GraphBuilder();
  const type = format === 'int8' ? 'i8' : 'f32';
  const capacity = past + 8;
  const cache = [ROWS, kvHeads, capacity, headDim];
  const width = (heads + 2 * kvHeads) * headDim;
  g.input('qkv', 'f32', ['B', 1, width]);
  g.input('last_position', 'i32', ['B']);
  g.input('total_length', 'i32', [1]);
  const steps = new Float32Array(kvHeads * headDim).fill(0.03);
  for (let layer = 0; layer < layers; layer++) {
    for (const kind of ['k', 'v']) {
      g.input(`past.${layer}.${kind}`, type, cache);
      g.output(`present.${layer}.${kind}`, type, cache);
    }
    const scales = (): string[] => {
      g.constant('step', 'f32', [kvHeads, 1, headDim], steps);
      return ['', '', '', '', '', 'step', 'step'];
    };
    g.node(
      'GroupQueryAttention',
      [
        ...['qkv', '', '', `past.${layer}.k`, `past.${layer}.v`, 'last_position', 'total_length'],
        ...(format === 'int8' ? scales() : []),
      ],
      [`y.${layer}`, `present.${layer}.k`, `present.${layer}.v`],
      { num_heads: heads, kv_num_heads: kvHeads, ...(format === 'int8' ? INT8_ATTENTION : {}) },
      MICROSOFT,
    );
    g.output(`y.${layer}`, 'f32', ['B', 1, heads * headDim]);
  }
  const session = await device.session(g.build('attention'), null);
  const binding = session.bind();
  const tensor = async (of: 'f32' | 'i8' | 'i32', dims: number[], fill: number): Promise<DeviceTensor> => {
    const count = dims.reduce((product, size) => product * size, 1);
    const values =
      of === 'f32'
        ? Float32Array.from({ length: count }, (_, at) => Math.sin(at))
        : of === 'i8'
          ? Int8Array.from({ length: count }, (_, at) => Math.round(33 * Math.sin(at)))
          : new Int32Array(count).fill(fill);
    const memory = await device.host(values.byteLength);
    memory.write(0, values);
    return device.tensor(of, memory, 0, dims);
  };
  binding.input('qkv', await tensor('f32', [ROWS, 1, width], 0));
  binding.input('last_position', await tensor('i32', [ROWS], past));
  binding.input('total_length', await tensor('i32', [1], past + 1));
  for (let layer = 0; layer < layers; layer++) {
    binding.output(`y.${layer}`, await tensor('f32', [ROWS, 1, heads * headDim], 0));
    for (const kind of ['k', 'v']) {
      const kept = await tensor(type, cache, 0);
      binding.input(`past.${layer}.${kind}`, kept);
      binding.output(`present.${layer}.${kind}`, kept);
    }
  }
  return binding;
}

/** Whole steps of the base: int8 weights, all rows of one length. */
async function timeRunners(basePath: string, runs: number, threads: number): Promise<Timing[]> {
  const opened: Partial<Record<KvFormat, OrtRunner>> = {};
  try {
    for (const kv of KV_FORMATS) {
      const { runner } = await createRunner({
        ...{ basePath, weights: 'int8', provider: 'cpu', kv, threads, slots: ROWS, context: CONTEXT },
        ...{ cacheDir: cacheFolder(process.env), onProgress: () => {}, onNotice: console.log },
        // Groups would be chosen by the clock.
        laneChoice: { takesLanes: () => false, took: () => {} },
      });
      opened[kv] = runner;
    }
    const timings: Timing[] = [];
    const tokens = (length: number): number[] =>
      Array.from({ length }, (_, at) => (1_009 + at * 7_919) % opened.f32!.vocabSize);
    // A chunk is read again and again behind the same tokens; before it, both formats read these.
    for (const { past, length } of [
      { past: 0, length: 60 },
      { past: 0, length: 128 },
      { past: 1_024, length: 128 },
      { past: 3_968, length: 128 },
    ]) {
      for (const format of KV_FORMATS) await readTo(opened[format]!, past, tokens(past));
      const what = `a chunk of ${length} tokens, behind ${past}`;
      timings.push(
        await byTurns(what, runs, (format) =>
          opened[format]!.prefill({ slot: 0, tokens: tokens(length), past, positions: [length - 1] }),
        ),
      );
    }
    for (const length of [60, 1_000]) {
      for (const format of KV_FORMATS)
        for (let slot = 0; slot < ROWS; slot++) await readTo(opened[format]!, length, tokens(length), slot);
      const ids = tokens(ROWS);
      timings.push(
        await byTurns(`a decode step, ${ROWS} rows of ${length} tokens`, runs, (format, index) =>
          opened[format]!.decode({ tokens: ids, lengths: ids.map(() => length + index) }),
        ),
      );
    }
    return timings;
  } finally {
    for (const runner of Object.values(opened)) await runner.close();
  }
}

async function readTo(runner: OrtRunner, length: number, tokens: readonly number[], slot = 0): Promise<void> {
  runner.assign(slot, null);
  for (let past = 0; past < length; past += runner.chunk) {
    const chunk = tokens.slice(past, Math.min(past + runner.chunk, length));
    await runner.prefill({ slot, tokens: chunk, past, positions: [] });
  }
}
