/**
 * What the adapter toolkit costs on adapters of about 20 MB: `node --import tsx bench/adapter-toolkit.ts [--rounds N]`.
 * Prints the machine, tables and one JSON line.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import Table from 'cli-table3';
import {
  checkValues,
  describeAdapter,
  diffAdapters,
  packAdapter,
  parseCanonical,
  readAdapter,
  sumAdapters,
  truncateAdapter,
  writeGgufAdapter,
  writePeftAdapter,
  type AdapterFiles,
} from '../adapters/index.ts';
import { sha256Hex } from '../protocol/identity.ts';
import { writeFilesToPack, type FileToPack } from './adapters/write-files-to-pack.ts';
import { ALL_LINEARS, SMOLLM2_135M, writeRandomAdapter } from './adapters/write-random-adapter.ts';
import { describeMachine } from './machine.ts';

const BASE_ID = 'smollm2-135m-instruct';
const ATTENTION = { heads: 9, kvHeads: 3 };
const MB = 1e6;
const WEIGHTS = 'adapter_model.safetensors';
/** Processes that pack each file; the garbage of one run is not another's. */
const PACK_RUNS = 9;

/** Read in one piece: the asynchronous `readFile` joins pieces and needs twice the memory. Not a copy of the buffer. */
function load(file: string): Uint8Array<ArrayBuffer> {
  const { buffer, byteOffset, byteLength } = readFileSync(file);
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
}

/** The least that anybody must do with a file whose digest is checked. */
async function digestOnly(file: string): Promise<void> {
  await sha256Hex(load(file));
}

/** Everything that is checked before an adapter is published: bytes, header, digest, every value. */
async function check(file: string): Promise<void> {
  const bytes = load(file);
  const adapter = parseCanonical(bytes);
  await sha256Hex(bytes);
  const [problem] = checkValues(adapter);
  if (problem) throw problem;
}

type Dtype = 'keep' | 'BF16';

async function pack(file: string, dtype: Dtype): Promise<void> {
  const files = await filesAround(file);
  await packAdapter({ files, attention: ATTENTION, baseId: BASE_ID, parentChainId: null, dtype });
}

type Task = 'times' | 'check' | 'pack' | 'pack-bf16';

/** @returns a weights file and the configuration beside it, if there is one. */
async function filesAround(file: string): Promise<AdapterFiles> {
  const config = path.join(path.dirname(file), 'adapter_config.json');
  return { weights: load(file), configJson: await readFile(config, 'utf8').catch(() => null) };
}

const milliseconds = async (action: () => unknown): Promise<number> => {
  const start = performance.now();
  await action();
  return performance.now() - start;
};

/** The actions take turns, so that a slow moment of the machine does not fall on one alone. @returns best times, ms. */
async function bestTimes(actions: readonly (() => unknown)[], rounds: number): Promise<number[]> {
  const best = actions.map(() => Infinity);
  for (let round = 0; round < rounds; round++)
    for (const [i, action] of actions.entries()) best[i] = Math.min(best[i]!, await milliseconds(action));
  return best;
}

/** Runs a task in a process of its own, which nothing else has warmed or filled. @returns the numbers it prints. */
async function inChild(task: Task, file: string, rounds = 1): Promise<number[]> {
  const self = fileURLToPath(import.meta.url);
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...['--import', 'tsx', self, '--rounds', String(rounds)],
    ...['--task', task, '--file', file],
  ]);
  return JSON.parse(stdout) as number[];
}

/** Largest resident set so far, bytes. `getrusage` would count the parent's from before this program was loaded. */
const peakBytes = (): number =>
  Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;

/** Prints the best times, ms, or how far the resident set rose above what it was before, bytes. */
async function runChild(task: Task, file: string, rounds: number): Promise<void> {
  const before = process.memoryUsage().rss;
  if (task === 'times')
    console.log(JSON.stringify(await bestTimes([() => digestOnly(file), () => check(file)], rounds)));
  else {
    await (task === 'check' ? check(file) : pack(file, task === 'pack-bf16' ? 'BF16' : 'keep'));
    console.log(JSON.stringify([peakBytes() - before]));
  }
}

async function makeFiles(work: string) {
  const peft = async (name: string, rank: number, seed: number): Promise<AdapterFiles> => {
    const folder = path.join(work, name);
    await writeRandomAdapter({ folder, shape: SMOLLM2_135M, rank, modules: ALL_LINEARS, seed });
    return filesAround(path.join(folder, WEIGHTS));
  };
  const canonical = async (name: string, files: AdapterFiles, dtype: Dtype): Promise<string> => {
    const packed = await packAdapter({ files, baseId: BASE_ID, parentChainId: null, dtype });
    await writeFile(path.join(work, name), packed.bytes);
    return path.join(work, name);
  };
  const f32 = await peft('f32', 16, 1);
  await peft('large', 64, 5);
  return {
    peft: f32,
    others: [await peft('second', 16, 2), await peft('third', 16, 3)],
    toPack: [
      ...(await writeFilesToPack({
        work,
        peft: f32,
        peftPath: path.join(work, 'f32', WEIGHTS),
        attention: ATTENTION,
      })),
      { name: 'PEFT F32, rank 64', file: path.join(work, 'large', WEIGHTS), bf16: false },
    ],
    f32: await canonical('f32.safetensors', f32, 'keep'),
    bf16: await canonical('bf16.safetensors', await peft('wide', 32, 4), 'BF16'),
  };
}

