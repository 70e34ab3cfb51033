import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TextCompletion } from '../../../protocol/completion-answers.ts';
import { startTestOrigin, type Origin } from './harness.ts';

interface Failure {
  error: { code: string; param: string | null; message: string };
}

describe('lists of prompts', () => {
  let origin: Origin;
  beforeAll(async () => {
    origin = await startTestOrigin({ maxQueue: 8, runner: { slots: 4, context: 256 } });
  });
  afterAll(() => origin.stop());

  const post = (fields: object) =>
    fetch(`${origin.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: 'fake', temperature: 0, max_tokens: 4, ignore_eos: true, ...fields }),
    });
  const complete = async (fields: object): Promise<TextCompletion> => {
    const response = await post(fields);
    expect(response.status).toBe(200);
    return (await response.json()) as TextCompletion;
  };
  const streamed = async (
    fields: object,
  ): Promise<{ texts: string[]; ends: number[]; chunks: TextCompletion[] }> => {
    const events = await (await post({ ...fields, stream: true })).text();
    const chunks = events
      .split('\n\n')
      .filter((event) => event.startsWith('data: {'))
      .map((event) => JSON.parse(event.slice('data: '.length)) as TextCompletion);
    const texts: string[] = [];
    const ends: number[] = [];
    for (const { choices } of chunks)
      for (const { index, text, finish_reason: reason } of choices) {
        texts[index] = (texts[index] ?? '') + text;
        if (reason !== null) ends.push(index);
      }
    return { texts, ends, chunks };
  };
  const numbered = (count: number) => Array.from({ length: count }, (_, at) => `prompt ${at}`);

  it.each([
    ['texts', ['hello', 'good day', 'x']],
    ['one text', ['hello']],
    ['lists of ids', [[5, 6, 7], [8], [9, 10]]],
    ['both', ['hello', [8, 9]]],
  ])('%s: the answers are those of each alone, in order, and usage is their sum', async (_what, prompts) => {
    const all = await complete({ prompt: prompts });
    const alone: TextCompletion[] = [];
    for (const prompt of prompts) alone.push(await complete({ prompt }));
    expect(all.choices.map(({ index }) => index)).toEqual(prompts.map((_, at) => at));
    expect(all.choices.map(({ text }) => text)).toEqual(alone.map(({ choices }) => choices[0]!.text));
    const sum = (count: (answer: TextCompletion) => number) =>
      alone.reduce((total, one) => total + count(one), 0);
    expect(all.usage).toEqual({
      prompt_tokens: sum(({ usage }) => usage!.prompt_tokens),
      completion_tokens: sum(({ usage }) => usage!.completion_tokens),
      total_tokens: sum(({ usage }) => usage!.total_tokens),
    });
  });

  it('return n answers to each prompt: index is prompt * n + choice, each equal to its own answer', async () => {
    const drawn = { temperature: 1, seed: 7, n: 3, max_tokens: 8 };
    const prompts = ['hello', 'good day', 'x', 'y'];
    const all = await complete({ ...drawn, prompt: prompts });
    expect(all.choices).toHaveLength(12);
    for (const [at, prompt] of prompts.entries()) {
      const alone = await complete({ ...drawn, prompt });
      expect(all.choices.slice(at * 3, at * 3 + 3).map(({ text }) => text)).toEqual(
        alone.choices.map(({ text }) => text),
      );
    }
    const stream = await streamed({ ...drawn, prompt: prompts, stream_options: { include_usage: true } });
    expect(stream.texts).toEqual(all.choices.map(({ text }) => text));
    expect(stream.ends.sort((a, b) => a - b)).toEqual(all.choices.map(({ index }) => index));
    expect(stream.chunks.at(-1)).toMatchObject({ choices: [], usage: all.usage });
  });

  it('may have 128 prompts with only four rows and eight places in the queue', async () => {
    const all = await complete({ prompt: numbered(128), max_tokens: 2 });
    expect(all.choices).toHaveLength(128);
    const last = await complete({ prompt: 'prompt 127', max_tokens: 2 });
    expect(all.choices[127]!.text).toBe(last.choices[0]!.text);
    const stream = await streamed({ prompt: numbered(128), max_tokens: 2 });
    expect(stream.texts).toEqual(all.choices.map(({ text }) => text));
  });

  it('may be two such requests at once, which need more than the queue has', async () => {
    const [one, two] = await Promise.all([
      complete({ prompt: numbered(40) }),
      complete({ prompt: numbered(40) }),
    ]);
    expect(one.choices).toEqual(two.choices);
  });

  it('score each prompt, as lm-eval requires', async () => {
    const scored = { echo: true, logprobs: 1, max_tokens: 0 };
    const prompts = [
      [5, 6, 7],
      [8, 9],
    ];
    const all = await complete({ ...scored, prompt: prompts });
    const stream = await streamed({ ...scored, prompt: prompts });
    for (const [at, prompt] of prompts.entries()) {
      const alone = await complete({ ...scored, prompt });
      expect(all.choices[at]).toEqual({ ...alone.choices[0], index: at });
      expect(all.choices[at]!.logprobs?.token_logprobs).toHaveLength(prompt.length);
      expect(stream.texts[at]).toBe(alone.choices[0]!.text);
    }
    const echoed = await streamed({ prompt: ['ab', 'c'], echo: true, max_tokens: 1 });
    expect(echoed.texts.map((text) => text.slice(0, 2))).toEqual(['ab', expect.stringMatching(/^c/)]);
  });

  it.each<[string, object, string, string]>([
    ['an empty one', { prompt: [] }, 'invalid_request', 'prompt'],
    ['an empty text', { prompt: ['a', ''] }, 'invalid_request', 'prompt[1]'],
    ['too many', { prompt: numbered(129) }, 'invalid_request', 'prompt'],
    ['one that is too long', { prompt: ['a', 'word '.repeat(300)] }, 'context_length_exceeded', 'prompt[1]'],
    [
      'one that leaves no room',
      { prompt: [[5], Array(256).fill(5)] },
      'context_length_exceeded',
      'prompt[1]',
    ],
    ['a token that is not there', { prompt: [[5], [5, 1e6]] }, 'invalid_request', 'prompt[1][1]'],
  ])('refuses %s, and runs none', async (_what, fields, code, param) => {
    const before = origin.runner.steps;
    const response = await post(fields);
    expect(response.status).toBe(400);
    expect(((await response.json()) as Failure).error).toMatchObject({ code, param });
    expect(origin.runner.steps).toBe(before);
  });

  it('default to 16 tokens', async () => {
    const { usage } = await complete({ prompt: ['a', 'b'], max_tokens: null });
    expect(usage?.completion_tokens).toBe(32);
  });

  it('leave nothing behind', () => {
    expect(origin.faults).toEqual([]);
    expect(origin.runner.misuses).toEqual([]);
    expect(origin.engine.stats()).toMatchObject({ running: 0, waiting: 0 });
  });
});

it('texts to embed wait for space in the queue like prompts, once the first has some', async () => {
  const origin = await startTestOrigin({ maxQueue: 0, runner: { slots: 1 } });
  const embed = (input: string[]) =>
    fetch(`${origin.url}/v1/embeddings`, { method: 'POST', body: JSON.stringify({ model: 'fake', input }) });
  const answer = await embed(['a', 'b', 'c', 'd']);
  expect(answer.status).toBe(200);
  const { data } = (await answer.json()) as { data: unknown[] };
  expect(data).toHaveLength(4);
  await origin.stop();
});

describe('long lists of tokens', () => {
  let origin: Origin;
  beforeAll(async () => {
    origin = await startTestOrigin({ runner: { context: 40_000, chunk: 8_192 } });
  });
  afterAll(() => origin.stop());

  it.each([
    [{ max_tokens: 1 }, 131_072],
    [{ max_tokens: 0, echo: true, logprobs: 20 }, 49_932],
    [{ max_tokens: 0, echo: true, logprobs: 20, n: 2 }, 24_966],
  ])('are refused before any is run: %j', async (fields, most) => {
    const prompt = Array.from({ length: Math.ceil(most / 10_000) + 1 }, () => Array<number>(10_000).fill(5));
    const response = await fetch(`${origin.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: 'fake', prompt, ...fields }),
    });
    expect(response.status).toBe(400);
    const { error } = (await response.json()) as Failure;
    expect(error).toMatchObject({ code: 'context_length_exceeded', param: 'prompt' });
    expect(error.message).toContain(`more than ${most} tokens`);
    expect(origin.runner.steps).toBe(0);
  });
});
