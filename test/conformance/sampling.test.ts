import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADAPTER, clientOf, startConformanceStack, type ConformanceStack } from './stack.ts';

/** Logits whatever came before; the other tokens have -20. By the penalties' formulas every answer is known. */
const LOGITS = { a: 3, b: 2.5, c: 2.25 };

/** What the sampling fields do, seen by a client of the edge. */
describe('sampling fields, through the edge', () => {
  let stack: ConformanceStack;
  let client: OpenAI;
  let a = 0;
  let b = 0;
  beforeAll(async () => {
    const known = new Map<number, number>();
    stack = await startConformanceStack({ runner: { logit: (id) => known.get(id) ?? -20 } });
    const idOf = (text: string) => stack.origin.tokenizer.encode(text, { allowSpecial: false })[0] as number;
    for (const [text, logit] of Object.entries(LOGITS)) known.set(idOf(text), logit);
    [a, b] = [idOf('a'), idOf('b')];
    client = clientOf(stack);
  });
  afterAll(() => stack.stop());

  type Fields = Record<string, unknown>;
  const textOf = async (fields: Fields): Promise<string> => {
    const body = { model: ADAPTER, prompt: 'x', max_tokens: 6, temperature: 0, ...fields };
    return (await client.completions.create(body)).choices[0]?.text ?? '';
  };
  const chatOf = async (fields: Fields): Promise<string> => {
    const messages = [{ role: 'user' as const, content: 'x' }];
    const body = { model: ADAPTER, messages, max_tokens: 6, temperature: 0, ...fields };
    return (await client.chat.completions.create(body)).choices[0]?.message.content ?? '';
  };
  const streamOf = async (fields: Fields): Promise<string> => {
    const messages = [{ role: 'user' as const, content: 'x' }];
    const body = { model: ADAPTER, messages, max_tokens: 6, temperature: 0, ...fields };
    const final = await client.chat.completions.stream(body).finalChatCompletion();
    return final.choices[0]?.message.content ?? '';
  };
  const responseOf = async (fields: Fields): Promise<string> => {
    const body = { model: ADAPTER, input: 'x', max_output_tokens: 6, temperature: 0, ...fields };
    return (await client.responses.create(body)).output_text;
  };

  it.each<[string, Fields, string]>([
    ['nothing', {}, 'aaaaaa'],
    ['presence: once, however often', { presence_penalty: 2 }, 'abcaaa'],
    ['frequency: each time', { frequency_penalty: 2 }, 'abcabc'],
    ['both add up', { frequency_penalty: 0.6, presence_penalty: 0.4 }, 'abcaba'],
    ['either alone would not do that', { presence_penalty: 0.4 }, 'aaaaaa'],
  ])('%s: %j', async (_what, fields, wanted) => {
    expect(await textOf(fields)).toBe(wanted);
    expect(await chatOf(fields)).toBe(wanted);
    expect(await streamOf(fields)).toBe(wanted);
    expect(await responseOf(fields)).toBe(wanted);
  });

  it('a bias moves a token up, down, out and in alone', async () => {
    expect(await chatOf({ logit_bias: { [a]: -0.4 } })).toBe('aaaaaa');
    expect(await chatOf({ logit_bias: { [a]: -0.6 } })).toBe('bbbbbb');
    expect(await responseOf({ logit_bias: { [a]: -100, [b]: -100 } })).toBe('cccccc');
    expect(await textOf({ logit_bias: { [b]: 1 } })).toBe('bbbbbb');
    // Before the penalties: they take from what the bias has made.
    expect(await textOf({ logit_bias: { [b]: 1 }, presence_penalty: 1 })).toBe('babbbb');
  });

  it('the prompt counts for repetition_penalty only', async () => {
    const prompt = [a];
    expect(await textOf({ prompt, presence_penalty: 2 })).toBe('abcaaa');
    expect(await textOf({ prompt, frequency_penalty: 2 })).toBe('abcabc');
    expect(await textOf({ prompt, repetition_penalty: 2 })).toBe('bcaaaa');
    expect(await textOf({ repetition_penalty: 2 })).toBe('abcaaa');
    // The template says "assistant".
    expect(await chatOf({ repetition_penalty: 2 })).toBe('bcaaaa');
  });

  it('min_p looks at what the temperature has made', async () => {
    // Beside the likeliest, b has exp(-0.5 / temperature): 0.61 at 1, 0.78 at 2; c 0.47 and 0.69.
    const seen = async (fields: Fields) =>
      [...new Set(await textOf({ max_tokens: 64, seed: 1, ...fields }))].sort().join('');
    expect(await seen({ temperature: 1 })).toBe('abc');
    expect(await seen({ temperature: 1, min_p: 0.5 })).toBe('ab');
    expect(await seen({ temperature: 1, min_p: 0.75 })).toBe('a');
    expect(await seen({ temperature: 2, min_p: 0.75 })).toBe('ab');
    expect(await seen({ temperature: 2, min_p: 0.6 })).toBe('abc');
    expect(await seen({ temperature: 1, top_p: 0.3 })).toBe('a');
    expect(await seen({ temperature: 1, top_k: 2 })).toBe('ab');
  });

  it('several streamed choices: each chunk has one, each choice its own draws and its own end', async () => {
    const body = {
      model: ADAPTER,
      messages: [{ role: 'user' as const, content: 'x' }],
      n: 3,
      max_tokens: 12,
      temperature: 1,
      seed: 7,
      stream_options: { include_usage: true },
    };
    const texts = ['', '', ''];
    const roles = [0, 0, 0];
    const ends = [0, 0, 0];
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) {
      if (chunk.choices.length === 0) usage = chunk.usage;
      else expect(chunk.choices).toHaveLength(1);
      for (const { index, delta, finish_reason: reason } of chunk.choices) {
        texts[index] += delta.content ?? '';
        roles[index] = (roles[index] ?? 0) + Number(delta.role === 'assistant');
        ends[index] = (ends[index] ?? 0) + Number(reason !== null);
      }
    }
    expect([roles, ends, usage?.completion_tokens]).toEqual([[1, 1, 1], [1, 1, 1], 36]);
    expect(new Set(texts).size).toBe(3);
    // A choice is what a request with its seed is.
    for (const [index, text] of texts.entries())
      expect(await chatOf({ max_tokens: 12, temperature: 1, seed: 7 + index })).toBe(text);
  });
});
