import Anthropic from '@anthropic-ai/sdk';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';
import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { saying } from '../gpu-origin/http/scripted.ts';
import { ADAPTER, clientOf, startConformanceStack, type ConformanceStack } from './stack.ts';

const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city":"Paris"}}\n</tool_call>';
const RESULT = '18 degrees in Paris';
const ANSWER = 'It is 18 degrees.';
const parameters = {
  type: 'object' as const,
  properties: { city: { type: 'string' as const } },
  required: ['city'],
  additionalProperties: false,
};
const question = { role: 'user' as const, content: 'Weather in Paris?' };

/** The model calls the function, and answers when it has the result. */
describe('tools through the edge', () => {
  let stack: ConformanceStack;
  let client: OpenAI;
  beforeAll(async () => {
    stack = await startConformanceStack({
      runner: saying([
        [`<tool_response>\n${RESULT}`, ANSWER],
        ['Describe', '{"city": "Rome"'],
        ['Weather', CALL],
      ]),
    });
    client = clientOf(stack);
  });
  afterAll(() => stack.stop());

  const tools = [{ type: 'function' as const, function: { name: 'weather', parameters, strict: true } }];
  const common = { model: ADAPTER, temperature: 0 };

  it('are called with openai, and the answer comes of their results', async () => {
    const first = await client.chat.completions.create({ ...common, messages: [question], tools });
    const { message, finish_reason } = first.choices[0]!;
    expect([finish_reason, message.content]).toEqual(['tool_calls', null]);
    const [call] = message.tool_calls!;
    expect(call).toMatchObject({ function: { name: 'weather', arguments: '{"city":"Paris"}' } });
    const second = await client.chat.completions.create({
      ...common,
      messages: [question, message, { role: 'tool', tool_call_id: call!.id, content: RESULT }],
      tools,
    });
    expect(second.choices[0]!.message.content).toBe(ANSWER);
  });

  it('are called in a stream of openai', async () => {
    const stream = client.chat.completions.stream({ ...common, messages: [question], tools });
    const message = await stream.finalMessage();
    expect(message.tool_calls).toMatchObject([
      { type: 'function', function: { name: 'weather', arguments: '{"city":"Paris"}' } },
    ]);
  });

  describe('of Anthropic’s client', () => {
    const ask = {
      ...{ model: ADAPTER, max_tokens: 200, messages: [question] },
      tools: [{ name: 'weather', description: 'Of a city.', input_schema: parameters }],
    };
    const anthropic = () =>
      new Anthropic({ baseURL: stack.baseURL.replace('/v1', ''), apiKey: stack.apiKey, maxRetries: 0 });
    const called = { type: 'tool_use', name: 'weather', input: { city: 'Paris' } };

    it('are called, and the answer comes of their results', async () => {
      const client = anthropic();
      const first = await client.messages.create(ask);
      expect(first).toMatchObject({ stop_reason: 'tool_use', content: [called] });
      const [call] = first.content;
      if (call?.type !== 'tool_use') throw new Error('no call');
      const second = await client.messages.create({
        ...ask,
        messages: [
          question,
          { role: 'assistant', content: first.content },
          { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: RESULT }] },
        ],
      });
      expect(second).toMatchObject({ stop_reason: 'end_turn', content: [{ type: 'text', text: ANSWER }] });
    });

    it('are called in a stream', async () => {
      const stream = anthropic().messages.stream(ask);
      const kinds: string[] = [];
      stream.on('streamEvent', (event) => kinds.push(event.type));
      const final = await stream.finalMessage();
      expect(final).toMatchObject({ stop_reason: 'tool_use', content: [called] });
      expect(kinds.filter((kind) => kind !== 'content_block_delta')).toEqual([
        ...['message_start', 'content_block_start', 'content_block_stop', 'message_delta', 'message_stop'],
      ]);
    });

    it('leave the answer without a call to its schema', async () => {
      const client = anthropic();
      const describe = {
        ...{ model: ADAPTER, max_tokens: 200, messages: [{ role: 'user' as const, content: 'Describe' }] },
      };
      const format = { type: 'json_schema' as const, schema: parameters };
      const parsed = await client.messages.parse({ ...describe, output_config: { format } });
      expect(JSON.parse(parsed.content.map((block) => ('text' in block ? block.text : '')).join(''))).toEqual(
        {
          city: 'Rome',
        },
      );
      const unheld = { ...format, schema: { not: parameters } };
      for (const fields of [{ output_config: { format: unheld } }, { output_format: unheld }])
        await expect(client.messages.create({ ...describe, ...fields })).rejects.toMatchObject({
          status: 400,
          error: { error: { code: 'unsupported_parameter' } },
        });
    });

    it('are held to their schema where they are strict, or refused', async () => {
      const strict = (input_schema: Anthropic.Tool['input_schema']) => ({
        ...ask,
        tools: [{ name: 'weather', input_schema, strict: true }],
      });
      expect(await anthropic().messages.create(strict(parameters))).toMatchObject({ content: [called] });
      const unheld = { type: 'object' as const, properties: { city: { not: {} } } };
      await expect(anthropic().messages.create(strict(unheld))).rejects.toMatchObject({
        status: 400,
        error: { error: { code: 'unsupported_parameter' } },
      });
    });

    it('are called because they have to be, by their name, or not at all', async () => {
      const client = anthropic();
      for (const tool_choice of [{ type: 'any' } as const, { type: 'tool', name: 'weather' } as const])
        expect(await client.messages.create({ ...ask, tool_choice })).toMatchObject({
          stop_reason: 'tool_use',
          content: [called],
        });
      const none = await client.messages.create({ ...ask, tool_choice: { type: 'none' } });
      expect(none.content.every(({ type }) => type === 'text')).toBe(true);
    });
  });

  const responseTools = [{ type: 'function' as const, name: 'weather', parameters, strict: true }];

  it('are called with responses', async () => {
    const first = await client.responses.create({ ...common, input: [question], tools: responseTools });
    const [call] = first.output;
    expect(first.output).toMatchObject([
      { type: 'function_call', status: 'completed', name: 'weather', arguments: '{"city":"Paris"}' },
    ]);
    if (call?.type !== 'function_call') throw new Error('no call');
    const second = await client.responses.create({
      ...common,
      input: [question, call, { type: 'function_call_output', call_id: call.call_id, output: RESULT }],
      tools: responseTools,
    });
    expect(second.output_text).toBe(ANSWER);
  });

  it('are called in a stream of responses, item by item', async () => {
    const stream = client.responses.stream({ ...common, input: [question], tools: responseTools });
    const types: string[] = [];
    let said = '';
    for await (const event of stream) {
      if (types.at(-1) !== event.type) types.push(event.type);
      if (event.type === 'response.function_call_arguments.delta') said += event.delta;
      if (event.type === 'response.function_call_arguments.done') expect(event.arguments).toBe(said);
    }
    expect(said).toBe('{"city":"Paris"}');
    expect(types).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.function_call_arguments.delta',
      'response.function_call_arguments.done',
      'response.output_item.done',
      'response.completed',
    ]);
    expect((await stream.finalResponse()).output).toMatchObject([{ type: 'function_call', name: 'weather' }]);
  });

  const model = () =>
    createOpenAICompatible({
      name: 'graft',
      baseURL: stack.baseURL,
      apiKey: stack.apiKey,
      supportsStructuredOutputs: true,
    })(ADAPTER);
  const weather = tool({
    inputSchema: jsonSchema<{ city: string }>(parameters),
    execute: async () => RESULT,
  });

  it('are run by the AI SDK until there is an answer, streamed and not', async () => {
    const settings = {
      model: model(),
      messages: [question],
      temperature: 0,
      maxRetries: 0,
      tools: { weather },
      stopWhen: stepCountIs(3),
    };
    const whole = await generateText(settings);
    expect([whole.text, whole.steps.length]).toEqual([ANSWER, 2]);
    const stream = streamText(settings);
    let text = '';
    for await (const piece of stream.textStream) text += piece;
    expect([text, (await stream.steps).length]).toEqual([ANSWER, 2]);
  });

  it('gives the AI SDK an object by its schema', async () => {
    const { object } = await generateObject({
      model: model(),
      prompt: 'Describe',
      temperature: 0,
      maxRetries: 0,
      schema: jsonSchema<{ city: string }>(parameters),
    });
    expect(object).toEqual({ city: 'Rome' });
  });
});
