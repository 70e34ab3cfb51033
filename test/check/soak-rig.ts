/** Engine and int8 runner on the real base, without HTTP, with example and random adapters in memory. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { packAdapter } from '../../adapters/index.ts';
import {
  ALL_LINEARS,
  type ModuleName,
  QV,
  writeRandomAdapter,
} from '../../bench/adapters/write-random-adapter.ts';
import { cacheFolder, ensurePinnedBase } from '../../cli/local/find-base.ts';
import { createOutput } from '../../cli/output.ts';
import {
  Engine,
  type EngineEvent,
  type EngineHandle,
  type EngineRequest,
} from '../../gpu-origin/engine/engine.ts';
import type { AdapterSource } from '../../gpu-origin/engine/ports.ts';
import { createChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../gpu-origin/model/load-tokenizer.ts';
import { createRunner } from '../../gpu-origin/runtime/create-runner.ts';
import { EXAMPLES, exampleFiles } from './real-base.ts';
import { RecordingRunner } from './recording-runner.ts';

/** Ranks and linears of the random adapters: 1 to 20 MB in memory. */
const RANDOM_ADAPTERS: readonly { rank: number; modules: readonly ModuleName[] }[] = [
  { rank: 1, modules: ALL_LINEARS },
  { rank: 4, modules: QV },
  { rank: 8, modules: QV },
  { rank: 8, modules: QV },
  { rank: 8, modules: ['o_proj', 'down_proj'] },
  { rank: 16, modules: QV },
  { rank: 16, modules: ALL_LINEARS },
  { rank: 16, modules: ['gate_proj', 'up_proj'] },
  { rank: 24, modules: ['k_proj'] },
  { rank: 32, modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] },
  { rank: 64, modules: QV },
  ...Array.from({ length: 32 }, () => ({ rank: 8, modules: QV })),
];

export interface Counts {
  evictions: number;
  loads: number;
  /** Decode steps by how many rows each had. */
  steps: Map<number, number>;
  faults: string[];
}

export interface SoakRig {
  engine: Engine;
  runner: RecordingRunner;
  counts: Counts;
  /** Digests by name of the example. */
  example: ReadonlyMap<string, string>;
  /** Digests of the random adapters. */
  random: readonly string[];
  /** A user turn as prompt. */
  encode(user: string): number[];
  close(): Promise<void>;
}

/** @param adapterBudgetBytes memory for adapters. @param random for requests without a seed. */
export async function makeSoakRig(params: {
  slots: number;
  adapterBudgetBytes: number;
  random: () => number;
}): Promise<SoakRig> {
  const cache = cacheFolder(process.env);
  const basePath = await ensurePinnedBase({ cache, output: createOutput({ json: false }) });
  const { runner: inner, tokenizerSource } = await createRunner({
    basePath,
    weights: 'int8',
    slots: params.slots,
    context: 2_048,
    // Few chunks, so that they make room for each other.
    prefixBytes: 64 * 2 ** 20,
    cacheDir: cache,
    onProgress: () => {},
    onNotice: (message) => {
      throw new Error(message);
    },
  });
  const runner = new RecordingRunner(inner);
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  const add = async (peft: ReturnType<typeof exampleFiles>): Promise<string> => {
    const packed = await packAdapter({ files: peft, baseId: runner.base.id, parentChainId: null });
    files.set(packed.digest, packed.bytes);
    return packed.digest;
  };
  const example = new Map<string, string>();
  for (const name of EXAMPLES) example.set(name, await add(exampleFiles(name)));
  const random: string[] = [];
  const folder = await mkdtemp(path.join(os.tmpdir(), 'graft-soak-'));
  for (const [seed, { rank, modules }] of RANDOM_ADAPTERS.entries()) {
    await writeRandomAdapter({ folder, seed, rank, modules });
    random.push(
      await add({
        configJson: await readFile(path.join(folder, 'adapter_config.json'), 'utf8'),
        weights: new Uint8Array(await readFile(path.join(folder, 'adapter_model.safetensors'))),
      }),
    );
  }
  await rm(folder, { recursive: true });

  const source: AdapterSource = {
    status: async (digest) => (files.has(digest) ? 'held' : 'missing'),
    read: async (digest) => files.get(digest) ?? null,
  };
  const tokenizer = loadTokenizer(tokenizerSource);
  const template = createChatTemplate(tokenizer)!;
  const counts: Counts = { evictions: 0, loads: 0, steps: new Map(), faults: [] };
  const engine = new Engine({
    runner,
    source,
    tokens: {
      bytes: (id) => tokenizer.tokenBytes(id) ?? new Uint8Array(0),
      isSpecial: (id) => tokenizer.isSpecial(id),
    },
    eosTokenIds: tokenizer.eosIds,
    clock: {
      now: () => performance.now(),
      timer(ms, callback) {
        const timer = setTimeout(callback, ms);
        return () => clearTimeout(timer);
      },
      yield: () => new Promise((resolve) => setImmediate(resolve)),
    },
    random: params.random,
    observer: {
      onAdapterEvict: () => (counts.evictions += 1),
      onAdapterLoad: () => (counts.loads += 1),
      onStep({ kind, batch }) {
        if (kind === 'decode') counts.steps.set(batch, (counts.steps.get(batch) ?? 0) + 1);
      },
      onFault: ({ where, error }) => counts.faults.push(`${where}: ${String(error)}`),
    },
    maxQueue: 1_000,
    adapterBudgetBytes: params.adapterBudgetBytes,
  });
  return {
    engine,
    runner,
    counts,
    example,
    random,
    encode: (user) => template.encode([{ role: 'user', content: user }]),
    async close() {
      await engine.close();
      await runner.close();
    },
  };
}

/** @param abortAfter events to read before the request is aborted; Infinity = never. */
export async function generate(
  engine: Engine,
  request: EngineRequest,
  abortAfter = Infinity,
): Promise<EngineEvent[]> {
  const added = await engine.add(request);
  if (!added.ok) throw new Error(`${added.error.code}: ${added.error.message}`);
  const handle: EngineHandle = added.value;
  const events: EngineEvent[] = [];
  if (abortAfter === 0) handle.abort();
  for await (const event of handle.events) {
    events.push(event);
    if (events.length === abortAfter) handle.abort();
  }
  return events;
}
