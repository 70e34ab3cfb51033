import { spawn } from 'node:child_process';
import { LOOPBACK, needFreePort } from '../../cli/local/ports.ts';

export interface LlamaServer {
  /** Greedy answer to token ids, ended by the end of the turn or after `tokens`. @param adapter index in `adapters`. */
  answer(params: { prompt: readonly number[]; adapter: number; tokens: number }): Promise<number[]>;
  stop(): Promise<void>;
}

/** Time to read half a gigabyte and the adapters. */
const START_MS = 60_000;

/** llama.cpp's server with float32 weights, keys and values, so that only the arithmetic's order differs. */
export async function startLlamaServer(params: {
  executable: string;
  base: string;
  adapters: readonly string[];
  threads: number;
}): Promise<LlamaServer> {
  const port = await needFreePort({ port: 0, what: 'llama-server', flag: '--port' });
  const args = ['-m', params.base, '--host', LOOPBACK, '--port', String(port)];
  args.push(
    '-c',
    '2048',
    '-np',
    '1',
    '-t',
    String(params.threads),
    '-ctk',
    'f32',
    '-ctv',
    'f32',
    '-fa',
    'off',
  );
  args.push('--lora', params.adapters.join(','), '--lora-init-without-apply');
  const child = spawn(params.executable, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  const keep = (text: Buffer) => (said = (said + text.toString()).slice(-4_000));
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const url = `http://${LOOPBACK}:${port}`;
  const deadline = Date.now() + START_MS;
  for (;;) {
    const health = await fetch(`${url}/health`).catch(() => null);
    if (health?.ok) break;
    if (child.exitCode !== null || Date.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`llama-server did not start with the adapters:\n${said}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return {
    async answer({ prompt, adapter, tokens }) {
      const response = await fetch(`${url}/completion`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          prompt,
          n_predict: tokens,
          temperature: 0,
          cache_prompt: false,
          return_tokens: true,
          lora: [{ id: adapter, scale: 1 }],
        }),
      });
      if (!response.ok) throw new Error(await response.text());
      return ((await response.json()) as { tokens: number[] }).tokens;
    },
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
