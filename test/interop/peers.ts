import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';

/** Where the other tools lie; null = absent, and what needs it is skipped. README.md says how to get them. */
export interface Peers {
  readonly folder: string;
  /** Python with torch, transformers, peft and gguf. */
  readonly python: string | null;
  /** The base as Hugging Face keeps it, float32 or bfloat16. */
  readonly base: string | null;
  /** llama.cpp's source, for its converters. */
  readonly llamaSource: string | null;
  readonly llamaServer: string | null;
  /** node-llama-cpp's folder, which has llama.cpp built. */
  readonly llamaNode: string | null;
  /** Other runtimes of JavaScript. */
  readonly deno: string | null;
  readonly bun: string | null;
}

export function findPeers(env: NodeJS.ProcessEnv): Peers {
  const folder = path.resolve(env.PEERS ?? path.join(homedir(), '.cache/graft-peers'));
  const find = (...candidates: string[]): string | null =>
    candidates.map((candidate) => path.join(folder, candidate)).find((file) => existsSync(file)) ?? null;
  return {
    folder,
    python: env.PYTHON ?? find('py/bin/python'),
    base: find('hf/model.safetensors') && path.join(folder, 'hf'),
    llamaSource: find('llama/convert_lora_to_gguf.py') && path.join(folder, 'llama'),
    llamaServer: env.LLAMA_SERVER ?? find('llama/build/bin/llama-server'),
    llamaNode: find('hosts/node_modules/node-llama-cpp'),
    deno: find('hosts/node_modules/.bin/deno'),
    bun: find('hosts/node_modules/.bin/bun'),
  };
}
