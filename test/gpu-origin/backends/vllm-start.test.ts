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
      vllm: { url: 'http://127.0.0.1:8000', maxLoras: 1, maxLoraRank: 16, maxCpuLoras: 1, requests: 64 },
    });
    expect(vllm('--slots', '8')!.vllm).toMatchObject({ requests: 8 });
    expect(vllm('--max-loras', '8')!.vllm).toMatchObject({ maxLoras: 8, maxCpuLoras: 8 });
    expect(read()).toMatchObject({ slots: undefined, vllm: null });
  });

  it.each([
    [() => read('--engine', 'vllm'), '--engine vllm needs --engine-url'],
    [() => read('--max-loras', '4'), '--max-loras needs --engine vllm'],
    [() => read('--engine', 'sglang'), '--engine must be native or vllm'],
    [() => read('--engine', 'vllm', '--engine-url', 'localhost:8000'), "is not a server's address"],
    [
      () => vllm('--max-loras', '8', '--max-cpu-loras', '4'),
      '--max-cpu-loras 4 must be at least --max-loras 8',
    ],
    [
      () => vllm('--max-lora-rank', '24'),
      '--max-lora-rank 24: vLLM supports 1, 8, 16, 32, 64, 128, 256, 320, 512. Start vLLM with 32, and give the same value here',
    ],
  ])('%#', (start, message) => expect(start).toThrow(message));
});

describe('a server that', () => {
  it('does not answer', async () => {
    const start = startVllmOrigin({ args: ['--engine-url', 'http://127.0.0.1:9'] });
    await expect(start).rejects.toThrow(
      /^--engine-url http:\/\/127\.0\.0\.1:9: vLLM does not answer: .+\. Start vllm serve first, or correct the address$/,
    );
  });

  it('loads no adapters while it runs', async () => {
    await expect(startVllmOrigin({ vllm: { runtimeLoading: false } })).rejects.toThrow(
      'Start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True',
    );
  });

  it('serves another folder', async () => {
    await expect(startVllmOrigin({ vllm: { root: '/tmp' } })).rejects.toThrow(
      /vLLM serves \/tmp, but --base is .+. Give the folder that vLLM serves/,
    );
  });

  it('is several API servers', async () => {
    await expect(startVllmOrigin({ vllm: { apiServers: 2 } })).rejects.toThrow(
      /^--engine-url http:\/\/127\.0\.0\.1:\d+: several vLLM API servers answer at this address, and .+\. Start vLLM with --api-server-count 1, and give the address of one server$/,
    );
  });

  it('was started with a lower rank', async () => {
    await expect(startVllmOrigin({ args: ['--max-lora-rank', '32'] })).rejects.toThrow(
      /does not load an adapter of --base with rank 32 .+LoRA rank 32 is greater than max_lora_rank 16.+\. Set --base to the folder that vLLM serves, --max-lora-rank to vLLM's own value, and --cache/,
    );
  });

  it('serves another base, of which only the shapes tell', async () => {
    await expect(startVllmOrigin({ vllm: { root: '/models/in-a-container', hidden: 64 } })).rejects.toThrow(
      /does not load an adapter of --base .+shape.+\. Set --base to the folder that vLLM serves/,
    );
  });

  it('runs one adapter at a time, which is a warning', async () => {
    const origin = await startVllmOrigin({ args: ['--max-loras', '1'] });
    expect(origin.notices).toEqual([
      expect.stringMatching(
        /^with --max-loras 1, only one adapter runs at a time.+ give the same value here$/,
      ),
    ]);
    await origin.stop();
  });

  it('is valid, and keeps nothing of the check', async () => {
    const origin = await startVllmOrigin();
    expect(origin.vllm.loaded).toEqual([]);
    expect(origin.vllm.orders).toEqual([
      expect.stringMatching(/^\+graft-probe-/),
      expect.stringMatching(/^-graft-probe-/),
    ]);
    expect(origin.notices).toEqual([]);
    await origin.stop();
  });

  it('needs a key', async () => {
    const origin = await startVllmOrigin({ vllm: { apiKey: 'secret' } });
    const answer = await fetch(`${origin.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: 'a0', prompt: 'x', max_tokens: 2 }),
    });
    expect(answer.status).toBe(200);
    await origin.stop();
  });
});
