import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, embed, embedMany, generateText, streamText } from 'ai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADAPTER, startConformanceStack, type ConformanceStack } from './stack.ts';

describe('AI SDK (ai, @ai-sdk/openai-compatible) through the edge', () => {
  let stack: ConformanceStack;
  beforeAll(async () => {
    stack = await startConformanceStack();
  });
  afterAll(() => stack.stop());

  const providerOf = ({ baseURL, apiKey }: ConformanceStack, includeUsage?: boolean) =>
    createOpenAICompatible({
      name: 'graft',
      baseURL,
      apiKey,
      ...(includeUsage === undefined ? {} : { includeUsage }),
    });
  const settings = {
    messages: [{ role: 'user' as const, content: 'hello' }],
    maxOutputTokens: 8,
    temperature: 0,
    maxRetries: 0,
    providerOptions: { graft: { ignore_eos: true } },
  };

  it('gets a whole answer: text, reason, usage', async () => {
    const answer = await generateText({ ...settings, model: providerOf(stack)(ADAPTER), system: 'be kind' });
    expect(answer.text).not.toBe('');
    expect(answer.finishReason).toBe('length');
    expect(answer.usage).toMatchObject({ outputTokens: 8 });
    expect(answer.response.headers?.['x-graft-adapter']).toBe(`${ADAPTER}@1`);
  });

  it.each([undefined, true])('streams the same text, usage on request: %j', async (includeUsage) => {
    const model = providerOf(stack, includeUsage)(ADAPTER);
    const whole = await generateText({ ...settings, model });
    const stream = streamText({ ...settings, model });
    let text = '';
    for await (const piece of stream.textStream) text += piece;
    expect(text).toBe(whole.text);
    expect(await stream.finishReason).toBe('length');
    expect((await stream.usage).outputTokens).toBe(includeUsage === true ? 8 : undefined);
  });

  it('passes its own names of the sampling fields on', async () => {
    const model = providerOf(stack)(ADAPTER);
    const answer = await generateText({
      ...settings,
      model,
      temperature: 0.9,
      topP: 0.9,
      frequencyPenalty: 0.5,
      presencePenalty: 0.5,
      seed: 3,
      stopSequences: ['zzz'],
    });
    expect(answer.usage.outputTokens).toBe(8);
  });

  it('completes texts', async () => {
    const model = providerOf(stack).completionModel(ADAPTER);
    const { text } = await generateText({
      model,
      prompt: 'hello',
      maxOutputTokens: 4,
      temperature: 0,
      maxRetries: 0,
    });
    expect(typeof text).toBe('string');
  });

  it('gets the message of an error, and repeats only what may help', async () => {
    const failure = await generateText({ ...settings, model: providerOf(stack)('nobody') }).catch(
      (error: unknown) => error,
    );
    expect(APICallError.isInstance(failure)).toBe(true);
    expect(failure).toMatchObject({ statusCode: 404, isRetryable: false });
    expect((failure as Error).message).toContain('nobody');
  });

  it('embeds, one text and several', async () => {
    const model = providerOf(stack).textEmbeddingModel(ADAPTER);
    const one = await embed({ model, value: 'x', maxRetries: 0 });
    const { embeddings, usage } = await embedMany({ model, values: ['y', 'x'], maxRetries: 0 });
    expect(embeddings).toHaveLength(2);
    expect(embeddings[1]).toEqual(one.embedding);
    expect(usage.tokens).toBeGreaterThan(0);
  });

  it('sees an error in the middle of a stream', async () => {
    const failing = await startConformanceStack({
      context: { headersAfterMs: 1 },
      runner: {
        duringStep: async ({ kind }) => {
          await new Promise((resolve) => setTimeout(resolve, 30));
          if (kind === 'decode') throw new Error('the model broke');
        },
      },
    });
    try {
      const seen: unknown[] = [];
      const stream = streamText({
        ...settings,
        model: providerOf(failing)(ADAPTER),
        onError: ({ error }) => void seen.push(error),
      });
      await stream.consumeStream();
      expect(seen).toHaveLength(1);
    } finally {
      await failing.stop();
    }
  });
});
