/** Whether adapters can be loaded at the engine's address, and are there for every request: asked once, at the start. */
import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writePeftAdapter } from '../../../adapters/index.ts';
import type { BaseInfo } from '../../../protocol/index.ts';
import { failureText } from './vllm-api.ts';
import type { VllmClient } from './vllm-client.ts';

/**
 * Connections on which the adapter is looked for. Of two servers that take them by chance, one in 2^12 such starts would
 * see only the one that has it.
 */
const ASKS = 12;

/**
 * Loads an adapter that adds nothing, looks for it on fresh connections, and unloads it.
 * @param params.folder empty, and read by vLLM under the same path. @param params.maxRank `--max-lora-rank`: the adapter
 * has it, so that one that vLLM was not started with is found now.
 * @returns what is wrong and what to change, in one line; null = nothing.
 */
export async function checkLoading(params: {
  client: VllmClient;
  folder: string;
  base: BaseInfo;
  maxRank: number;
}): Promise<string | null> {
  const { client, folder, base, maxRank } = params;
  const module = base.modules.find(({ name }) => name.endsWith('.q_proj')) ?? base.modules[0];
  // Of a quantized base no shapes are known, and none of its adapters is accepted.
  if (module === undefined) return null;
  const place = path.join(folder, 'probe');
  await writeProbe(place, module, maxRank);
  // Another one at each start: an earlier one may have been left by a start that was cut off.
  const name = `graft-probe-${randomBytes(8).toString('hex')}`;
  try {
    const loaded = await client.loadAdapter(name, place);
    if (!loaded.ok)
      return (
        `vLLM does not load an adapter of --base with rank ${maxRank} from ${place} (${failureText(loaded.error)}): ` +
        'give the folder that it serves, --max-lora-rank as it was started with, and a --cache that it can read under the same path'
      );
    for (let i = 0; i < ASKS; i++) {
      const listed = await client.models({ fresh: true });
      if (!listed.ok) return failureText(listed.error);
      if (!listed.value.some(({ id }) => id === name))
        return (
          'more than one vLLM API server answers at this address, and each knows only the adapters that it has loaded itself: ' +
          'start vLLM with --api-server-count 1, and give the address of one server'
        );
    }
    return null;
  } finally {
    await forget(client, name);
    await rm(place, { recursive: true, force: true });
  }
}

/** Where there are several servers, only one of them has it. */
async function forget(client: VllmClient, name: string): Promise<void> {
  for (let i = 0; i < ASKS; i++) if ((await client.unloadAdapter(name, { fresh: true })).ok) return;
}

async function writeProbe(place: string, module: BaseInfo['modules'][number], rank: number): Promise<void> {
  const zeros = (rows: number, columns: number) => ({
    dtype: 'F32' as const,
    shape: [rows, columns],
    data: new Uint8Array(4 * rows * columns),
  });
  const { configJson, safetensors } = writePeftAdapter({
    modules: [
      {
        ...{ name: module.name, rank, alpha: rank, scale: 1 },
        ...{ a: zeros(rank, module.in), b: zeros(module.out, rank) },
      },
    ],
    baseModel: null,
  });
  await mkdir(place, { recursive: true });
  await writeFile(path.join(place, 'adapter_config.json'), configJson);
  await writeFile(path.join(place, 'adapter_model.safetensors'), safetensors);
}
