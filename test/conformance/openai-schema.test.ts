import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ResponseEvent } from '../../protocol/completion-answers.ts';
import { problems } from './openai-schema.ts';
import { ADAPTER, startConformanceStack, type ConformanceStack } from './stack.ts';

/** Which schema each of our events must obey. */
const EVENT_SCHEMAS: Record<ResponseEvent['type'], string> = {
  'response.created': 'ResponseCreatedEvent',
  'response.in_progress': 'ResponseInProgressEvent',
  'response.output_item.added': 'ResponseOutputItemAddedEvent',
  'response.content_part.added': 'ResponseContentPartAddedEvent',
  'response.output_text.delta': 'ResponseTextDeltaEvent',
  'response.output_text.done': 'ResponseTextDoneEvent',
  'response.function_call_arguments.delta': 'ResponseFunctionCallArgumentsDeltaEvent',
  'response.function_call_arguments.done': 'ResponseFunctionCallArgumentsDoneEvent',
  'response.content_part.done': 'ResponseContentPartDoneEvent',
  'response.output_item.done': 'ResponseOutputItemDoneEvent',
  'response.completed': 'ResponseCompletedEvent',
  'response.incomplete': 'ResponseIncompleteEvent',
  'response.failed': 'ResponseFailedEvent',
};

const dataOf = (text: string): unknown[] =>
  text
    .split('\n')
    .filter((line) => line.startsWith('data: ') && line !== 'data: [DONE]')
    .map((line) => JSON.parse(line.slice(6)) as unknown);

