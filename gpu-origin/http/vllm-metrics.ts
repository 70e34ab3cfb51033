/**
 * The gauges that pickers of Kubernetes read to choose a server, by vLLM's names: llm-d's, and that of the Gateway API
 * Inference Extension (its "Model Server Protocol").
 */
import { Gauge, type Registry } from 'prom-client';
import type { ServingEngine } from '../engine/engine.ts';

/** Adapters that one label lists, of 64 characters each; the least recently used are left out. */
export const MAX_LISTED_ADAPTERS = 256;

/**
 * Adds them to the registry. Adapters are digests here, as everywhere in an origin: a label of one series lists them,
 * those with requests first. Ready ones are "running" whether they have requests or not: the protocol wants what is in
 * memory and ready to serve.
 * @param read the engine; null while there is none. @param now unix ms.
 */
export function addVllmMetrics(params: {
  registry: Registry;
  read: () => ServingEngine | null;
  now: () => number;
}): void {
  const { registry, read, now } = params;
  const registers = [registry];
  const gauge = (name: string, help: string, of: (engine: ServingEngine) => number) =>
    new Gauge({
      name: `vllm:${name}`,
      help,
      registers,
      collect() {
        const engine = read();
        this.set(engine === null ? 0 : of(engine));
      },
    });

  gauge('num_requests_running', 'Requests in the batch.', (engine) => engine.stats().running);
  gauge('num_requests_waiting', 'Requests that wait for a row, an adapter or their turn.', (engine) => {
    const { waiting, loading, parked } = engine.stats();
    return waiting + loading + parked;
  });
  gauge('kv_cache_usage_perc', 'Share of the KV cache in use, 0 to 1.', (engine) => {
    const { kvTokens, kvCapacity } = engine.stats();
    return kvCapacity === 0 ? 0 : Math.min(1, kvTokens / kvCapacity);
  });
  new Gauge({
    name: 'vllm:lora_requests_info',
    help: 'Adapters by their hashes: in memory, and being loaded. The value is the time, unix s.',
    labelNames: ['max_lora', 'running_lora_adapters', 'waiting_lora_adapters'],
    registers,
    collect() {
      this.reset();
      const engine = read();
      if (engine === null) return;
      const { slots, maxChains = slots } = engine.stats();
      const { adapters } = engine.residents();
      const listed = (state: 'ready' | 'loading'): string =>
        adapters
          .filter((one) => one.state === state)
          // The list is least recently used first.
          .reverse()
          .sort((a, b) => Number(b.references > 0) - Number(a.references > 0))
          .slice(0, MAX_LISTED_ADAPTERS)
          .map(({ digest }) => digest)
          .join(',');
      this.set(
        {
          max_lora: String(maxChains),
          running_lora_adapters: listed('ready'),
          waiting_lora_adapters: listed('loading'),
        },
        now() / 1_000,
      );
    },
  });
}
