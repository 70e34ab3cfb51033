import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseSafetensors, writeSafetensors } from '../../../adapters/index.ts';
import { readConfig } from '../../../gpu-origin/config.ts';
import { createApp, standaloneMode } from '../../../gpu-origin/http/app.ts';
import { createMetrics } from '../../../gpu-origin/http/metrics.ts';
import type { OriginContext } from '../../../gpu-origin/http/origin-context.ts';
import { listen, Serving } from '../../../gpu-origin/http/serve.ts';
import { UsageMemory } from '../../../gpu-origin/http/run-prompts.ts';
import { type LoadedServices, loadServices } from '../../../gpu-origin/load-services.ts';
import { systemClock } from '../../../gpu-origin/runtime/device.ts';
import type { Tracer } from '../../../gpu-origin/tracing/tracer.ts';
import { FakeVllm, type FakeVllmOptions } from '../../fakes/fake-vllm.ts';
import {
  TINY_ADAPTERS,
  TINY_LLAMA,
  TINY_VOCAB,
  writeTinyAdapter,
  writeTinyBase,
} from '../../fixtures/tiny-base.ts';

/** Adds a head of two classes to a PEFT folder. */
export function addHead(folder: string): void {
  const weights = join(folder, 'adapter_model.safetensors');
  const { tensors } = parseSafetensors(new Uint8Array(readFileSync(weights)));
  const data = new Uint8Array(Float32Array.from({ length: 2 * TINY_LLAMA.hidden }, (_, i) => i).buffer);
  const head = { dtype: 'F32', shape: [2, TINY_LLAMA.hidden], data } as const;
  writeFileSync(
    weights,
    writeSafetensors({ tensors: new Map([...tensors, ['base_model.model.score.weight', head]]) }),
  );
  const file = join(folder, 'adapter_config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...config, task_type: 'SEQ_CLS', modules_to_save: ['score'] }));
}

export interface VllmOrigin {
  url: string;
  vllm: FakeVllm;
  services: LoadedServices;
  faults: string[];
  /** What the operator was told at the start. */
  notices: string[];
  folder: string;
  stop(): Promise<void>;
}

/** The origin's own composition in front of a fake vLLM: adapters `one` … by number, and `child` on top of `one`. */
export async function startVllmOrigin(
  options: {
    args?: string[];
    vllm?: Partial<FakeVllmOptions>;
    adapters?: number;
    childRank?: number;
    /** Whether all adapters wait for tokens. */
    activated?: boolean;
    /** Whether the first adapter has a classification head. */
    classifies?: boolean;
    tracer?: Tracer;
  } = {},
): Promise<VllmOrigin> {
  const folder = mkdtempSync(join(tmpdir(), 'graft-vllm-'));
  const base = join(folder, 'base');
  const length = options.vllm?.context ?? TINY_LLAMA.context;
  writeTinyBase(base, { ...TINY_LLAMA, context: length });
  const vllm = new FakeVllm({ vocabSize: TINY_VOCAB, root: base, ...options.vllm });
  await vllm.start();
  const [first] = Object.values(TINY_ADAPTERS);
  const names = Array.from({ length: options.adapters ?? 2 }, (_, at) => `a${at}`);
  for (const [at, name] of names.entries())
    writeTinyAdapter(join(folder, name), { ...first!, seed: 100 + at, rank: 4 }, TINY_LLAMA, 'base');
  writeTinyAdapter(
    join(folder, 'child'),
    { ...first!, seed: 99, rank: options.childRank ?? 2 },
    TINY_LLAMA,
    'base',
  );
  if (options.activated === true)
    for (const name of [...names, 'child']) {
      const file = join(folder, name, 'adapter_config.json');
      const config = JSON.parse(readFileSync(file, 'utf8')) as object;
      writeFileSync(file, JSON.stringify({ ...config, alora_invocation_tokens: [5, 6] }));
    }
  if (options.classifies === true) addHead(join(folder, 'a0'));
  const config = readConfig(
    [
      ...['--dev', '--base', base, '--cache', join(folder, 'cache'), '--port', '0'],
      ...['--engine', 'vllm', '--engine-url', vllm.url, '--max-loras', '2', '--max-cpu-loras', '4'],
      ...names.flatMap((name) => ['--adapter', `${name}=${join(folder, name)}`]),
      ...['--adapter', `child=${join(folder, 'child')}`, '--parent', 'child=a0'],
      ...(options.args ?? []),
    ],
    vllm.url === '' || options.vllm?.apiKey === undefined ? {} : { GRAFT_ENGINE_KEY: options.vllm.apiKey },
  )!;
  const faults: string[] = [];
  const notices: string[] = [];
  const metrics = createMetrics();
  const services = await loadServices({
    config,
    observer: {
      ...metrics.observer,
      onFault: ({ error }) => faults.push(error instanceof Error ? error.message : String(error)),
    },
    onProgress: () => undefined,
    onNotice: (message) => notices.push(message),
    onDiskRefusal: () => undefined,
  }).catch(async (error: unknown) => {
    await vllm.stop();
    throw error;
  });
  const serving = new Serving();
  serving.ready();
  const context: OriginContext = {
    mode: standaloneMode(new Map(services.chains)),
    tracer: options.tracer ?? null,
    ...{ serving, metrics, services, now: Date.now, monotonic: systemClock.now, loopbackOnly: true },
    usage: new UsageMemory(Date.now),
    onFault: (_where, error) => faults.push(String(error)),
  };
  const { url, server } = await listen({ app: createApp(context), host: '127.0.0.1', port: 0 });
  return {
    ...{ url, vllm, services, faults, notices, folder },
    async stop() {
      await services.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await vllm.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
