import Anthropic from '@anthropic-ai/sdk';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, streamText } from 'ai';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { problems } from './openai-schema.ts';
import { ADAPTER, clientOf, startConformanceStack, type ConformanceStack } from './stack.ts';

/** Fields of ours, which the client's types do not know and passes on. */
const own: object = { ignore_eos: true };
const ask = {
  model: ADAPTER,
  messages: [{ role: 'user' as const, content: 'hello' }],
  max_tokens: 8,
  temperature: 0,
  ...own,
};
const respond = { model: ADAPTER, input: 'hello', max_output_tokens: 8, temperature: 0, ...own };

interface Chunk {
  choices: { text?: string; delta?: { content?: string } }[];
}

/** Streams that are slow and streams that break, through the edge. */
describe('streams', () => {
  let stack: ConformanceStack;
  let client: OpenAI;
  beforeAll(async () => {
    stack = await startConformanceStack();
    client = clientOf(stack);
  });
  afterAll(() => stack.stop());

  it('are never quiet for long, and clients notice nothing of it', async () => {
    const slow = await startConformanceStack({
      context: { heartbeatMs: 2, headersAfterMs: 1 },
      runner: { duringStep: () => new Promise((resolve) => setTimeout(resolve, 15)) },
    });
    try {
      const other = clientOf(slow);
      const { max_tokens: _limit, messages: _messages, ...rest } = ask;
      const text = { ...rest, prompt: 'hello', max_tokens: 4 };
      for (const [path, body, schema] of [
        ['chat/completions', { ...ask, n: 2, max_tokens: 4 }, 'CreateChatCompletionStreamResponse'],
        ['completions', text, 'CreateCompletionResponse'],
        ['responses', { ...respond, max_output_tokens: 4 }, null],
      ] as const) {
        const framesFor = async (headers: Record<string, string>) => {
          const response = await fetch(`${slow.baseURL}/${path}`, {
            method: 'POST',
            headers: { authorization: `Bearer ${slow.apiKey}`, ...headers },
            body: JSON.stringify({ ...body, stream: true }),
          });
          const frames = (await response.text()).split('\n\n');
          expect(frames.pop()).toBe('');
          return frames;
        };
        const isEvent = (frame: string) => /^(event: [a-z_.]+\n)?data: [^\n]+$/.test(frame);
        const heard = await framesFor({});
        const quiet = heard.filter((frame) => !isEvent(frame));
        expect([...new Set(quiet)]).toEqual([': waiting']);
        expect(quiet.length).toBeGreaterThan(3);
        const goOf = (version: string) =>
          framesFor({ 'x-stainless-lang': 'go', 'x-stainless-package-version': version });
        // It takes a blank line without data before it for an event, and fails.
        expect((await goOf('3.42.9')).filter((frame) => !isEvent(frame))).toEqual([]);
        expect(await goOf('3.43.0')).toContain(': waiting');
        const frames = heard.filter(isEvent);
        if (schema !== null) {
          expect(frames.pop()).toBe('data: [DONE]');
          const chunks = frames.map((frame) => JSON.parse(frame.slice(6)) as Chunk);
          for (const chunk of chunks) expect(problems(schema, chunk)).toEqual([]);
          // Nothing that looks like a token but is none: the role's chunks, and a text's last one, are empty.
          const empty = chunks.filter(
            ({ choices: [choice] }) => (choice?.delta?.content ?? choice?.text) === '',
          );
          expect(empty.length).toBeLessThanOrEqual(path === 'completions' ? 1 : 2);
        }
      }
      const several = { ...ask, n: 2, temperature: 1, seed: 5 };
      const [whole, streamed] = [
        await client.chat.completions.create(several),
        await other.chat.completions.stream(several).finalChatCompletion(),
      ];
      expect(streamed.choices.map(({ message }) => message.content)).toEqual(
        whole.choices.map(({ message }) => message.content),
      );
      const events: OpenAI.Responses.ResponseStreamEvent[] = [];
      for await (const event of await other.responses.create({ ...respond, stream: true }))
        events.push(event);
      expect(events.map((event) => event.sequence_number)).toEqual([...events.keys()]);
      expect(events.some((event) => 'delta' in event && event.delta === '')).toBe(false);
      expect((await other.responses.stream(respond).finalResponse()).output_text).toBe(
        (await client.responses.create(respond)).output_text,
      );
      const model = (of: ConformanceStack) =>
        createOpenAICompatible({ name: 'graft', baseURL: of.baseURL, apiKey: of.apiKey })(ADAPTER);
      const settings = { prompt: 'hello', maxOutputTokens: 4, temperature: 0, maxRetries: 0 };
      const pieces: string[] = [];
      for await (const piece of streamText({ ...settings, model: model(slow) }).textStream)
        pieces.push(piece);
      expect(pieces.join('')).toBe((await generateText({ ...settings, model: model(stack) })).text);
      expect(pieces).not.toContain('');
      const claude = ({ baseURL, apiKey }: ConformanceStack) =>
        new Anthropic({ baseURL: baseURL.replace('/v1', ''), apiKey, maxRetries: 0 });
      const message = { model: ADAPTER, max_tokens: 4, messages: ask.messages, temperature: 0 };
      expect((await claude(slow).messages.stream(message).finalMessage()).content).toEqual(
        (await claude(stack).messages.create(message)).content,
      );
    } finally {
      await slow.stop();
    }
  });

  it('that break off between origin and edge end with an error, not as if they were whole', async () => {
    const breaking = await startConformanceStack({
      runner: { duringStep: () => new Promise((resolve) => setTimeout(resolve, 5)) },
    });
    const { answer } = breaking.edge.origin;
    breaking.edge.origin.answer = async (...call) => cutAfterFirstEvents(await answer(...call));
    const log = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    try {
      const other = clientOf(breaking);
      const text = {
        model: ADAPTER,
        prompt: 'x',
        max_tokens: 8,
        stream: true,
        ...own,
      } as const;
      const chat = async () => {
        for await (const _chunk of await other.chat.completions.create({ ...ask, stream: true }));
      };
      const texts = async () => {
        for await (const _chunk of await other.completions.create(text));
      };
      for (const read of [chat, texts]) await expect(read()).rejects.toBeInstanceOf(OpenAI.APIError);
      // The client hands this API's errors on as events; its helper rejects with the event.
      const final = other.responses.stream(respond).finalResponse();
      await expect(final).rejects.toMatchObject({ type: 'error', code: 'origin_unavailable' });
      const response = await fetch(`${breaking.baseURL}/responses`, {
        method: 'POST',
        headers: { authorization: `Bearer ${breaking.apiKey}` },
        body: JSON.stringify({ ...respond, stream: true }),
      });
      const frames = (await response.text()).trimEnd().split('\n\n');
      const events = frames.map((frame) => JSON.parse(frame.slice(frame.indexOf('data: ') + 6)) as unknown);
      const last = events.at(-1) as { sequence_number: number };
      expect(problems('ResponseErrorEvent', last)).toEqual([]);
      expect(last).toMatchObject({ type: 'error', code: 'origin_unavailable' });
      expect(events.length).toBeGreaterThan(5);
      expect(last.sequence_number).toBe(events.length - 1);
    } finally {
      log.mockRestore();
      await breaking.stop();
    }
  });
});

/** An origin's answer whose connection breaks before the last events. */
function cutAfterFirstEvents(response: Response): Response {
  if (response.body === null || !response.headers.get('content-type')?.startsWith('text/event-stream'))
    return response;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let seen = '';
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      // Each API's first text.
      const begun = /"(content|text|delta)":"[^"]/.test(seen);
      const { done, value } = begun ? { done: true } : await reader.read();
      if (done) {
        await reader.cancel();
        return controller.error(new Error('ECONNRESET'));
      }
      seen += decoder.decode(value, { stream: true });
      controller.enqueue(value);
    },
  });
  return new Response(body, { status: response.status, headers: response.headers });
}
