import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADAPTER, clientOf, startConformanceStack, type ConformanceStack } from './stack.ts';

/** Fields of ours, which the client's types do not know and passes on. */
const own = (fields: object): object => fields;

/** The official client through the edge: each row of what it throws at, and each habit that it has. */
describe('openai (npm) through the edge', () => {
  let stack: ConformanceStack;
  let client: OpenAI;
  beforeAll(async () => {
    stack = await startConformanceStack();
    client = clientOf(stack);
  });
  afterAll(() => stack.stop());

  const ask = {
    model: ADAPTER,
    messages: [{ role: 'user' as const, content: 'hello' }],
    max_tokens: 8,
    temperature: 0,
    ...own({ ignore_eos: true }),
  };
  const respond = {
    model: ADAPTER,
    input: 'hello',
    max_output_tokens: 8,
    temperature: 0,
    ...own({ ignore_eos: true }),
  };

  describe('streams', () => {
    it('begin with a role and end with a reason: the helper assembles what a whole answer is', async () => {
      const whole = await client.chat.completions.create(ask);
      const helper = client.chat.completions.stream(ask);
      const final = await helper.finalChatCompletion();
      expect(final.choices).toMatchObject([
        {
          finish_reason: 'length',
          message: { role: 'assistant', content: whole.choices[0]?.message.content, refusal: null },
        },
      ]);
    });

    it('carry usage only when asked: null before, then a chunk with empty choices', async () => {
      const chunksOf = async (include_usage?: boolean) => {
        const options = include_usage === undefined ? {} : { stream_options: { include_usage } };
        const chunks = [];
        for await (const chunk of await client.chat.completions.create({ ...ask, ...options, stream: true }))
          chunks.push(chunk);
        return chunks;
      };
      for (const plain of [await chunksOf(), await chunksOf(false)]) {
        expect(plain.every((chunk) => chunk.choices.length === 1)).toBe(true);
        expect(plain.every((chunk) => chunk.usage === undefined)).toBe(true);
      }
      const counted = await chunksOf(true);
      expect(counted.pop()).toMatchObject({ choices: [], usage: { completion_tokens: 8 } });
      expect(counted.every((chunk) => chunk.usage === null && chunk.choices.length === 1)).toBe(true);
    });

    it('end with an error that the client throws, whichever API it is', async () => {
      const failing = await startConformanceStack({
        context: { headersAfterMs: 1 },
        runner: {
          duringStep: async ({ kind }) => {
            // Long enough that the headers are out.
            await new Promise((resolve) => setTimeout(resolve, 30));
            if (kind === 'decode') throw new Error('the model broke');
          },
        },
      });
      try {
        const other = clientOf(failing);
        const chat = async () => {
          for await (const _chunk of await other.chat.completions.create({ ...ask, stream: true }));
        };
        await expect(chat()).rejects.toBeInstanceOf(OpenAI.APIError);
        const text = async () => {
          const body = { model: ADAPTER, prompt: 'x', max_tokens: 8, stream: true } as const;
          for await (const _chunk of await other.completions.create({
            ...body,
            ...own({ ignore_eos: true }),
          }));
        };
        await expect(text()).rejects.toBeInstanceOf(OpenAI.APIError);
        const final = await other.responses.stream(respond).finalResponse();
        expect(final).toMatchObject({ status: 'failed', error: { code: 'server_error' } });
      } finally {
        await failing.stop();
      }
    });

    it('of several choices are assembled each for itself', async () => {
      const several = { ...ask, n: 3, temperature: 1, seed: 5 };
      const whole = await client.chat.completions.create(several);
      const final = await client.chat.completions.stream(several).finalChatCompletion();
      expect(final.choices.map((choice) => choice.message.content)).toEqual(
        whole.choices.map((choice) => choice.message.content),
      );
      expect(new Set(whole.choices.map((choice) => choice.message.content)).size).toBe(3);
    });
  });

  describe('responses', () => {
    it('answer, and their text is in output_text', async () => {
      const chat = await client.chat.completions.create(ask);
      const response = await client.responses.create(respond);
      expect(response.output_text).toBe(chat.choices[0]?.message.content);
      expect(response).toMatchObject({ store: false, status: 'incomplete' });
    });

    it('stream events that the helper knows, every one, with ids and numbers', async () => {
      const stream = client.responses.stream(respond);
      const types: string[] = [];
      let text = '';
      stream.on('event', (event) => types.push(event.type));
      stream.on('response.output_text.delta', (event) => (text += event.delta));
      const final = await stream.finalResponse();
      expect(final.output_text).toBe(text);
      expect(types.slice(0, 4)).toEqual([
        'response.created',
        'response.in_progress',
        'response.output_item.added',
        'response.content_part.added',
      ]);
      expect(types.at(-1)).toBe('response.incomplete');
      const plain = await client.responses.create({ ...respond, stream: true });
      let number = 0;
      for await (const event of plain) {
        expect(event.sequence_number).toBe(number);
        number += 1;
      }
      expect(number).toBe(types.length);
    });

    it('go on by sending the answer back, since nothing is stored', async () => {
      const first = await client.responses.create(respond);
      const next = await client.responses.create({
        ...respond,
        input: [
          { role: 'user', content: 'hello' },
          ...(first.output as OpenAI.Responses.ResponseOutputMessage[]),
          { role: 'user', content: 'and?' },
        ],
      });
      expect(next.usage?.input_tokens).toBeGreaterThan(first.usage?.input_tokens ?? Infinity);
      await expect(client.responses.retrieve(first.id)).rejects.toMatchObject({
        status: 404,
        code: 'not_found',
      });
      await expect(client.responses.delete(first.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
      await expect(
        client.responses.create({ ...respond, previous_response_id: first.id }),
      ).rejects.toMatchObject({ code: 'unsupported_parameter', param: 'previous_response_id' });
    });
  });

  it('takes both names of the limit and of the system role', async () => {
    const { max_tokens: _limit, ...rest } = ask;
    const short = await client.chat.completions.create({ ...rest, max_completion_tokens: 3 });
    expect(short.usage?.completion_tokens).toBe(3);
    const both = await client.chat.completions.create({ ...rest, max_tokens: 8, max_completion_tokens: 3 });
    expect(both.usage?.completion_tokens).toBe(3);
    const as = async (role: 'system' | 'developer') => {
      const messages = [{ role, content: 'be kind' }, ...ask.messages];
      return (await client.chat.completions.create({ ...ask, messages })).choices[0]?.message.content;
    };
    expect(await as('developer')).toBe(await as('system'));
  });

  it('finds models whose ids have slashes', async () => {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    expect(ids).toEqual(stack.models);
    expect(await client.models.retrieve(ADAPTER)).toMatchObject({ id: ADAPTER, object: 'model' });
    const raw = await fetch(`${stack.baseURL}/models/${ADAPTER}`, {
      headers: { authorization: `Bearer ${stack.apiKey}` },
    });
    expect(await raw.json()).toMatchObject({ id: ADAPTER });
    await expect(client.models.retrieve('alice/nobody')).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});
