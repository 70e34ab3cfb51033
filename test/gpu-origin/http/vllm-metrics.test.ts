/** The gauges for endpoint pickers, on a whole origin. */
import { afterEach, describe, expect, it } from 'vitest';
import { createMetrics, MAX_LISTED_ADAPTERS } from '../../../gpu-origin/http/metrics.ts';
import type { ServingEngine } from '../../../gpu-origin/engine/engine.ts';
import { startTestOrigin, type Origin } from './harness.ts';

let origin: Origin | null = null;
afterEach(async () => {
  await origin?.stop();
  origin = null;
});

const value = (text: string, name: string) =>
  Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1]);
const labels = (text: string) => {
  const line = /^vllm:lora_requests_info\{(.*)\} (\S+)$/m.exec(text);
  return Object.fromEntries(
    [...(line?.[1] ?? '').matchAll(/(\w+)="([^"]*)"/g)].map(([, label, said]) => [label, said]),
  );
};
const engineOf = (stats: object, adapters: object[]): ServingEngine =>
  ({
    stats: () => ({
      slots: 4,
      running: 0,
      waiting: 0,
      loading: 0,
      preempted: 0,
      kvTokens: 0,
      kvCapacity: 0,
      ...stats,
    }),
    residents: () => ({ budget_bytes: 0, used_bytes: 0, adapters }),
  }) as Partial<ServingEngine> as ServingEngine;
const textOf = (stats: object, adapters: object[]) => {
  const metrics = createMetrics();
  metrics.watch(engineOf(stats, adapters), () => ({
    usedBytes: 0,
    budgetBytes: 0,
    refusing: false,
    refusals: 0,
  }));
  return metrics.text();
};
const adapter = (digest: string, state: string, references = 0) => ({ digest, state, references });

describe('gauges under vLLM’s names', () => {
  it('show what runs, waits and is in memory', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    origin = await startTestOrigin({
      runner: { slots: 1, duringStep: ({ kind }) => (kind === 'decode' ? held : undefined) },
    });
    const ask = (model: string) =>
      fetch(`${origin!.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          model,
          messages: [{ role: 'user', content: 'hi' }],
          max_tokens: 2,
          ignore_eos: true,
        }),
      });
    const scrape = async () => (await fetch(`${origin!.url}/metrics`)).text();
    const answers = [ask('alice/notes'), ask('alice/notes')];
    let busy = '';
    const rows = async () => {
      busy = await scrape();
      return ['running', 'waiting'].map((state) => value(busy, `vllm:num_requests_${state}`));
    };
    await expect.poll(rows).toEqual([1, 1]);
    expect(value(busy, 'vllm:kv_cache_usage_perc')).toBeGreaterThan(0);
    expect(value(busy, 'vllm:kv_cache_usage_perc')).toBeLessThanOrEqual(1);
    expect(labels(busy)).toEqual({
      max_lora: '1',
      running_lora_adapters: origin.adapter,
      waiting_lora_adapters: '',
    });
    release();
    for (const answer of await Promise.all(answers)) expect(answer.status).toBe(200);
    const idle = await scrape();
    expect(value(idle, 'vllm:num_requests_running')).toBe(0);
    // Idle, but still in memory.
    expect(labels(idle)['running_lora_adapters']).toBe(origin.adapter);
    expect(idle.match(/^vllm:lora_requests_info\{/gm)).toHaveLength(1);
    expect(value(idle, 'vllm:lora_requests_info')).toBeGreaterThan(1.6e9);
  });

  it('list adapters with requests first, then the most recently used; loading ones are separate', async () => {
    const text = await textOf({ maxChains: 2 }, [
      ...[adapter('a', 'ready'), adapter('b', 'ready', 1), adapter('c', 'ready')],
      ...[adapter('d', 'loading', 2), adapter('e', 'failed')],
    ]);
    expect(labels(text)).toEqual({
      max_lora: '2',
      running_lora_adapters: 'b,c,a',
      waiting_lora_adapters: 'd',
    });
  });

  it('count what is preempted or loading as waiting, and are bounded', async () => {
    const many = Array.from({ length: 2 * MAX_LISTED_ADAPTERS }, (_, i) => adapter(`d${i}`, 'ready'));
    const text = await textOf({ waiting: 1, loading: 2, preempted: 4, kvTokens: 9, kvCapacity: 3 }, many);
    expect(value(text, 'vllm:num_requests_waiting')).toBe(7);
    expect(value(text, 'vllm:kv_cache_usage_perc')).toBe(1);
    expect(labels(text)['running_lora_adapters']?.split(',')).toHaveLength(MAX_LISTED_ADAPTERS);
  });

  it('exist before the engine does', async () => {
    const text = await createMetrics().text();
    expect(value(text, 'vllm:num_requests_running')).toBe(0);
    expect(text).toContain('# TYPE vllm:lora_requests_info gauge');
    expect(text).not.toMatch(/^vllm:lora_requests_info\{/m);
  });
});
