import fc from 'fast-check';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  chatFormat,
  type CompletionFormat,
  type FormatParams,
  textFormat,
} from '../../gpu-origin/http/completion-formats.ts';
import { responsesFormat } from '../../gpu-origin/http/responses-format.ts';
import { sseResponse } from '../../gpu-origin/http/completions.ts';
import { loadTokenizer } from '../../gpu-origin/model/load-tokenizer.ts';
import { tinyMetadata } from '../gpu-origin/model-tokenizer/tiny-tokenizer.ts';
import { ADAPTER, startConformanceStack, type ConformanceStack } from './stack.ts';

/** What a model may say that means something to whoever reads a stream line by line. */
const hostile = fc.constantFrom(
  'data: [DONE]',
  '[DONE]',
  '\n\ndata: [DONE]\n\n',
  'event: error\n',
  ': ping\n\n',
  // What the edge takes out of an origin's stream.
  ': graft-usage prompt=1,completion=1\n\n',
  '"usage":',
  '{"error":{}}',
  '"finish_reason":"stop"',
  '\r',
  '\n',
  '\r\n\r\n',
  '\\n',
  '\u2028\u2029\u0085',
  '\u0000\u001b',
  '\ufeff',
  '\ud800',
  '\udc00',
  '\udc00\ud800',
  '👩‍👩‍👧',
  '</script>',
  '__proto__',
);
const text = fc
  .array(fc.oneof(hostile, fc.string({ unit: 'binary', maxLength: 6 })), { maxLength: 8 })
  .map((pieces) => pieces.join(''));

const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
const params: FormatParams = {
  id: '0'.repeat(32),
  created: 1,
  model: 'm',
  choices: 1,
  includeUsage: true,
  tokenizer,
  logprobs: false,
  calls: null,
};
const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };

/** What the origin writes for an answer that comes in these pieces, cut into chunks of `size` bytes. */
function streamOf(format: CompletionFormat, pieces: readonly string[], size: number): Response {
  const response = sseResponse({
    heartbeatMs: 1_000_000,
    heartbeat: () => undefined,
    tooSlow: () => undefined,
    headers: {},
    onGone: () => undefined,
    onEnd: () => undefined,
    async produce(writer) {
      const send = (values: unknown[]) => values.forEach((value) => writer.send(value, format.named));
      send(format.opening());
      for (const piece of pieces) send(format.piece(0, { kind: 'tokens', text: piece, tokens: [] }));
      send(format.closing(0, 'stop'));
      send(format.ending(usage));
      if (!format.named) writer.done();
    },
  });
  const cut = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      for (let at = 0; at < chunk.length; at += size) controller.enqueue(chunk.subarray(at, at + size));
    },
  });
  return new Response(response.body!.pipeThrough(cut), { headers: response.headers });
}

const clientOf = (answer: () => Response): OpenAI =>
  new OpenAI({
    baseURL: 'http://unused.test/v1',
    apiKey: 'none',
    maxRetries: 0,
    fetch: async () => answer(),
  });

describe('any text comes through a stream as it is', () => {
  const cases = fc.tuple(fc.array(text, { maxLength: 5 }), fc.constantFrom(1, 2, 3, 7, 64, 65_536));

  it('chat completions', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ([pieces, size]) => {
        const client = clientOf(() => streamOf(chatFormat(params), pieces, size));
        const stream = client.chat.completions.stream({ model: 'm', messages: [] });
        const final = await stream.finalChatCompletion();
        // The client makes null of no content at all.
        expect(final.choices[0]?.message.content ?? '').toBe(pieces.join(''));
        expect(final.choices[0]?.finish_reason).toBe('stop');
        expect(final.usage).toEqual(usage);
      }),
      { numRuns: 200 },
    );
  });

  it('text completions', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ([pieces, size]) => {
        const client = clientOf(() =>
          streamOf(
            textFormat({ ...params, echoes: [null], topLogprobs: 0, showSpecial: false }),
            pieces,
            size,
          ),
        );
        let seen = '';
        for await (const chunk of await client.completions.create({ model: 'm', prompt: '', stream: true }))
          seen += chunk.choices[0]?.text ?? '';
        expect(seen).toBe(pieces.join(''));
      }),
      { numRuns: 200 },
    );
  });

  it('responses', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ([pieces, size]) => {
        const format = responsesFormat({ ...params, request: { model: 'm', input: '' }, now: () => 1 });
        const client = clientOf(() => streamOf(format, pieces, size));
        const final = await client.responses.stream({ model: 'm', input: '' }).finalResponse();
        expect(final.output_text).toBe(pieces.join(''));
        expect(final.status).toBe('completed');
      }),
      { numRuns: 200 },
    );
  });
});

describe('any text comes through the whole path as it is', () => {
  let stack: ConformanceStack;
  beforeAll(async () => {
    stack = await startConformanceStack();
  });
  afterAll(() => stack.stop());

  it('as the echo of a prompt, streamed and whole', async () => {
    const client = new OpenAI({ baseURL: stack.baseURL, apiKey: stack.apiKey, maxRetries: 0 });
    await fc.assert(
      fc.asyncProperty(
        text.filter((one) => one !== ''),
        async (prompt) => {
          const ask = { model: ADAPTER, prompt, echo: true, max_tokens: 1, temperature: 0 };
          const whole = await client.completions.create(ask);
          expect(whole.choices[0]?.text.slice(0, prompt.length)).toBe(prompt);
          let seen = '';
          for await (const chunk of await client.completions.create({ ...ask, stream: true }))
            seen += chunk.choices[0]?.text ?? '';
          expect(seen).toBe(whole.choices[0]?.text);
        },
      ),
      { numRuns: 60 },
    );
  });
});
