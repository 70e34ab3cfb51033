import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { benchPrompt } from '../../bench/load/prompts.ts';
import { runWave } from '../../bench/load/run-wave.ts';
import { type Ask, parsePeer, requestFor, type Target } from '../../bench/load/target.ts';
import { measureLongParts, stepMs } from '../../bench/measurements/long-parts.ts';
import { summarize } from '../../bench/measurements/compare-waves.ts';
import { median, quantile } from '../../bench/statistics.ts';

describe('benchPrompt', () => {
  it('is the prompt of the published workload', () => {
    expect(benchPrompt(3, 2, 6)).toBe('3 2 rivers old the lazy to sleep');
    expect(benchPrompt(15, 0).split(' ')).toHaveLength(50);
    expect(benchPrompt(15, 0)).toMatch(/^15 0 towns brown while valleys .* and skies$/);
  });
});

describe('parsePeer', () => {
  it('reads specifications', () => {
    expect(parsePeer('vllm=openai:8082:r8-')).toEqual({
      label: 'vllm',
      kind: 'openai',
      host: '127.0.0.1',
      port: 8082,
      prefix: 'r8-',
      base: 'base',
    });
    expect(parsePeer('llama=llama:8081')).toMatchObject({ kind: 'llama', port: 8081, prefix: '' });
    expect(parsePeer('x=openai:1::org/model')).toMatchObject({ prefix: '', base: 'org/model' });
    expect(parsePeer('vllm=8082')).toBeNull();
  });
});

describe('requestFor', () => {
  const target: Target = {
    label: 'x',
    kind: 'openai',
    host: '127.0.0.1',
    port: 1,
    prefix: 'r8-',
    base: 'tiny',
  };
  it('asks for exactly the tokens, greedily', () => {
    const { path, body } = requestFor(target, { prompt: 'p', tokens: 64, adapter: 3 });
    expect(path).toBe('/v1/completions');
    expect(JSON.parse(body)).toEqual({
      model: 'r8-3',
      prompt: 'p',
      max_tokens: 64,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    });
    expect(JSON.parse(requestFor(target, { prompt: 'p', tokens: 1, adapter: null }).body)).toMatchObject({
      model: 'tiny',
    });
    const llama = requestFor({ ...target, kind: 'llama' }, { prompt: 'p', tokens: 64, adapter: 3 });
    expect(llama.path).toBe('/completion');
    expect(JSON.parse(llama.body)).toMatchObject({
      n_predict: 64,
      lora: [{ id: 3, scale: 1 }],
      cache_prompt: false,
    });
    const base = requestFor({ ...target, kind: 'llama' }, { prompt: 'p', tokens: 64, adapter: null });
    expect(JSON.parse(base.body)).toMatchObject({ lora: [{ id: 0, scale: 0 }] });
    const chat = requestFor(
      { ...target, kind: 'llama' },
      { prompt: 'p', tokens: 64, adapter: null, chat: true },
    );
    expect(JSON.parse(chat.body)).toMatchObject({ cache_prompt: true });
  });
});

