import { readFileSync } from 'node:fs';
import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADAPTER, clientOf, startConformanceStack, type ConformanceStack } from './stack.ts';

/** Fields of other servers, which the client's types do not know and passes on. */
const own = (fields: object): object => fields;

/** What asks for nothing, through the edge and the origin behind it: taken, and said in a header. */
describe('fields that are left out', () => {
  let stack: ConformanceStack;
  let client: OpenAI;
  beforeAll(async () => {
    stack = await startConformanceStack({ corsOrigins: ['https://app.example.com'] });
    client = clientOf(stack);
  });
  afterAll(() => stack.stop());

  const chat = { model: ADAPTER, max_tokens: 8, temperature: 0, ...own({ ignore_eos: true }) };
  const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'hello' }];
  const send = (path: string, body: object, headers: Record<string, string> = {}) =>
    fetch(stack.baseURL + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.apiKey}`, 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model: ADAPTER, ...body }),
    });
  const ignoredOf = (response: Response) => response.headers.get('x-graft-ignored');

  it.each([false, true])('are named in the answer; stream: %s', async (stream) => {
    const noted = {
      ...chat,
      messages,
      stream,
      reasoning_effort: 'low' as const,
      ...own({ cache_prompt: true }),
    };
    const { response } = await client.chat.completions.create(noted).withResponse();
    expect(ignoredOf(response)).toBe('reasoning_effort, cache_prompt');
    await response.body?.cancel().catch(() => undefined);
    const plain = await client.chat.completions.create({ ...chat, messages, stream }).withResponse();
    expect(ignoredOf(plain.response)).toBeNull();
  });

  it('change nothing', async () => {
    const plain = await client.chat.completions.create({ ...chat, messages });
    const full = await client.chat.completions.create({
      ...{ ...chat, messages, tools: [], tool_choice: 'none', modalities: ['text'], verbosity: 'low' },
      ...{ parallel_tool_calls: false, response_format: { type: 'text' }, store: false },
      ...own({ provider: { order: [] }, typical_p: 1 }),
    });
    expect(full.choices).toEqual(plain.choices);
    expect(full.usage).toEqual(plain.usage);
  });

  it('a second turn with the answer as the library has it', async () => {
    const first = await client.chat.completions.create({ ...chat, messages });
    const answer = first.choices[0]!.message;
    const plain = { role: 'assistant' as const, content: answer.content };
    const again = (sent: object) =>
      client.chat.completions
        .create({
          ...chat,
          messages: [
            ...messages,
            sent as OpenAI.ChatCompletionMessageParam,
            { role: 'user', content: 'more' },
          ],
        })
        .withResponse();
    const expected = (await again(plain)).data.choices;
    // `model_dump()` of the Python library has every field of its class.
    const unset = { annotations: null, audio: null, function_call: null, tool_calls: null };
    for (const sent of [answer, { ...answer, ...unset }, { ...answer, annotations: [], tool_calls: [] }])
      expect((await again(sent)).data.choices).toEqual(expected);
    const { response } = await again({ ...answer, ...unset, annotations: [], reasoning_content: 'hm' });
    expect(ignoredOf(response)).toBe('messages[].annotations, messages[].reasoning_content');
  });

  it('a second turn of responses, with the output as it came', async () => {
    const ask = { model: ADAPTER, max_output_tokens: 8, temperature: 0, ...own({ ignore_eos: true }) };
    const first = await client.responses.create({ ...ask, input: 'hello' });
    const turn = (output: object[]) =>
      client.responses
        .create({
          ...ask,
          include: ['reasoning.encrypted_content'],
          input: [
            { role: 'user', content: 'hello' },
            ...(output as OpenAI.Responses.ResponseInputItem[]),
            { role: 'user', content: 'more' },
          ],
        })
        .withResponse();
    const plain = await turn([{ role: 'assistant', content: first.output_text }]);
    const thought = { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'x' };
    const again = await turn([thought, ...first.output]);
    expect(again.data.output_text).toBe(plain.data.output_text);
    expect(again.data.usage).toEqual(plain.data.usage);
    expect(ignoredOf(again.response)).toBe(
      'input[].reasoning, input[].id, input[].status, ' +
        'input[].content[].annotations, input[].content[].logprobs, include[]',
    );
  });

  it('what the origin lowers is told beside what the edge left out', async () => {
    const response = await send('/chat/completions', {
      messages,
      max_tokens: 100_000,
      ignore_eos: true,
      x: 1,
    });
    expect(response.status).toBe(200);
    const { usage } = (await response.json()) as OpenAI.ChatCompletion;
    expect(ignoredOf(response)).toBe(`x, max_tokens=${usage?.completion_tokens}`);
  });

  it('the header asks for refusals', async () => {
    for (const [path, body, param] of [
      ['/chat/completions', { messages, colour: 1 }, 'colour'],
      ['/chat/completions', { messages: [{ role: 'user', content: 'a', x: 1 }] }, 'messages[0].x'],
      ['/completions', { prompt: 'a', colour: 1 }, 'colour'],
      ['/responses', { input: 'a', colour: 1 }, 'colour'],
    ] as const) {
      const response = await send(path, body, { 'x-graft-strict-fields': 'true' });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ error: { code: 'invalid_request', param } });
      expect((await send(path, body, { 'x-graft-strict-fields': 'false' })).status).toBe(200);
    }
  });

  it('pages in browsers may read what was left out', async () => {
    const response = await send('/completions', { prompt: 'a' }, { origin: 'https://app.example.com' });
    expect(response.headers.get('access-control-expose-headers')).toContain('x-graft-ignored');
  });
});

it('docs/openai-api.md lists the header', () => {
  const page = readFileSync(new URL('../../docs/openai-api.md', import.meta.url), 'utf8');
  expect(page).toMatch(/^\| `x-graft-ignored`/m);
});
