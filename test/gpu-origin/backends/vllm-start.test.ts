/** What is wrong at the start is said in one line, with what to change. */
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../../gpu-origin/config.ts';
import { startVllmOrigin } from './vllm-origin.ts';

describe('flags', () => {
  const read = (...args: string[]) => readConfig(['--dev', '--base', '/base', ...args], {});
  const vllm = (...args: string[]) =>
    read('--engine', 'vllm', '--engine-url', 'http://127.0.0.1:8000/v1/', ...args);

  it('have vLLM’s own defaults', () => {
    expect(vllm()).toMatchObject({
      slots: 64,
      vllm: { url: 'http://127.0.0.1:8000', maxLoras: 1, maxLoraRank: 16, maxCpuLoras: 1 },
    });
    expect(vllm('--max-loras', '8')!.vllm).toMatchObject({ maxLoras: 8, maxCpuLoras: 8 });
    expect(read()).toMatchObject({ slots: 16, vllm: null });
  });

  it.each([
    [() => read('--engine', 'vllm'), '--engine vllm needs --engine-url'],
    [() => read('--max-loras', '4'), '--max-loras needs --engine vllm'],
    [() => read('--engine', 'sglang'), '--engine must be native or vllm'],
    [() => read('--engine', 'vllm', '--engine-url', 'localhost:8000'), 'is no address of a server'],
    [
      () => vllm('--max-loras', '8', '--max-cpu-loras', '4'),
      '--max-cpu-loras 4 must be at least --max-loras 8',
    ],
  ])('%#', (start, message) => expect(start).toThrow(message));
});

describe('a server that', () => {
  it('does not answer', async () => {
    const start = startVllmOrigin({ args: ['--engine-url', 'http://127.0.0.1:9'] });
    await expect(start).rejects.toThrow(
      /^--engine-url http:\/\/127\.0\.0\.1:9: vLLM does not answer: .+\. Start vllm serve first, or give the address it listens on$/,
    );
  });

  it('loads no adapters while it runs', async () => {
    await expect(startVllmOrigin({ vllm: { runtimeLoading: false } })).rejects.toThrow(
      'start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True',
    );
  });

  it('serves another folder', async () => {
    await expect(startVllmOrigin({ vllm: { root: '/tmp' } })).rejects.toThrow(
      /vLLM serves \/tmp, and --base is .+: give the folder that it serves/,
    );
  });

  it('wants a key', async () => {
    const origin = await startVllmOrigin({ vllm: { apiKey: 'secret' } });
    const answer = await fetch(`${origin.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: 'a0', prompt: 'x', max_tokens: 2 }),
    });
    expect(answer.status).toBe(200);
    await origin.stop();
  });
});
