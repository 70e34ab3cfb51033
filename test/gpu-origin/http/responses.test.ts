import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ChatCompletion, ModelResponse, ResponseEvent } from '../../../protocol/completion-answers.ts';
import { startTestOrigin, type Origin } from './harness.ts';

describe('responses', () => {
  let origin: Origin;
  beforeAll(async () => {
    origin = await startTestOrigin();
  });
  afterAll(() => origin.stop());

  const ask = {
    model: 'alice/notes',
    input: 'hello',
    temperature: 0,
    max_output_tokens: 6,
    ignore_eos: true,
  };
  const post = (fields: object = {}, from = origin) =>
    fetch(`${from.url}/v1/responses`, { method: 'POST', body: JSON.stringify({ ...ask, ...fields }) });
  const whole = async (fields: object = {}) => (await (await post(fields)).json()) as ModelResponse;
  const streamed = async (fields: object = {}, from = origin) => {
    const response = await post({ ...fields, stream: true }, from);
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const text = await response.text();
    const names = [...text.matchAll(/^event: (.*)$/gm)].map(([, name]) => name);
    const data = text
      .split('\n\n')
      .flatMap((event) => event.split('\n').filter((line) => line.startsWith('data: ')))
      .map((line) => JSON.parse(line.slice(6)) as ResponseEvent);
    expect(names).toEqual(data.map(({ type }) => type));
    expect(data.map((event) => event.sequence_number)).toEqual([...data.keys()]);
    return data;
  };
  const partOf = ({ output: [item] }: ModelResponse) =>
    item?.type === 'message' ? item.content[0] : undefined;
  const textOf = (response: ModelResponse) => partOf(response)?.text;

  it('answers with the text of a chat, and reports that nothing is stored', async () => {
    const chat = (await (
      await fetch(`${origin.url}/v1/chat/completions`, {
        method: 'POST',
        body: JSON.stringify({
          model: 'alice/notes',
          messages: [
            { role: 'system', content: 'be kind' },
            { role: 'user', content: 'hello' },
          ],
          max_tokens: 6,
          temperature: 0,
          ignore_eos: true,
        }),
      })
    ).json()) as ChatCompletion;
    const response = await whole({ instructions: 'be kind', store: true, metadata: { a: 'b' }, user: 'u' });
    expect(textOf(response)).toBe(chat.choices[0]?.message.content);
    expect(response).toMatchObject({
      object: 'response',
      model: 'alice/notes',
      status: 'incomplete',
      incomplete_details: { reason: 'max_output_tokens' },
      store: false,
      instructions: 'be kind',
      metadata: { a: 'b' },
      user: 'u',
      error: null,
      usage: {
        input_tokens: chat.usage.prompt_tokens,
        output_tokens: 6,
        total_tokens: chat.usage.total_tokens,
      },
    });
    expect(response.id).toMatch(/^resp_[0-9a-f]{32}$/);
    expect(response.output[0]?.id).toMatch(/^msg_[0-9a-f]{32}$/);
    expect(response.output[0]?.status).toBe('incomplete');
  });

  it('accepts items of every role, including an answer sent back', async () => {
    const first = await whole();
    const response = await whole({
      input: [
        { role: 'developer', content: 'be kind' },
        { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'hello' }] },
        ...first.output,
        { role: 'user', content: 'and?' },
      ],
    });
    expect(response.usage?.input_tokens).toBeGreaterThan(first.usage?.input_tokens ?? Infinity);
    const same = await whole({ input: [{ role: 'user', content: [{ type: 'input_text', text: 'hello' }] }] });
    expect(textOf(same)).toBe(textOf(first));
  });

  it('streams the whole sequence of events, with the same ids from first to last', async () => {
    const answer = await whole();
    const all = await streamed();
    const deltas = all.filter((event) => event.type === 'response.output_text.delta');
    expect(all.map(({ type }) => type)).toEqual([
      'response.created',
      'response.in_progress',
      'response.output_item.added',
      'response.content_part.added',
      ...deltas.map(({ type }) => type),
      'response.output_text.done',
      'response.content_part.done',
      'response.output_item.done',
      'response.incomplete',
    ]);
    expect(deltas.map((event) => event.delta).join('')).toBe(textOf(answer));
    const responses = all.flatMap((event) => ('response' in event ? [event.response] : []));
    expect(new Set(responses.map(({ id }) => id)).size).toBe(1);
    const final = responses.at(-1)!;
    expect({ ...final, id: '', output: [], created_at: 0 }).toEqual({
      ...answer,
      id: '',
      output: [],
      created_at: 0,
    });
    const items = all.flatMap((event) =>
      'item' in event ? [event.item.id] : 'item_id' in event ? [event.item_id] : [],
    );
    expect(new Set([...items, final.output[0]?.id]).size).toBe(1);
    const done = all.flatMap((event) => (event.type === 'response.output_item.done' ? [event.item] : []));
    expect(done).toEqual(final.output);
    expect(textOf(final)).toBe(textOf(answer));
  });

  it('ends with completed if the model stops by itself', async () => {
    // A bias makes the end-of-sequence token the most likely.
    const fields = { ignore_eos: false, logit_bias: { [String(origin.tokenizer.eosIds[0])]: 100 } };
    expect(await whole(fields)).toMatchObject({
      status: 'completed',
      incomplete_details: null,
      completed_at: expect.any(Number),
      output: [{ status: 'completed', content: [{ text: '' }] }],
    });
    const all = await streamed(fields);
    expect(all.at(-1)).toMatchObject({ type: 'response.completed', response: { status: 'completed' } });
    expect(all.some(({ type }) => type === 'response.output_text.delta')).toBe(false);
  });

  it('returns log-probabilities if include asks for them', async () => {
    const fields = { include: ['message.output_text.logprobs'], top_logprobs: 2 };
    const answer = await whole(fields);
    const logprobs = partOf(answer)?.logprobs ?? [];
    expect(logprobs).toHaveLength(6);
    expect(logprobs[0]?.top_logprobs).toHaveLength(2);
    const deltas = (await streamed(fields)).flatMap((event) =>
      event.type === 'response.output_text.delta' ? event.logprobs : [],
    );
    expect(deltas).toEqual(logprobs);
    expect(partOf(await whole({ top_logprobs: 2 }))?.logprobs).toEqual([]);
  });

  it('reports a failure in the stream, with the text so far', async () => {
    let steps = 0;
    const failing = await startTestOrigin({
      runner: {
        duringStep: () => {
          steps += 1;
          if (steps === 6) throw new Error('the model broke');
        },
      },
    });
    try {
      const all = await streamed({ max_output_tokens: 50 }, failing);
      expect(all.at(-1)).toMatchObject({
        type: 'response.failed',
        response: { status: 'failed', error: { code: 'server_error' }, incomplete_details: null },
      });
      const client = new OpenAI({ baseURL: `${failing.url}/v1`, apiKey: 'none', maxRetries: 0 });
      steps = 0;
      const stream = client.responses.stream({ model: 'alice/notes', input: 'hello', max_output_tokens: 50 });
      expect((await stream.finalResponse()).status).toBe('failed');
    } finally {
      await failing.stop();
    }
  });

  it.each<[object, number, string, string]>([
    [{ previous_response_id: 'resp_1' }, 400, 'unsupported_parameter', 'previous_response_id'],
    [{ tools: [{ type: 'web_search' }] }, 400, 'unsupported_parameter', 'tools[0].type'],
    [{ background: true }, 400, 'unsupported_parameter', 'background'],
    [{ temperature: 3 }, 400, 'invalid_request', 'temperature'],
    [{ input: 'x '.repeat(4_000) }, 400, 'context_length_exceeded', 'input'],
  ])('refuses %j', async (fields, status, code, param) => {
    for (const stream of [false, true]) {
      const response = await post({ ...fields, stream });
      expect(response.status).toBe(status);
      expect(await response.json()).toMatchObject({ error: { code, param } });
      expect(response.headers.get('x-should-retry')).toBe('false');
    }
  });

  it.each([
    ['GET', '/v1/responses/resp_1', 404, 'not_found'],
    ['DELETE', '/v1/responses/resp_1', 404, 'not_found'],
    ['GET', '/v1/responses', 405, 'method_not_allowed'],
    ['POST', '/v1/moderations', 404, 'unknown_url'],
    ['POST', '/v1/audio/speech', 404, 'unknown_url'],
  ])('%s %s is %i %s', async (method, path, status, code) => {
    const response = await fetch(origin.url + path, { method });
    expect(response.status).toBe(status);
    expect(response.headers.get('x-request-id')).toMatch(/^req_/);
    expect(await response.json()).toMatchObject({ error: { code } });
  });

  it('leaves nothing behind', () => {
    expect(origin.faults).toEqual([]);
    expect(origin.runner.misuses).toEqual([]);
  });
});
