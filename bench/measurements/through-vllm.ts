import path from 'node:path';
import {
  createVllmClient,
  type VllmClient,
  failureText,
} from '../../gpu-origin/backends/vllm/vllm-client.ts';
import { systemClock } from '../../gpu-origin/runtime/device.ts';
import { readBaseShape } from '../adapters/read-base-shape.ts';
import { QV, writeRandomAdapter } from '../adapters/write-random-adapter.ts';
import type { WaveResult } from '../load/run-wave.ts';
import { targetAt, type Target } from '../load/target.ts';
import { startPublishedStack } from '../published-stack.ts';
import { measureAddedFirstToken, type AddedFirstToken } from './added-first-token.ts';
import { summarize, takeTurns, type WaveSummary } from './compare-waves.ts';
import { ratiosByTurn, type Ratio } from './ratios.ts';
import { loadedByHand, measureSwaps, notListed, type SwapRow } from './swap-at-vllm.ts';

/** As in mixed-16. */
const AT_ONCE = 16;
const RANK = 8;
/** Chains that our origin keeps at vLLM; vLLM's own 16 are beside them. */
const KEPT = 24;
/** What is published: so many that there is always a cold one. */
const PUBLISHED = 2 * KEPT;
const PREFIX = 'bench/r8-';
/** Names of vLLM's own cannot be those of an earlier run that broke off. */
const alonePrefix = (): string => `bench-${Date.now().toString(36)}-`;

export interface ThroughVllm {
  waves: WaveSummary[];
  ratios: Ratio[];
  firstToken: AddedFirstToken[];
  swaps: SwapRow[];
}

export interface ThroughVllmOptions {
  /** Of a vLLM that runs, such as `http://127.0.0.1:8000`. */
  url: string;
  apiKey?: string;
  /** The folder that it serves. */
  base: string;
  /** An empty folder for adapters and state, which vLLM can read. */
  work: string;
  /** vLLM's own value. */
  maxLoras: number;
  maxLoraRank: number;
  /** New tokens of a wave's requests. */
  tokens: number;
  turns: number;
  /** Counted waves a turn. */
  waves: number;
  /** Rounds of single requests. */
  singles: number;
  swaps: number;
  env: Record<string, string | undefined>;
  signal?: AbortSignal;
  onWave?: (scenario: string, system: string, result: WaveResult) => void;
}

/**
 * One vLLM, asked by itself, through an origin, and through edge and origin, by this process, in turn. The same adapters
 * are loaded at vLLM from their PEFT folders and published.
 */
export async function measureThroughVllm(options: ThroughVllmOptions): Promise<ThroughVllm> {
  const { url, apiKey, work, signal } = options;
  const client = createVllmClient({ url, apiKey, clock: systemClock });
  const served = await servedName(client, url);
  const stop = signal === undefined ? {} : { signal };
  const running = await startPublishedStack({
    ...{ work, base: options.base, env: options.env, signal: signal ?? new AbortController().signal },
    originArgs: [
      ...['--engine', 'vllm', '--engine-url', url, '--max-loras', String(options.maxLoras)],
      ...['--max-lora-rank', String(options.maxLoraRank), '--max-cpu-loras', String(KEPT)],
    ],
  });
  const { base } = running.stack.local;
  const alone: Target = { ...targetAt('vLLM alone', url), prefix: alonePrefix(), base: served };
  if (apiKey !== undefined) alone.key = apiKey;
  try {
    const folders = await writeFolders(options, base);
    for (let i = 0; i < AT_ONCE; i++) {
      const loaded = await client.loadAdapter(`${alone.prefix}${i}`, folders[i] as string);
      if (!loaded.ok) throw new Error(`vLLM does not load ${folders[i]}: ${failureText(loaded.error)}`);
    }
    const ids: string[] = [];
    for (const [i, folder] of folders.entries())
      ids.push((await running.publish(`${PREFIX}${i}`, folder)).chain_id);
    const [origin, edge] = [running.origin('origin', PREFIX), running.edge('edge + origin', PREFIX)];
    const systems = [alone, origin, edge];

    const measured: ThroughVllm = { waves: [], ratios: [], firstToken: [], swaps: [] };
    for (const [scenario, adapters] of [
      ['base', 0],
      ['r8', AT_ONCE],
    ] as const) {
      const turns = await takeTurns({
        ...{ systems, turns: options.turns, waves: options.waves, warm: 'each', ...stop },
        wave: { requests: AT_ONCE, adapters, tokens: options.tokens },
        onWave: (system, result) => options.onWave?.(scenario, system, result),
      });
      for (const system of systems)
        measured.waves.push(summarize(scenario, system.label, (turns.get(system) ?? []).flat()));
      measured.ratios.push(...ratiosByTurn(scenario, systems, turns));
    }
    measured.firstToken = await measureAddedFirstToken({ systems, rounds: options.singles, ...stop });
    const swaps = { swaps: options.swaps, ...stop };
    measured.swaps = [
      await measureSwaps({
        ...{ target: alone, ...swaps },
        next: loadedByHand(client, alone.prefix, folders.slice(AT_ONCE)),
      }),
      await measureSwaps({ target: origin, ...swaps, next: notListed(client, ids) }),
      await measureSwaps({ target: edge, ...swaps, next: notListed(client, ids) }),
    ];
    return measured;
  } finally {
    // The folders go with the bench: a vLLM that runs on must not look for them.
    const left = await client.models();
    for (const { id, root } of left.ok ? left.value : [])
      if (id.startsWith(alone.prefix) || root?.startsWith(path.resolve(work)) === true)
        await client.unloadAdapter(id);
    await running.stop();
  }
}

async function writeFolders(options: ThroughVllmOptions, baseName: string): Promise<string[]> {
  const shape = await readBaseShape(options.base);
  return Promise.all(
    Array.from({ length: PUBLISHED }, async (_, seed) => {
      const folder = path.join(path.resolve(options.work), 'adapters', String(seed));
      await writeRandomAdapter({ folder, seed, rank: RANK, modules: QV, shape, baseName });
      return folder;
    }),
  );
}

async function servedName(client: VllmClient, url: string): Promise<string> {
  const models = await client.models();
  if (!models.ok) throw new Error(`${url}: ${failureText(models.error)}; start vllm serve first`);
  const base = models.value.find(({ parent }) => parent == null);
  if (base === undefined) throw new Error(`${url}: vLLM lists no model`);
  return base.id;
}
