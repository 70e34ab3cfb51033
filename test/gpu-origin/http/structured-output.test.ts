import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { events, startTestOrigin, type Origin } from './harness.ts';

let origin: Origin;
beforeEach(async () => {
  origin = await startTestOrigin();
});
afterEach(async () => {
  expect(origin.faults).toEqual([]);
  await origin.stop();
});

const post = (path: string, body: object): Promise<Response> =>
  fetch(origin.url + path, { method: 'POST', body: JSON.stringify({ model: 'fake', ...body }) });
const chat = async (
  body: object,
): Promise<{ choices: { message: { content: string }; finish_reason: string }[] }> =>
  (await (
    await post('/v1/chat/completions', {
      messages: [{ role: 'user', content: 'Hi' }],
      max_tokens: 200,
      ...body,
    })
  ).json()) as never;
const text = async (body: object): Promise<string> => (await chat(body)).choices[0]!.message.content;

const schema = {
  type: 'object',
  properties: { ok: { type: 'boolean' }, size: { enum: ['s', 'm', 'l'] } },
  required: ['ok', 'size'],
  additionalProperties: false,
};
const json_schema = { name: 'x', strict: true, schema };

describe('chat completions', () => {
  it.each([
    [{ response_format: { type: 'json_schema', json_schema } }],
    [{ structured_outputs: { json: schema } }],
    [{ guided_json: JSON.stringify(schema) }],
    [{ response_format: { type: 'json_schema', json_schema }, temperature: 0, logprobs: true }],
    [
      {
        response_format: { type: 'json_schema', json_schema },
        temperature: 2,
        top_p: 0.9,
        top_k: 50,
        min_p: 0.01,
      },
    ],
    [{ response_format: { type: 'json_schema', json_schema }, frequency_penalty: 2, logit_bias: { 5: 100 } }],
    [{ response_format: { type: 'json_schema', json_schema }, ignore_eos: true }],
  ])('answers by the schema: %j', async (body) => {
    const { choices } = await chat(body);
    expect(choices[0]!.finish_reason).toBe('stop');
    const answer = JSON.parse(choices[0]!.message.content) as { ok: unknown; size: unknown };
    expect([true, false]).toContain(answer.ok);
    expect(['s', 'm', 'l']).toContain(answer.size);
  });

  it('follow an expression, a choice, or a grammar', async () => {
    expect(await text({ guided_regex: '[0-9]{3}-[a-c]+z' })).toMatch(/^\d{3}-[abc]+z?$/);
    expect(await text({ structured_outputs: { choice: ['yes', 'no'] } })).toMatch(/^(yes|no)$/);
    expect(await text({ guided_grammar: 'root ::= "1" ("+" "1")?' })).toMatch(/^1(\+1)?$/);
    expect(await text({ response_format: { type: 'text' }, max_tokens: 3 })).not.toBe('');
  });

  it('report length if an answer is cut', async () => {
    const { choices } = await chat({ response_format: { type: 'json_schema', json_schema }, max_tokens: 3 });
    expect(choices[0]!.finish_reason).toBe('length');
  });

  it('constrain each of several choices', async () => {
    const { choices } = await chat({ guided_choice: ['yes', 'no', 'never'], n: 4, seed: 1 });
    for (const { message } of choices) expect(['yes', 'no', 'never']).toContain(message.content);
  });

  it('do not affect the tokens of other rows, nor log-probabilities', async () => {
    const free = { max_tokens: 20, temperature: 1, seed: 3, logprobs: true, top_logprobs: 2 };
    const alone = (await chat(free)).choices;
    const together = await Promise.all([
      chat(free),
      text({ response_format: { type: 'json_schema', json_schema } }),
      text({ guided_regex: '[a-z]{30}' }),
    ]);
    expect(together[0].choices).toEqual(alone);
  });

  it('end at a stop string inside', async () => {
    expect(await text({ guided_choice: ['abcdef'], stop: 'cd' })).toBe('ab');
  });

  it('streams', async () => {
    const response = await post('/v1/chat/completions', {
      messages: [{ role: 'user', content: 'Hi' }],
      stream: true,
      response_format: { type: 'json_schema', json_schema },
    });
    const parts = events(await response.text())
      .filter((event) => event !== '[DONE]')
      .map(
        (event) =>
          (JSON.parse(event) as { choices: { delta: { content?: string } }[] }).choices[0]!.delta.content,
      );
    expect(() => JSON.parse(parts.join('')) as unknown).not.toThrow();
  });

  it.each([
    [
      { response_format: { type: 'json_schema', json_schema: { schema: { not: {} } } } },
      'response_format.json_schema.schema.not',
    ],
    [{ structured_outputs: { regex: '(?=a)' } }, 'structured_outputs.regex'],
    [{ guided_grammar: 'root ::= (' }, 'guided_grammar'],
    [{ response_format: { type: 'json_object' }, guided_regex: 'a' }, 'guided_regex'],
    [{ response_format: { type: 'xml' } }, 'response_format.type'],
    [{ guided_choice: [] }, 'guided_choice'],
  ])('refuses %j by its place', async (body, param) => {
    const response = await post('/v1/chat/completions', {
      messages: [{ role: 'user', content: 'Hi' }],
      ...body,
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param } });
  });
});

describe('other routes', () => {
  it('constrain text completions and responses too', async () => {
    const completion = await post('/v1/completions', { prompt: 'a', guided_choice: ['x', 'y'] });
    expect(await completion.json()).toMatchObject({
      choices: [{ text: expect.stringMatching(/^[xy]$/) as string }],
    });
    const response = await post('/v1/responses', {
      input: 'a',
      text: { format: { type: 'json_schema', name: 'x', schema, strict: true } },
    });
    const body = (await response.json()) as { output: { content: { text: string }[] }[]; text: unknown };
    expect(JSON.parse(body.output[0]!.content[0]!.text)).toHaveProperty('size');
    expect(body.text).toEqual({ format: { type: 'json_schema', name: 'x', schema, strict: true } });
  });
});