async function measurePacking(files: readonly FileToPack[]) {
  const rows = [];
  for (const { name, file, bf16 } of files) {
    const task = bf16 ? 'pack-bf16' : 'pack';
    const peaks: number[] = [];
    for (let run = 0; run < PACK_RUNS; run++) peaks.push((await inChild(task, file))[0]!);
    peaks.sort((a, b) => a - b);
    // What comes out is never larger than what goes in, but for some bytes of the header.
    rows.push({ name, bytes: load(file).byteLength, median: peaks[PACK_RUNS >> 1]!, worst: peaks.at(-1)! });
  }
  return rows;
}

async function measureChecks(files: readonly string[], rounds: number) {
  const rows = [];
  for (const file of files) {
    const bytes = load(file).byteLength;
    const [least, checked] = await inChild('times', file, rounds);
    const [peak] = await inChild('check', file);
    rows.push({
      name: path.basename(file),
      bytes,
      least: least!,
      checked: checked!,
      ratio: checked! / least!,
      peak: peak!,
    });
  }
  return rows;
}

async function measureOperations(files: Awaited<ReturnType<typeof makeFiles>>, rounds: number) {
  const options = { attention: ATTENTION };
  const [first, second, third] = [files.peft, ...files.others].map((each) => readAdapter(each));
  const members = [first!, second!, third!].map(({ modules }) => ({ modules, scale: 1 }));
  const sum = sumAdapters(members);
  const canonical = load(files.f32);
  const gguf = writeGgufAdapter({ modules: first!.modules, baseModel: null, ...options });
  const target = { baseId: BASE_ID, parentChainId: null };
  const actions: Record<string, () => unknown> = {
    'pack PEFT': () => packAdapter({ files: files.peft, ...target }),
    'pack PEFT as BF16': () => packAdapter({ files: files.peft, ...target, dtype: 'BF16' }),
    'pack GGUF': () => packAdapter({ files: { weights: gguf, configJson: null }, ...options, ...target }),
    'write PEFT': () => writePeftAdapter({ modules: first!.modules, baseModel: null }),
    'write GGUF': () => writeGgufAdapter({ modules: first!.modules, baseModel: null, ...options }),
    'sum of 3': () => sumAdapters(members),
    'truncate rank 48 to 16': () => truncateAdapter(sum, 16),
    diff: () => diffAdapters(first!.modules, second!.modules),
    describe: () =>
      describeAdapter({
        read: readAdapter({ weights: canonical, configJson: null }),
        bytes: canonical.byteLength,
      }),
  };
  const best = await bestTimes(Object.values(actions), rounds);
  return Object.keys(actions).map((name, i) => ({ name, ms: best[i]! }));
}

async function main(rounds: number): Promise<void> {
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-toolkit-'));
  try {
    const files = await makeFiles(work);
    const checks = await measureChecks([files.f32, files.bf16], rounds);
    const packing = await measurePacking(files.toPack);
    const operations = await measureOperations(files, Math.min(rounds, 5));
    const machine = await describeMachine();

    const style = { head: [], border: [] };
    const ofFile = new Table({
      head: [
        'canonical file',
        'MB',
        'read + sha256 ms',
        'read + parse + sha256 + values ms',
        'ratio',
        'peak memory / file',
      ],
      style,
    });
    for (const row of checks)
      ofFile.push([
        row.name,
        (row.bytes / MB).toFixed(1),
        row.least.toFixed(1),
        row.checked.toFixed(1),
        row.ratio.toFixed(2),
        (row.peak / row.bytes).toFixed(2),
      ]);
    const ofOperation = new Table({ head: ['rank 16, all linears', 'ms'], style });
    for (const { name, ms } of operations) ofOperation.push([name, ms.toFixed(0)]);
    console.log(
      `${machine.cpu}, ${machine.cores} cores, node ${machine.versions.node}; best of ${rounds} (tables below: 5)`,
    );
    console.log(ofFile.toString());
    const ofPacking = new Table({ head: ['packing', 'MB', 'peak memory / file', 'worst'], style });
    for (const { name, bytes, median, worst } of packing)
      ofPacking.push([
        name,
        (bytes / MB).toFixed(1),
        (median / bytes).toFixed(2),
        (worst / bytes).toFixed(2),
      ]);
    console.log(ofPacking.toString());
    console.log(ofOperation.toString());
    console.log(JSON.stringify({ date: new Date().toISOString(), machine, checks, packing, operations }));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '15' }, task: { type: 'string' }, file: { type: 'string' } },
});
if (values.task !== undefined && values.file !== undefined)
  await runChild(values.task as Task, values.file, Number(values.rounds));
else await main(Number(values.rounds));
