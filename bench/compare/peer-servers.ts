import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import { readAdapter, writeGgufAdapter } from '../../adapters/index.ts';
import { LOOPBACK, needFreePort } from '../../cli/local/ports.ts';
import type { Target } from '../load/target.ts';

export interface PeerServer {
  target: Target;
  stop(): Promise<void>;
}

/** Heads of the base (SmolLM2-135M), which decide the order of rows of q in llama.cpp's files. */
const ATTENTION = { heads: 9, kvHeads: 3 };
/** vLLM compiles its graphs at the first start: three minutes on two cores. */
const START_MS = 900_000;
const LAST_BYTES = 4_000;
/** Answers at once; both cores; each with a context for a chat of 2,000 tokens. */
const ROWS = 16;
const CONTEXT = 2_560;

/** @param peers what `bench/peers/setup.sh` filled. @throws Error that says to run it. */
export function findPeers(peers: string): {
  llamaServer: string;
  llamaBench: string;
  gguf: string;
  vllm: string;
  hf: string;
} {
  const found = {
    llamaServer: path.join(peers, 'llama/build/bin/llama-server'),
    llamaBench: path.join(peers, 'llama/build/bin/llama-bench'),
    gguf: path.join(peers, 'gguf/SmolLM2-135M-Instruct.Q4_1.gguf'),
    vllm: path.join(peers, 'vllm/bin/vllm'),
    hf: path.join(peers, 'hf'),
  };
  for (const file of Object.values(found))
    if (!existsSync(file)) throw new Error(`${file} is missing: run bench/peers/setup.sh`);
  return found;
}

/** llama.cpp's server in its own 4-bit format, the adapters beside the base in float16. @param folders PEFT adapters. */
export async function startLlama(params: {
  executable: string;
  base: string;
  label: string;
  folders: readonly string[];
  signal: AbortSignal;
}): Promise<PeerServer> {
  const port = await needFreePort({ port: 0, what: 'llama-server', flag: 'none' });
  const adapters: string[] = [];
  for (const folder of params.folders) {
    const read = readAdapter({
      weights: await readFile(path.join(folder, 'adapter_model.safetensors')),
      configJson: await readFile(path.join(folder, 'adapter_config.json'), 'utf8'),
    });
    const file = path.join(folder, 'adapter.gguf');
    const { modules } = read;
    await writeFile(file, writeGgufAdapter({ modules, attention: ATTENTION, baseModel: null, dtype: 'F16' }));
    adapters.push(file);
  }
  const args = [
    ...['-m', params.base, '-t', String(os.availableParallelism()), '-np', String(ROWS)],
    ...['-c', String(ROWS * CONTEXT), '--host', LOOPBACK, '--port', String(port), '--no-webui'],
    ...['--lora', adapters.join(','), '--lora-init-without-apply'],
  ];
  return startPeer({
    ...{ executable: params.executable, args, env: {}, signal: params.signal, ready: '/health' },
    target: { label: params.label, kind: 'llama', host: LOOPBACK, port, prefix: '', base: '' },
  });
}

/** vLLM's CPU build in float32, compiled, on all cores. @param names adapter i is `<prefix>i`. */
export async function startVllm(params: {
  executable: string;
  base: string;
  label: string;
  prefix: string;
  folders: readonly string[];
  rank: number;
  signal: AbortSignal;
}): Promise<PeerServer> {
  const port = await needFreePort({ port: 0, what: 'vllm', flag: 'none' });
  const { folders, prefix } = params;
  const args = [
    ...['serve', params.base, '--served-model-name', 'base', '--host', LOOPBACK, '--port', String(port)],
    ...['--max-model-len', String(CONTEXT), '--max-num-seqs', String(ROWS), '--dtype', 'float32'],
    ...['--enable-lora', '--max-loras', String(ROWS), '--max-cpu-loras', String(folders.length)],
    ...['--max-lora-rank', String(params.rank), '--lora-modules'],
    ...folders.map((folder, i) => `${prefix}${i}=${folder}`),
  ];
  const env = {
    HF_HUB_OFFLINE: '1',
    VLLM_CPU_KVCACHE_SPACE: '2',
    VLLM_CPU_OMP_THREADS_BIND: `0-${os.availableParallelism() - 1}`,
    VLLM_NO_USAGE_STATS: '1',
    DO_NOT_TRACK: '1',
    TOKENIZERS_PARALLELISM: 'false',
  };
  return startPeer({
    ...{ executable: params.executable, args, env, signal: params.signal, ready: '/v1/models' },
    target: { label: params.label, kind: 'openai', host: LOOPBACK, port, prefix, base: 'base' },
  });
}

/** @param params.ready a path that answers 200 when it serves. @throws Error with its last words when it ends before. */
export async function startPeer(params: {
  executable: string;
  args: readonly string[];
  env: Record<string, string>;
  ready: string;
  target: Target;
  signal: AbortSignal;
}): Promise<PeerServer> {
  const { executable, args, target, signal } = params;
  const child = spawn(executable, args, {
    env: { ...process.env, ...params.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // vLLM's engine is a process of its own: the group is ended together.
    detached: true,
  });
  let said = '';
  const keep = (text: Buffer) => (said = (said + text.toString()).slice(-LAST_BYTES));
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const kill = (how: NodeJS.Signals) => {
    try {
      process.kill(-(child.pid as number), how);
    } catch {
      // It has ended.
    }
  };
  const stop = async () => {
    kill('SIGTERM');
    await Promise.race([ended, sleep(10_000)]);
    kill('SIGKILL');
  };
  const deadline = Date.now() + START_MS;
  for (;;) {
    const answer = await fetch(`http://${target.host}:${target.port}${params.ready}`).catch(() => null);
    if (answer?.ok === true) return { target, stop };
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline || signal.aborted) {
      await stop();
      signal.throwIfAborted();
      throw new Error(`${target.label} did not start:\n${said}`);
    }
    await sleep(250);
  }
}

const LlamaBench = z.array(z.object({ n_prompt: z.number(), n_gen: z.number(), avg_ts: z.number() }));

/** @returns tokens a second of llama.cpp's own benchmark: one sequence, no server, all cores. */
export async function runLlamaBench(executable: string, base: string): Promise<number> {
  const threads = String(os.availableParallelism());
  const args = ['-m', base, '-t', threads, '-p', '0', '-n', '64', '-r', '5', '-o', 'json'];
  const { stdout } = await promisify(execFile)(executable, args, { maxBuffer: 1 << 24 });
  return LlamaBench.parse(JSON.parse(stdout)).find(({ n_gen }) => n_gen === 64)?.avg_ts ?? NaN;
}
