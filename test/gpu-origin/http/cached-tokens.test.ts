import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Usage } from '../../../protocol/completion-answers.ts';
import { events, startTestOrigin, type Origin } from './harness.ts';

let origin: Origin;
beforeAll(async () => {
  origin = await startTestOrigin({ runner: { blocks: 64, chunk: 8 } });
});
afterAll(() => origin.stop());

const ask = async (path: string, body: object): Promise<Response> =>
  fetch(origin.url + path, {
    method: 'POST',
    body: JSON.stringify({ model: 'fake', max_tokens: 2, ...body }),
  });
const usageOf = async <T = Usage>(path: string, body: object): Promise<T> =>
  ((await (await ask(path, body)).json()) as { usage: T }).usage;
const long = (start: string): string => `${start} ${'and so on '.repeat(8)}`;
/** Whole chunks; the last token is always read. */
const wholeChunks = (tokens: number): number => Math.floor((tokens - 1) / 8) * 8;

it('usage reports reused prompt tokens, both whole and streamed', async () => {
  const prompt = long('one');
  const first = await usageOf('/v1/completions', { prompt });
  expect(first).not.toHaveProperty('prompt_tokens_details');
  const kept = wholeChunks(first.prompt_tokens);
  expect(kept).toBeGreaterThan(0);
  const expected = { ...first, prompt_tokens_details: { cached_tokens: kept } };
  expect(await usageOf('/v1/completions', { prompt })).toEqual(expected);
  const streamed = await ask('/v1/completions', {
    prompt,
    stream: true,
    stream_options: { include_usage: true },
  });
  const last = events(await streamed.text()).at(-2)!;
  expect((JSON.parse(last) as { usage: Usage }).usage).toEqual(expected);
});

it('choices count like the first one, and a list’s prompts are summed', async () => {
  const [two, three] = [long('two'), long('three')];
  const once = await usageOf('/v1/completions', { prompt: two, n: 3 });
  expect(once).not.toHaveProperty('prompt_tokens_details');
  const both = await usageOf('/v1/completions', { prompt: [two, three, two], n: 2 });
  expect(both.prompt_tokens_details).toEqual({ cached_tokens: 2 * wholeChunks(once.prompt_tokens) });
});

it('Responses and Messages report it in their own fields', async () => {
  const input = long('four');
  const path = '/v1/responses';
  const body = { input, max_tokens: undefined, max_output_tokens: 2, store: false };
  const first = await usageOf<{ input_tokens: number }>(path, body);
  const kept = wholeChunks(first.input_tokens);
  expect(await usageOf(path, body)).toMatchObject({
    input_tokens: first.input_tokens,
    input_tokens_details: { cached_tokens: kept },
  });
  const messages = { messages: [{ role: 'user', content: input }] };
  expect(await usageOf('/v1/messages', messages)).toMatchObject({
    input_tokens: first.input_tokens - kept,
    cache_read_input_tokens: kept,
  });
});

it('the metrics count it', async () => {
  const text = await (await fetch(`${origin.url}/metrics`)).text();
  expect(Number(/^graft_prompt_tokens_cached_total (\d+)$/m.exec(text)?.[1])).toBeGreaterThan(0);
  expect(Number(/^graft_prefix_cache_bytes (\d+)$/m.exec(text)?.[1])).toBeGreaterThan(0);
});
