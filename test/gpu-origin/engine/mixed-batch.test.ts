import { describe, expect, it } from 'vitest';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { EngineRequest } from '../../../gpu-origin/engine/engine.ts';
import { seededRandom, GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { collect, generate, letterOf, rig, start, type Rig } from './harness.ts';

const RUNNER = { slots: 16, chunk: 8, context: 128 };
const ADAPTERS = 10;

/** Loads take a random number of turns. */
function loads(random: () => number) {
  return async (): Promise<void> => {
    for (let turn = Math.floor(random() * 6); turn > 0; turn -= 1)
      await new Promise((resolve) => setImmediate(resolve));
  };
}

async function withAdapters(built: Rig): Promise<{ built: Rig; entries: ChainEntry[] }> {
  const entries: ChainEntry[] = [];
  for (let index = 0; index < ADAPTERS; index += 1) entries.push(await built.adapter(`adapter ${index}`));
  return { built, entries };
}

function randomRequest(random: () => number, entries: readonly ChainEntry[]): Partial<EngineRequest> {
  const below = (limit: number): number => Math.floor(random() * limit);
  const chain = Array.from({ length: below(4) }, () => ({
    digest: entries[below(entries.length)]!.digest,
    scale: [0.5, 1, 2][below(3)]!,
  }));
  return {
    tenant: `tenant ${below(5)}`,
    prompt: Array.from({ length: 1 + below(40) }, () => 1 + below(63)),
    chain,
    sampling: {
      ...GREEDY,
      maxTokens: 1 + below(30),
      ignoreEos: random() < 0.7,
      ...(random() < 0.5 ? { temperature: 0.2 + random(), seed: below(1_000) } : {}),
      ...(random() < 0.3 ? { topK: 1 + below(20), topP: 0.5 + random() / 2 } : {}),
      ...(random() < 0.3 ? { stop: [letterOf(below(64)) + letterOf(below(64)), letterOf(below(64))] } : {}),
      ...(random() < 0.3 ? { logprobs: below(4) } : {}),
      ...(random() < 0.2 ? { minP: random() / 2 } : {}),
      ...(random() < 0.3
        ? {
            adjustments: {
              bias: [[below(64), 20 * random() - 10] as const],
              repetition: [1, 0.5, 1.7][below(3)]!,
              frequency: [0, -1, 1.5][below(3)]!,
              presence: [0, 2][below(2)]!,
            },
          }
        : {}),
    },
    promptLogprobs: random() < 0.2 ? below(3) : null,
  };
}

describe('a row in a mixed batch', () => {
  it.each(Array.from({ length: 25 }, (_, seed) => seed))(
    'is as it is alone, among random joins, aborts, loads, evictions and poison (seed %i)',
    async (seed) => {
      const random = seededRandom(seed);
      const poisonPrompt = 62;
      let evicted = 0;
      const crowd = await withAdapters(
        rig({
          observer: { onAdapterEvict: () => (evicted += 1) },
          // Less than the adapters need, so that they come and go.
          adapterBudgetBytes: 8_000,
          decodeStepsPerTurn: 1 + (seed % 3),
          runner: {
            ...RUNNER,
            parts: 1 + (seed % 4),
            mixes: seed % 2 === 1,
            doublingTokens: 10,
            duringLoad: loads(random),
            poisoned: (tokens) =>
              tokens[0] === poisonPrompt && tokens[1] === poisonPrompt && tokens.length > 9,
          },
        }),
      );
      const alone = await withAdapters(rig({ runner: RUNNER }));
      const { engine, runner } = crowd.built;
      const jobs = Array.from({ length: 60 }, async () => {
        for (let turn = Math.floor(random() * 40); turn > 0; turn -= 1)
          await new Promise((resolve) => setImmediate(resolve));
        const changes = randomRequest(random, crowd.entries);
        const fate = random();
        const poison = fate < 0.1;
        const wanted = poison
          ? { ...changes, prompt: [poisonPrompt, poisonPrompt, ...changes.prompt!] }
          : changes;
        const handle = await start(engine, wanted);
        if (fate > 0.85) {
          for (let turn = Math.floor(random() * 30); turn > 0; turn -= 1)
            await new Promise((resolve) => setImmediate(resolve));
          handle.abort();
        }
        // A random prompt may begin like this by itself.
        const poisoned = wanted.prompt![0] === poisonPrompt && wanted.prompt![1] === poisonPrompt;
        return { wanted, result: await collect(handle), poisoned };
      });
      const outcomes = new Map<string, number>();
      for (const { wanted, result, poisoned } of await Promise.all(jobs)) {
        outcomes.set(result.final.kind, (outcomes.get(result.final.kind) ?? 0) + 1);
        if (result.final.kind === 'error') expect(poisoned).toBe(true);
        const reference = await generate(alone.built.engine, wanted);
        if (result.final.kind === 'end') expect(result.events).toEqual(reference.events);
        else expect(reference.ids.slice(0, result.ids.length)).toEqual(result.ids);
      }
      expect(outcomes.get('end')).toBeGreaterThan(30);
      expect(outcomes.get('aborted')).toBeGreaterThan(0);
      expect(evicted).toBeGreaterThan(3);
      expect(runner.misuses).toEqual([]);
      expect(alone.built.runner.misuses).toEqual([]);
      expect(runner.occupied).toEqual([]);
      expect(engine.stats()).toMatchObject({ running: 0, waiting: 0, loading: 0, kvTokens: 0 });
      for (const adapter of engine.residents().adapters) expect(adapter.references).toBe(0);
      await engine.close();
      expect(engine.residents().used_bytes).toBeLessThanOrEqual(8_000);
    },
  );
});