describe('runWave', () => {
  let server: Server | undefined;
  afterEach(() => new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined))));

  /** Streams `tokens` chunks and a usage of `said`. */
  const serve = async (tokens: number, said: number, status = 200, asked: string[] = []): Promise<Target> => {
    server = createServer((request, response) => {
      request.on('data', (body: Buffer) => asked.push((JSON.parse(body.toString()) as Ask).prompt));
      response.writeHead(status);
      for (let i = 0; i < tokens; i++) response.write(`data: {"choices":[{"text":"x"}],"usage":null}\n\n`);
      response.end(`data: {"choices":[],"usage":{"completion_tokens":${said}}}\n\ndata: [DONE]\n\n`);
    });
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
    return {
      label: 'fake',
      kind: 'openai',
      host: '127.0.0.1',
      port: (server.address() as AddressInfo).port,
      prefix: 'r8-',
      base: 'b',
    };
  };

  it('counts what was asked for', async () => {
    const result = await runWave(await serve(4, 4), { requests: 3, adapters: 2, tokens: 4 }, 0);
    expect(result.problems).toEqual([]);
    expect(result.ttftMs).toHaveLength(3);
    expect(result.tokensPerSecond).toBeGreaterThan(0);
  });

  it('does not count an answer of another length', async () => {
    const result = await runWave(await serve(4, 3), { requests: 2, adapters: 0, tokens: 4 }, 0);
    expect(result.problems).toEqual(['asked for 4 tokens, usage says 3', 'asked for 4 tokens, usage says 3']);
    expect(result.tokensPerSecond).toBe(0);
  });

  it('sends a chat turn by turn, each with all turns before and their answers', async () => {
    const asked: string[] = [];
    const target = await serve(2, 2, 200, asked);
    const chat = { requests: 1, adapters: 1, tokens: 2, words: 2, turns: 3 };
    const result = await runWave(target, chat, 5);
    expect(result.problems).toEqual([]);
    expect(result.ttftMs).toHaveLength(3);
    const turns = [0, 1, 2].map((turn) => benchPrompt(0, 5 + turn, 2));
    expect(asked).toEqual([
      turns[0],
      `${turns[0]}xx\n${turns[1]}`,
      `${turns[0]}xx\n${turns[1]}xx\n${turns[2]}`,
    ]);
  });

  it('measures a wave beside its prompts and its decode steps, these over the prompts that were just read', async () => {
    const asked: string[] = [];
    const target = await serve(3, 3, 200, asked);
    const wave = { requests: 2, adapters: 2, tokens: 3, words: 2 };
    const parts = await measureLongParts({ target, wave, rounds: 2 });
    // The server writes three tokens where one is asked for.
    expect(parts.problems).toEqual(['asked for 1 tokens, usage says 3']);
    expect(parts.rounds).toBe(2);
    expect(parts.wholeMs).toBeGreaterThan(0);
    expect(parts.promptsMs).toBeGreaterThan(0);
    const rounds = asked.map((prompt) => Number(prompt.split(' ')[1]));
    expect(rounds).toEqual([0, 1, 2, 2, 3, 4, 4].flatMap((round) => [round, round]));
  });

  it('does not count a refusal', async () => {
    const result = await runWave(await serve(0, 4, 429), { requests: 1, adapters: 0, tokens: 4 }, 0);
    expect(result.problems[0]).toMatch(/^status 429: data:/);
  });
});

describe('stepMs', () => {
  it('takes the middle gap while all rows decode', () => {
    const row = (tokenMs: number[]) => ({ firstMs: tokenMs[0]!, lastMs: tokenMs.at(-1)!, tokenMs });
    expect(stepMs([row([0, 100, 110, 120, 130]), row([100, 111, 121, 200])])).toBe(10);
    expect(stepMs([row([0, 10]), row([20, 30])])).toBeNaN();
  });
});

describe('statistics', () => {
  it('takes nearest ranks and middles', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(median([])).toBeNaN();
    expect(quantile([1, 2, 3, 4], 0.95)).toBe(4);
    expect(quantile([1, 2, 3, 4], 0.5)).toBe(2);
    expect(quantile([5], 0)).toBe(5);
  });

  it('summarises waves, naming each problem once', () => {
    const wave = { tokensPerSecond: 10, ttftMs: [1, 3], decodePerSecond: 5, problems: ['p'] };
    expect(summarize('r8', 'graft', [wave, { ...wave, tokensPerSecond: 20 }])).toEqual({
      scenario: 'r8',
      system: 'graft',
      waves: 2,
      tokensPerSecond: { median: 15, best: 20, worst: 10 },
      ttftMs: { median: 2, worst: 3 },
      decodePerSecond: 5,
      problems: ['p'],
    });
  });
});