describe("OpenAI's published schema", () => {
  let stack: ConformanceStack;
  beforeAll(async () => {
    stack = await startConformanceStack();
  });
  afterAll(() => stack.stop());

  const send = (path: string, body?: object, key = stack.apiKey) =>
    fetch(stack.baseURL + path, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${key}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  const common = { model: ADAPTER, temperature: 0.7, seed: 1 };
  const messages = [{ role: 'user', content: 'hello' }];

  it('sees what is wrong and what is too much', () => {
    expect(problems('ErrorResponse', { error: { message: 'm', type: 't', param: null } })).not.toEqual([]);
    expect(problems('Model', { id: 'm', object: 'model', created: 0, owned_by: 'o' })).toEqual([]);
    expect(problems('Model', { id: 'm', object: 'model', created: 0, owned_by: 'o', mine: 1 })).not.toEqual(
      [],
    );
  });

  it.each([
    {},
    { max_tokens: 3 },
    { n: 3, max_completion_tokens: 4 },
    { logprobs: true },
    { logprobs: true, top_logprobs: 5, max_tokens: 4 },
    { frequency_penalty: 1, presence_penalty: 1, logit_bias: { '7': -100 }, stop: ['a', 'e'] },
  ])('chat completions: %j', async (fields) => {
    const body = { ...common, messages, ...fields };
    const whole: unknown = await (await send('/chat/completions', body)).json();
    expect(problems('CreateChatCompletionResponse', whole)).toEqual([]);
    for (const include_usage of [true, false]) {
      const stream = { ...body, stream: true, stream_options: { include_usage } };
      const chunks = dataOf(await (await send('/chat/completions', stream)).text());
      expect(chunks.length).toBeGreaterThan(2);
      for (const chunk of chunks) expect(problems('CreateChatCompletionStreamResponse', chunk)).toEqual([]);
    }
  });

  it.each([{}, { n: 2 }, { logprobs: 3 }, { echo: true, logprobs: 0 }, { echo: true, max_tokens: 0 }])(
    'text completions: %j',
    async (fields) => {
      const body = { ...common, prompt: 'hello', max_tokens: 4, ...fields };
      const whole: unknown = await (await send('/completions', body)).json();
      expect(problems('CreateCompletionResponse', whole)).toEqual([]);
      // The specification has no schema of its own for chunks.
      const chunks = dataOf(await (await send('/completions', { ...body, stream: true })).text());
      for (const chunk of chunks) expect(problems('CreateCompletionResponse', chunk)).toEqual([]);
    },
  );

  it.each([
    {},
    { max_output_tokens: 5 },
    { instructions: 'be kind', metadata: { a: 'b' }, user: 'u', store: true, tool_choice: 'none' },
    { include: ['message.output_text.logprobs'], top_logprobs: 2, max_output_tokens: 4 },
    { logit_bias: { '7': 10 }, safety_identifier: 's', prompt_cache_key: 'p', max_output_tokens: 4 },
  ])('responses: %j', async (fields) => {
    const body = { ...common, input: 'hello', ...fields };
    expect(problems('Response', await (await send('/responses', body)).json())).toEqual([]);
    const sent = dataOf(await (await send('/responses', { ...body, stream: true })).text());
    const seen = sent as ResponseEvent[];
    for (const event of seen) {
      expect(problems(EVENT_SCHEMAS[event.type], event)).toEqual([]);
      if ('response' in event) expect(problems('Response', event.response)).toEqual([]);
    }
    expect(seen.at(-1)?.type).toMatch(/^response\.(completed|incomplete)$/);
  });

  it('a response that failed', async () => {
    let steps = 0;
    const failing = await startConformanceStack({
      runner: {
        duringStep: () => {
          steps += 1;
          if (steps === 6) throw new Error('the model broke');
        },
      },
    });
    try {
      const response = await fetch(`${failing.baseURL}/responses`, {
        method: 'POST',
        headers: { authorization: `Bearer ${failing.apiKey}` },
        body: JSON.stringify({ model: 'base', input: 'hello', ignore_eos: true, stream: true }),
      });
      const last = dataOf(await response.text()).at(-1) as ResponseEvent;
      expect(last.type).toBe('response.failed');
      expect(problems('ResponseFailedEvent', last)).toEqual([]);
    } finally {
      await failing.stop();
    }
  });

  it('models', async () => {
    const list = (await (await send('/models')).json()) as { data: { id: string }[] };
    expect(problems('ListModelsResponse', list)).toEqual([]);
    expect(list.data.map(({ id }) => id)).toEqual(stack.models);
    for (const model of list.data) expect(problems('Model', model)).toEqual([]);
    for (const path of [ADAPTER, encodeURIComponent(ADAPTER), ADAPTER.replace('/', '%2F')]) {
      const model: unknown = await (await send(`/models/${path}`)).json();
      expect(problems('Model', model)).toEqual([]);
      expect(model).toMatchObject({ id: ADAPTER, parent: stack.models[0] });
    }
  });

  it.each<[string, object | undefined, number]>([
    ['/chat/completions', { model: ADAPTER }, 400],
    ['/chat/completions', { model: 'nobody', messages }, 404],
    ['/chat/completions', { model: ADAPTER, messages, functions: [{ name: 'f' }] }, 400],
    ['/responses', { model: ADAPTER, input: 'x', previous_response_id: 'y' }, 400],
    ['/completions', { model: ADAPTER, prompt: 'x', logit_bias: { '999999': 1 } }, 400],
    ['/models/nobody', undefined, 404],
    ['/responses/resp_1', undefined, 404],
    ['/moderations', { model: ADAPTER, input: 'x' }, 404],
    ['/completions', undefined, 405],
  ])('errors: %s %j', async (path, body, status) => {
    const response = await send(path, body);
    expect(response.status).toBe(status);
    expect(problems('ErrorResponse', await response.json())).toEqual([]);
    expect(response.headers.get('x-request-id')).not.toBeNull();
    expect(response.headers.get('x-should-retry')).toBe('false');
  });

  it('an error without a key', async () => {
    const response = await send('/chat/completions', { model: ADAPTER, messages }, 'wrong');
    expect(response.status).toBe(401);
    expect(problems('ErrorResponse', await response.json())).toEqual([]);
  });
});
