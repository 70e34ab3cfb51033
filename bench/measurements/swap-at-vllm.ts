import { type VllmClient, failureText } from '../../gpu-origin/backends/vllm/vllm-client.ts';
import { benchPrompt } from '../load/prompts.ts';
import { runRequest } from '../load/run-request.ts';
import type { Target } from '../load/target.ts';
import { median, quantile } from '../statistics.ts';

export interface SwapRow {
  system: string;
  swaps: number;
  /** From the request to the first token, the adapter's loading included, ms. */
  ttftMs: { median: number; p95: number };
  /** The same name asked again at once, ms. */
  residentMs: { median: number; p95: number };
  problems: string[];
}

const TOKENS = 2;

/** An adapter that vLLM does not have, and what brings it there. */
export interface Cold {
  /** As {@link Target} numbers it. */
  adapter: number;
  /** What must come before the request, and counts as its time. */
  load(): Promise<string | null>;
  /** Afterwards, not timed. */
  leave(): Promise<void>;
}

/** Cold names, one request at a time, each asked twice. @param params.next null = there is none. */
export async function measureSwaps(params: {
  target: Target;
  swaps: number;
  next: (index: number) => Promise<Cold | null>;
  signal?: AbortSignal;
}): Promise<SwapRow> {
  const { target, swaps, next, signal } = params;
  const problems = new Set<string>();
  const [colds, residents]: [number[], number[]] = [[], []];
  const ask = (adapter: number, index: number) =>
    runRequest(target, { prompt: benchPrompt(index, 5, 8), tokens: TOKENS, adapter });
  for (let i = 0; i < swaps; i++) {
    signal?.throwIfAborted();
    const cold = await next(i);
    if (cold === null) {
      problems.add('no adapter was cold: give --max-cpu-loras as vLLM was started with');
      break;
    }
    const start = performance.now();
    const problem = await cold.load();
    const loadMs = performance.now() - start;
    const first = await ask(cold.adapter, 2 * i);
    const again = await ask(cold.adapter, 2 * i + 1);
    await cold.leave();
    const said = problem ?? first.problem ?? again.problem;
    if (said !== null) problems.add(said);
    else {
      colds.push(loadMs + first.firstMs);
      residents.push(again.firstMs);
    }
  }
  const of = (values: readonly number[]) => ({ median: median(values), p95: quantile(values, 0.95) });
  return {
    system: target.label,
    swaps: colds.length,
    ttftMs: of(colds),
    residentMs: of(residents),
    problems: [...problems],
  };
}

/** vLLM alone: the adapter is loaded under a name of its own by whoever asks, and unloaded behind it. */
export const loadedByHand =
  (client: VllmClient, prefix: string, folders: readonly string[]) =>
  async (index: number): Promise<Cold> => {
    // A number that no adapter of the waves has.
    const adapter = 10_000 + index;
    const folder = folders[index % folders.length] as string;
    return {
      adapter,
      async load() {
        const loaded = await client.loadAdapter(`${prefix}${adapter}`, folder);
        return loaded.ok ? null : failureText(loaded.error);
      },
      async leave() {
        await client.unloadAdapter(`${prefix}${adapter}`);
      },
    };
  };

/** Through graft: the first published name, from `index` on, whose chain vLLM does not list. */
export const notListed =
  (client: VllmClient, chainIds: readonly string[]) =>
  async (index: number): Promise<Cold | null> => {
    const listed = await client.models();
    if (!listed.ok) throw new Error(failureText(listed.error));
    const held = new Set(listed.value.map(({ id }) => id));
    for (let i = 0; i < chainIds.length; i++) {
      const adapter = (index + i) % chainIds.length;
      if (held.has(chainIds[adapter] as string)) continue;
      return { adapter, load: () => Promise.resolve(null), leave: () => Promise.resolve() };
    }
    return null;
  };
