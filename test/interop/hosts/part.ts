/** What each host does, wherever it is: Node, Deno, Bun or a page. Nothing here is any of theirs. */
import type { Precision } from '../../../gpu-origin/model/base-model.ts';
import type { OrtRunner } from '../../../gpu-origin/runtime/ort-runner.ts';

export interface Task {
  name: string;
  /** Names of adapters, root first. */
  chain: readonly string[];
  rows: readonly { prompt: readonly number[]; answer: readonly number[] }[];
}

export interface Work {
  /** By name, sha256 of the file. */
  adapters: Readonly<Record<string, string>>;
  tasks: readonly Task[];
  /** How long rows of all tasks decode together, after one step; null = not at all. */
  decodeMs: number | null;
}

/** Where work comes from, and what becomes of it. */
export interface Desk {
  work: Work;
  file(adapter: string): Promise<Uint8Array<ArrayBuffer>>;
  /** @param logits `[tokens of the answer, vocab]`, behind each token of it. */
  hand(task: number, row: number, logits: Float32Array<ArrayBuffer>): Promise<void>;
}

/** Tokens a second; NaN where there was no time to measure them. */
export interface Rates {
  prompt: number;
  decode: number;
}

/** What the page says first; it is answered with what ran it, or with what went wrong. */
export interface PageStart {
  /** Ends with a slash. */
  address: string;
  device: 'wasm' | 'webgpu';
  /** `f16`: or not at all. */
  precision: Precision;
  threads: number;
}

/** Rows of all tasks at once, and one beside them for none. */
export const rowsOf = ({ tasks }: Work): number => tasks.length;

/** Every answer is forced, so that one difference does not make all that follow differ. */
export async function takePart(runner: OrtRunner, desk: Desk): Promise<Rates> {
  const { adapters, tasks, decodeMs } = desk.work;
  const loaded = new Map<string, Awaited<ReturnType<OrtRunner['loadAdapter']>>>();
  for (const [name, digest] of Object.entries(adapters))
    loaded.set(name, await runner.loadAdapter(await desk.file(name), digest));
  const deltaOf = ({ chain }: Task) =>
    runner.compose(chain.map((name) => ({ adapter: loaded.get(name)!, scale: 1 })));
  let [tokens, ms] = [0, 0];
  for (const [at, task] of tasks.entries()) {
    const delta = deltaOf(task);
    for (const [row, { prompt, answer }] of task.rows.entries()) {
      const started = performance.now();
      const all = [...prompt, ...answer.slice(0, -1)];
      runner.assign(0, delta);
      const logits = await forced(runner, all, prompt.length - 1);
      runner.release(0);
      // The first row compiles shaders and opens sessions.
      if (row > 0) {
        ms += performance.now() - started;
        tokens += all.length;
      }
      await desk.hand(at, row, logits);
    }
  }
  const decode = decodeMs === null ? NaN : await decodeRate(runner, tasks.map(deltaOf), decodeMs);
  return { prompt: (tokens / ms) * 1_000, decode };
}

/** @returns logits from position `from` on. */
async function forced(
  runner: OrtRunner,
  tokens: readonly number[],
  from: number,
): Promise<Float32Array<ArrayBuffer>> {
  const all = new Float32Array((tokens.length - from) * runner.vocabSize);
  let filled = 0;
  for (let past = 0; past < tokens.length; past += runner.chunk) {
    const chunk = tokens.slice(past, past + runner.chunk);
    const positions = chunk.map((_, index) => index).filter((index) => past + index >= from);
    const logits = await runner.prefill({ slot: 0, tokens: chunk, past, positions });
    all.set(logits, filled);
    filled += logits.length;
  }
  return all;
}

/** Of one row of each delta together. */
async function decodeRate(
  runner: OrtRunner,
  deltas: readonly ReturnType<OrtRunner['compose']>[],
  atLeastMs: number,
): Promise<number> {
  const tokens = deltas.map((_, row) => 100 + row);
  for (const [slot, delta] of deltas.entries()) {
    runner.assign(slot, delta);
    await runner.prefill({ slot, tokens: [1, 2, 3, 4], past: 0, positions: [] });
  }
  // Prepares kernels.
  await runner.decode({ tokens, lengths: tokens.map(() => 4) });
  const started = performance.now();
  let steps = 0;
  while (steps === 0 || performance.now() - started < atLeastMs) {
    steps += 1;
    await runner.decode({ tokens, lengths: tokens.map(() => 4 + steps) });
  }
  return (tokens.length * steps * 1_000) / (performance.now() - started);
}

/** A desk at an address, for hosts that are another process or a page. */
export async function deskAt(address: string): Promise<Desk> {
  const get = async (path: string): Promise<Response> => {
    const response = await fetch(new URL(path, address));
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return response;
  };
  return {
    work: (await (await get('work')).json()) as Work,
    file: async (adapter) => new Uint8Array(await (await get(`adapters/${adapter}`)).arrayBuffer()),
    hand: async (task, row, logits) => {
      await fetch(new URL(`rows/${task}/${row}`, address), { method: 'POST', body: logits });
    },
  };
}

export const sendRates = async (address: string, rates: Rates): Promise<void> => {
  await fetch(new URL('rates', address), {
    method: 'POST',
    body: Float64Array.of(rates.prompt, rates.decode),
  });
};
