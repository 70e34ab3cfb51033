import Anthropic from '@anthropic-ai/sdk';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADAPTER, clientOf, startConformanceStack, type ConformanceStack } from './stack.ts';

/** Fields of ours, which the client's types do not know and passes on. */
const own = (fields: object): object => fields;

describe('Anthropic’s client through the edge', () => {
  let stack: ConformanceStack;
  let client: Anthropic;
  beforeAll(async () => {
    stack = await startConformanceStack();
    client = new Anthropic({
      baseURL: stack.baseURL.replace('/v1', ''),
      apiKey: stack.apiKey,
      maxRetries: 0,
    });
  });
  afterAll(() => stack.stop());

  const ask = {
    model: ADAPTER,
    max_tokens: 8,
    system: 'Be brief.',
    messages: [{ role: 'user' as const, content: 'hello' }],
    ...own({ temperature: 0 }),
  };

  it('gets the answer that a chat completion gives', async () => {
    const answer = await client.messages.create(ask);
    const chat = await clientOf(stack).chat.completions.create({
      model: ADAPTER,
      max_tokens: 8,
      temperature: 0,
      messages: [{ role: 'system', content: 'Be brief.' }, ...ask.messages],
    });
    expect(answer).toMatchObject({
      ...{ type: 'message', role: 'assistant', model: ADAPTER, stop_sequence: null },
      content: [{ type: 'text', text: chat.choices[0]?.message.content }],
      stop_reason: chat.choices[0]?.finish_reason === 'length' ? 'max_tokens' : 'end_turn',
      usage: { input_tokens: chat.usage?.prompt_tokens, output_tokens: chat.usage?.completion_tokens },
    });
    expect(answer.id).toMatch(/^msg_/);
  });

  it('streams it: the helper puts together what a whole answer is', async () => {
    const whole = await client.messages.create(ask);
    const stream = client.messages.stream(ask);
    const kinds: string[] = [];
    let text = '';
    stream.on('streamEvent', ({ type }) => kinds.push(type));
    stream.on('text', (piece) => (text += piece));
    const final = await stream.finalMessage();
    expect({ ...final, id: '' }).toMatchObject({
      content: whole.content,
      stop_reason: whole.stop_reason,
      usage: whole.usage,
    });
    expect(whole.content).toMatchObject([{ text }]);
    expect(kinds[0]).toBe('message_start');
    expect(kinds.slice(-3)).toEqual(['content_block_stop', 'message_delta', 'message_stop']);
  });

  it('takes a conversation in blocks, with thoughts and marks for a cache, as plain text', async () => {
    const plain = await client.messages.create({
      ...ask,
      messages: [
        { role: 'user', content: 'hello' },
        { role: 'assistant', content: 'Hi.' },
        { role: 'user', content: 'a dry cough' },
      ],
    });
    const blocks = await client.messages.create({
      ...ask,
      system: [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral' } }],
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'hello', cache_control: { type: 'ephemeral' } }] },
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 'They greet.', signature: 's' },
            { type: 'text', text: 'Hi.' },
          ],
        },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a dry ' },
            { type: 'text', text: 'cough' },
          ],
        },
      ],
    });
    expect(blocks.content).toEqual(plain.content);
    expect(blocks.usage).toEqual(plain.usage);
  });

  it('has an answer go on that it has begun', async () => {
    const begun = [...ask.messages, { role: 'assistant' as const, content: '{"name": ' }];
    const chat = await clientOf(stack).chat.completions.create({
      ...{ model: ADAPTER, max_tokens: 8, temperature: 0 },
      messages: [{ role: 'system', content: ask.system }, ...begun],
      ...own({ continue_final_message: true }),
    });
    const answer = await client.messages.create({ ...ask, messages: begun });
    expect(answer.content).toEqual([{ type: 'text', text: chat.choices[0]?.message.content }]);
    expect(answer.usage.input_tokens).toBe(chat.usage?.prompt_tokens);
    const { input_tokens: counted } = await client.messages.countTokens({
      ...{ model: ADAPTER, system: ask.system, messages: begun },
    });
    expect(counted).toBe(chat.usage?.prompt_tokens);
    // A call, or thoughts alone, are no beginning.
    const called = {
      role: 'assistant' as const,
      content: [{ type: 'tool_use' as const, id: 't1', name: 'get', input: {} }],
    };
    await client.messages.create({ ...ask, messages: [...ask.messages, called] });
  });

  it('counts tokens before it asks', async () => {
    const { input_tokens: counted } = await client.messages.countTokens({
      model: ADAPTER,
      system: ask.system,
      messages: ask.messages,
    });
    expect((await client.messages.create(ask)).usage.input_tokens).toBe(counted);
  });

  it('says which of the texts has ended it', async () => {
    const spoken = (await client.messages.create(ask)).content[0];
    if (spoken?.type !== 'text') throw new Error('no text');
    const stop = spoken.text.slice(1, 3);
    const stops = { ...ask, stop_sequences: ['never said', stop] };
    const ended = { stop_reason: 'stop_sequence', stop_sequence: stop };
    expect(await client.messages.create(stops)).toMatchObject(ended);
    expect(await client.messages.stream(stops).finalMessage()).toMatchObject(ended);
  });

  it('says what served, and for whom', async () => {
    const { response } = await client.messages
      .create({ ...ask, metadata: { user_id: 'alice-7' } })
      .withResponse();
    expect(response.headers.get('x-graft-adapter')).toBe(`${ADAPTER}@1`);
  });

  it.each<[string, object, number, string]>([
    ['a model that is none', { model: 'nobody' }, 404, 'not_found_error'],
    ['no limit of tokens', { max_tokens: undefined }, 400, 'invalid_request_error'],
    [
      'a picture',
      { messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'url', url: 'u' } }] }] },
      400,
      'invalid_request_error',
    ],
    [
      'a conversation beyond the context',
      { messages: [{ role: 'user', content: 'x'.repeat(5_000) }] },
      400,
      'invalid_request_error',
    ],
  ])('is refused %s, in the words that it knows', async (_what, change, status, type) => {
    const called = client.messages.create({ ...ask, ...change });
    await expect(called).rejects.toMatchObject({ status, error: { type: 'error', error: { type } } });
    await expect(called).rejects.toBeInstanceOf(Anthropic.APIError);
  });

  it('is refused without a key, and with one that is not known', async () => {
    for (const apiKey of [
      'gk_none',
      `${stack.apiKey.slice(0, -1)}${stack.apiKey.endsWith('x') ? 'y' : 'x'}`,
    ]) {
      const stranger = new Anthropic({ baseURL: stack.baseURL.replace('/v1', ''), apiKey, maxRetries: 0 });
      await expect(stranger.messages.create(ask)).rejects.toBeInstanceOf(Anthropic.AuthenticationError);
    }
  });

  it('is told of an error in the middle of a stream', async () => {
    let steps = 0;
    const failing = await startConformanceStack({
      runner: {
        duringStep: () => {
          steps += 1;
          if (steps > 2) throw new Error('broken');
        },
      },
    });
    const other = new Anthropic({
      baseURL: failing.baseURL.replace('/v1', ''),
      apiKey: failing.apiKey,
      maxRetries: 0,
    });
    const stream = other.messages.stream({ ...ask, ...own({ seed: 1 }) });
    await expect(stream.finalMessage()).rejects.toMatchObject({
      error: { type: 'error', error: { type: 'api_error' } },
    });
    await failing.stop();
  });
});
