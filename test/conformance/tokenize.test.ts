import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADAPTER, startConformanceStack, type ConformanceStack } from './stack.ts';

describe('/tokenize and /detokenize, through the edge and at the origin', () => {
  let stack: ConformanceStack;
  beforeAll(async () => {
    stack = await startConformanceStack();
  });
  afterAll(() => stack.stop());

  const ask = async (path: string, body: object) => {
    const response = await fetch(stack.baseURL.replace('/v1', '') + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    return { status: response.status, json: (await response.json()) as Record<string, unknown> };
  };
  const errorOf = async (path: string, body: object) => {
    const { status, json } = await ask(path, body);
    const { code, param } = json['error'] as { code: string; param: string | null };
    return [status, code, param];
  };

  it('count a text, give its ids and their texts, and turn them back', async () => {
    const text = 'Guten Tag, \u{1f600}!';
    const { status, json } = await ask('/tokenize', {
      model: ADAPTER,
      prompt: text,
      return_token_strs: true,
    });
    expect(status).toBe(200);
    const tokens = json['tokens'] as number[];
    expect(json['count']).toBe(tokens.length);
    expect(json['max_model_len']).toBeGreaterThan(0);
    expect(json['token_strs']).toHaveLength(tokens.length);
    expect((await ask('/detokenize', { tokens })).json).toEqual({ prompt: text });
  });

  it('count what a completion counts', async () => {
    const messages = [{ role: 'user', content: 'hello' }];
    const counted = await ask('/tokenize', { messages });
    const answer = await ask('/v1/chat/completions', { model: ADAPTER, messages, max_tokens: 1 });
    expect((answer.json['usage'] as { prompt_tokens: number }).prompt_tokens).toBe(counted.json['count']);
    const prompt = 'hello there';
    const text = await ask('/v1/completions', { model: ADAPTER, prompt, max_tokens: 1 });
    expect((text.json['usage'] as { prompt_tokens: number }).prompt_tokens).toBe(
      (await ask('/tokenize', { prompt })).json['count'],
    );
  });

  it('take the body of a chat and of a message as it is, the fields for the edge too', async () => {
    const messages = [{ role: 'user', content: 'hello' }];
    const body = { model: ADAPTER, messages, strict: true, adapters: [{ name: ADAPTER, scale: 0.5 }] };
    const alone = await ask('/tokenize', { messages });
    expect(await ask('/tokenize', body)).toEqual(alone);
    const counted = await ask('/v1/messages/count_tokens', body);
    expect(counted).toEqual({ status: 200, json: { input_tokens: alone.json['count'] } });
    expect(await errorOf('/tokenize', { ...body, adapters: 1 })).toEqual([
      400,
      'invalid_request',
      'adapters',
    ]);
  });

  it('count what a response counts, instructions and tools too', async () => {
    const input = [{ role: 'user', content: 'hello' }];
    const tool = { type: 'function', name: 'look', parameters: { type: 'object', properties: {} } };
    const request = { input, instructions: 'Be kind.', tools: [tool], tool_choice: 'auto', strict: true };
    const { status, json } = await ask('/v1/responses/input_tokens', request);
    expect(status).toBe(200);
    expect(json['object']).toBe('response.input_tokens');
    const answer = await ask('/v1/responses', { ...request, model: ADAPTER, max_output_tokens: 1 });
    expect((answer.json['usage'] as { input_tokens: number }).input_tokens).toBe(json['input_tokens']);
    expect(Number(json['input_tokens'])).toBeGreaterThan(
      Number((await ask('/v1/responses/input_tokens', { input })).json['input_tokens']),
    );
  });

  it('count more than the context holds', async () => {
    const { json } = await ask('/tokenize', { prompt: 'x'.repeat(5_000) });
    expect(json['count']).toBeGreaterThan(json['max_model_len'] as number);
  });

  it.each([
    ['/tokenize', {}, 'prompt'],
    ['/tokenize', { prompt: 'a', messages: [{ role: 'user', content: 'a' }] }, 'messages'],
    ['/tokenize', { prompt: 7 }, 'prompt'],
    ['/v1/responses/input_tokens', {}, 'input'],
    ['/detokenize', { tokens: 'abc' }, 'tokens'],
    ['/detokenize', { tokens: [1, -1] }, 'tokens[1]'],
    ['/detokenize', { tokens: [1, 99_999] }, 'tokens[1]'],
  ])('refuse, to %s, %j', async (path, body, param) => {
    expect(await errorOf(path, body)).toEqual([400, 'invalid_request', param]);
  });

  it('want a key, and count as requests', async () => {
    const made = await stack.edge.request('/admin/keys', {
      body: { tenant: 'alice', limits: { requests_per_minute: 1 } },
    });
    const { key } = (await made.json()) as { key: string };
    const statuses = [];
    for (const bearer of ['gk_none', key, key]) {
      const response = await fetch(`${stack.baseURL.replace('/v1', '')}/tokenize`, {
        method: 'POST',
        headers: { authorization: `Bearer ${bearer}` },
        body: '{"prompt":"a"}',
      });
      statuses.push(response.status);
    }
    expect(statuses).toEqual([401, 200, 429]);
  });
});
