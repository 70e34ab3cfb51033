import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  TextCompletion,
} from '../../../protocol/completion-answers.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { tinyMetadata } from '../model-tokenizer/tiny-tokenizer.ts';
import { events, startTestOrigin, type Origin } from './harness.ts';

describe('completions', () => {
  let origin: Origin;
  beforeAll(async () => {
    origin = await startTestOrigin();
  });
  afterAll(() => origin.stop());

  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(origin.url + path, {
      method: 'POST',
      body: typeof body === 'string' ? body : JSON.stringify(body),
      headers,
    });
  const ask = {
    model: 'fake',
    messages: [{ role: 'user', content: 'hello' }],
    max_tokens: 6,
    ignore_eos: true,
    temperature: 0,
  };
  const chat = (fields: object = {}) => post('/v1/chat/completions', { ...ask, ...fields });
  const text = (fields: object = {}) =>
    post('/v1/completions', {
      model: 'fake',
      prompt: 'hello world',
      max_tokens: 4,
      ignore_eos: true,
      temperature: 0,
      ...fields,
    });

  it('answers a chat with every field that the specification requires', async () => {
    const response = await chat();
    expect(response.status).toBe(200);
    const body = (await response.json()) as ChatCompletion;
    expect(body).toMatchObject({
      object: 'chat.completion',
      model: 'fake',
      choices: [
        { index: 0, message: { role: 'assistant', refusal: null }, logprobs: null, finish_reason: 'length' },
      ],
    });
    expect(body.id).toMatch(/^chatcmpl-[0-9a-f]{32}$/);
    expect(Number.isInteger(body.created)).toBe(true);
    const { prompt_tokens: prompt, completion_tokens: completion, total_tokens: total } = body.usage;
    expect([completion, total]).toEqual([6, prompt + 6]);
  });

  it('streams the same text: role first, then pieces, the reason, [DONE]', async () => {
    const whole = (await (await chat()).json()) as ChatCompletion;
    const response = await chat({ stream: true });
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    const data = events(await response.text());
    expect(data.pop()).toBe('[DONE]');
    const chunks = data.map((one) => JSON.parse(one) as ChatCompletionChunk);
    expect(chunks[0]?.choices[0]?.delta).toEqual({ role: 'assistant', content: '' });
    expect(chunks.at(-1)?.choices[0]).toEqual({
      index: 0,
      delta: {},
      logprobs: null,
      finish_reason: 'length',
    });
    expect(chunks.slice(0, -1).every((chunk) => chunk.choices[0]?.finish_reason === null)).toBe(true);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(
      whole.choices[0]?.message.content,
    );
    expect(new Set(chunks.map((chunk) => chunk.id)).size).toBe(1);
    expect(chunks.some((chunk) => 'usage' in chunk)).toBe(false);
  });

  it('sends usage only if requested: null at first, then in a chunk without choices', async () => {
    const data = events(await (await chat({ stream: true, stream_options: { include_usage: true } })).text());
    const chunks = data.slice(0, -1).map((one) => JSON.parse(one) as ChatCompletionChunk);
    const last = chunks.pop();
    expect(last).toMatchObject({ choices: [], usage: { completion_tokens: 6 } });
    expect(chunks.every((chunk) => chunk.usage === null)).toBe(true);
  });

  it('returns log-probabilities of chats, streamed or not', async () => {
    const fields = { logprobs: true, top_logprobs: 3 };
    const whole = (await (await chat(fields)).json()) as ChatCompletion;
    const content = whole.choices[0]?.logprobs?.content ?? [];
    expect(content).toHaveLength(6);
    for (const token of content) {
      expect(token.top_logprobs).toHaveLength(3);
      expect(token.logprob).toBeLessThanOrEqual(0);
      // Greedy: the chosen token is the most likely.
      expect(token.top_logprobs[0]?.logprob).toBe(token.logprob);
      expect(Array.isArray(token.bytes)).toBe(true);
    }
    const data = events(await (await chat({ ...fields, stream: true })).text()).slice(0, -1);
    const streamed = data.flatMap(
      (one) => (JSON.parse(one) as ChatCompletionChunk).choices[0]?.logprobs?.content ?? [],
    );
    expect(streamed).toEqual(content);
  });

  it('scores an echoed prompt', async () => {
    const body = (await (await text({ echo: true, logprobs: 2, max_tokens: 0 })).json()) as TextCompletion;
    const choice = body.choices[0]!;
    expect(body.id).toMatch(/^cmpl-/);
    expect(choice).toMatchObject({ text: 'hello world', finish_reason: 'length' });
    expect(choice.logprobs?.tokens).toEqual(['hello', ' world']);
    expect(choice.logprobs?.text_offset).toEqual([0, 5]);
    expect(choice.logprobs?.token_logprobs[0]).toBeNull();
    expect(choice.logprobs?.top_logprobs[0]).toBeNull();
    expect(Object.keys(choice.logprobs?.top_logprobs[1] ?? {})).toContain(' world');
    expect(body.usage).toEqual({ prompt_tokens: 2, completion_tokens: 0, total_tokens: 2 });
  });

  it('counts a character that spans tokens once in text_offset', async () => {
    const prompt = 'né 🙂!';
    const body = (await (
      await text({ prompt, echo: true, logprobs: 0, max_tokens: 0 })
    ).json()) as TextCompletion;
    const { tokens, text_offset: offsets } = body.choices[0]!.logprobs!;
    expect(tokens.length).toBeGreaterThan([...prompt].length);
    expect(tokens.at(-1)).toBe('!');
    expect(offsets.at(-1)).toBe(prompt.indexOf('!'));
    expect(offsets).toEqual([...offsets].sort((a, b) => a - b));
  });

  it('echoes token ids as text, with characters that span tokens, and counts them in text_offset', async () => {
    const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
    const prompt = tokenizer.encode('<|im_start|>né 🙂!<|im_end|> ok', { allowSpecial: true });
    const echoed = { prompt, echo: true, max_tokens: 0 };
    const { choices } = (await (await text({ ...echoed, logprobs: 0 })).json()) as TextCompletion;
    const { text: said, logprobs } = choices[0]!;
    expect(said).toBe('né 🙂! ok');
    const { tokens, text_offset: offsets } = logprobs!;
    expect(offsets[tokens.indexOf('<|im_start|>')]).toBe(0);
    expect(offsets[tokens.indexOf('n')]).toBe(0);
    expect(offsets[tokens.indexOf('!')]).toBe(said.indexOf('!'));
    expect(offsets[tokens.indexOf('<|im_end|>') + 1]).toBe(said.indexOf(' ok'));
    const list = (await (await text({ ...echoed, prompt: [prompt] })).json()) as TextCompletion;
    expect(list.choices[0]!.text).toBe(said);
  });

  it('does not count tokens before the text in text_offset', async () => {
    const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
    const prefixIds = [tokenizer.controlTokens.get('<|im_start|>')!];
    const other = await startTestOrigin({ services: { tokenizer: { ...tokenizer, prefixIds } } });
    const body = { model: 'alice/notes', prompt: 'hello world', echo: true, logprobs: 0, max_tokens: 0 };
    const response = await fetch(`${other.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify(body),
    });
    expect(((await response.json()) as TextCompletion).choices[0]).toMatchObject({
      text: 'hello world',
      logprobs: { tokens: ['<|im_start|>', 'hello', ' world'], text_offset: [0, 0, 5] },
    });
    await other.stop();
  });

  it.each([
    [true, [0, 0]],
    [false, [0, 12]],
  ])('counts control tokens in text_offset where the text has them: not with %s', async (skip, offsets) => {
    const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
    const id = tokenizer.controlTokens.get('<|im_start|>')!;
    const fields = { logprobs: 0, max_tokens: 2, logit_bias: { [id]: 100 }, skip_special_tokens: skip };
    const { choices } = (await (await text(fields)).json()) as TextCompletion;
    expect(choices[0]).toMatchObject({
      text: skip ? '' : '<|im_start|><|im_start|>',
      logprobs: { tokens: ['<|im_start|>', '<|im_start|>'], text_offset: offsets },
    });
  });

  it.each([{}, { echo: true }, { echo: true, logprobs: 1 }, { logprobs: 0 }])(
    'streams texts with the same text as whole answers: %j',
    async (fields) => {
      const whole = ((await (await text(fields)).json()) as TextCompletion).choices[0]!;
      const data = events(await (await text({ ...fields, stream: true })).text());
      expect(data.pop()).toBe('[DONE]');
      const choices = data.map((one) => (JSON.parse(one) as TextCompletion).choices[0]!);
      expect(choices.map((choice) => choice.text).join('')).toBe(whole.text);
      expect(choices.flatMap((choice) => choice.logprobs?.token_logprobs ?? [])).toEqual(
        whole.logprobs?.token_logprobs ?? [],
      );
      expect(choices.flatMap((choice) => choice.logprobs?.text_offset ?? [])).toEqual(
        whole.logprobs?.text_offset ?? [],
      );
      expect(choices.at(-1)?.finish_reason).toBe('length');
    },
  );

  it('accepts token ids, and reads special strings in raw prompts as tokens', async () => {
    const usage = async (prompt: unknown) =>
      ((await (await text({ prompt })).json()) as TextCompletion).usage?.prompt_tokens;
    expect(await usage('<|im_start|>hello<|im_end|>')).toBe(3);
    expect(await usage([1, 2, 3, 4])).toBe(4);
    const bad = await text({ prompt: [1, 999_999] });
    expect(await bad.json()).toMatchObject({ error: { code: 'invalid_request', param: 'prompt[1]' } });
  });

  it('does not read special strings in messages as tokens', async () => {
    const tokens = async (content: string) => {
      const response = await chat({ messages: [{ role: 'user', content }] });
      return ((await response.json()) as ChatCompletion).usage.prompt_tokens;
    };
    expect(await tokens('a<|im_end|>b')).toBeGreaterThan((await tokens('a-b')) + 5);
  });

  it('serves base, name and digest, each with its own adapter', async () => {
    const answer = async (model: string) =>
      ((await (await chat({ model, max_tokens: 12 })).json()) as ChatCompletion).choices[0]?.message.content;
    expect(await answer('base')).toBe(await answer('fake'));
    expect(await answer('alice/notes')).toBe(await answer(origin.adapter));
    expect(await answer('alice/notes')).not.toBe(await answer('base'));
  });

  it('treats developer as system, joins text parts, and obeys max_completion_tokens and seeds', async () => {
    const contentOf = async (fields: object) =>
      ((await (await chat(fields)).json()) as ChatCompletion).choices[0]?.message.content;
    const parts = [
      { type: 'text', text: 'hel' },
      { type: 'text', text: 'lo' },
    ];
    expect(await contentOf({ messages: [{ role: 'user', content: parts }] })).toBe(await contentOf({}));
    expect(await contentOf({ messages: [{ role: 'developer', content: 'x' }] })).toBe(
      await contentOf({ messages: [{ role: 'system', content: 'x' }] }),
    );
    const short = (await (
      await chat({ max_tokens: null, max_completion_tokens: 2 })
    ).json()) as ChatCompletion;
    expect(short.usage.completion_tokens).toBe(2);
    const seeded = { temperature: 1, seed: 5, max_tokens: 10 };
    expect(await contentOf(seeded)).toBe(await contentOf(seeded));
  });

  it.each<[string, string | object, number, string, string | null]>([
    ['no JSON', '{', 400, 'invalid_request', null],
    ['an array', '[]', 400, 'invalid_request', null],
    ['invalid UTF-8', '"\ud800"', 400, 'invalid_request', null],
    ['no messages', { model: 'fake' }, 400, 'invalid_request', 'messages'],
    [
      'a wrong role',
      { ...ask, messages: [{ role: 'robot', content: '' }] },
      400,
      'invalid_request',
      'messages[0].role',
    ],
    ['tools', { ...ask, tools: [{ type: 'function' }] }, 400, 'invalid_request', 'tools[0].function'],
    ['an unknown model', { ...ask, model: 'nobody' }, 404, 'model_not_found', null],
    ['a digest that is not here', { ...ask, model: 'b'.repeat(64) }, 409, 'adapter_missing', null],
    [
      'a prompt that is too long',
      { ...ask, messages: [{ role: 'user', content: 'x '.repeat(400) }] },
      400,
      'context_length_exceeded',
      'messages',
    ],
  ])('refuses %s', async (_what, body, status, code, param) => {
    const response = await post('/v1/chat/completions', body);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({
      error: { code, param, message: expect.any(String), type: expect.any(String) },
    });
  });

  it('drops unknown fields, and refuses them if asked to', async () => {
    const fields = { ...ask, colour: 1, graft: {}, prediction: { type: 'content' }, tools: [], audio: [] };
    const loose = await post('/v1/chat/completions', fields);
    expect(loose.status).toBe(200);
    expect(loose.headers.get('x-graft-ignored')).toBe('colour, graft, prediction, audio');
    const strict = await post('/v1/chat/completions', fields, { 'x-graft-strict-fields': 'true' });
    expect(strict.status).toBe(400);
    expect(await strict.json()).toMatchObject({ error: { code: 'invalid_request', param: 'colour' } });
  });

  it.each([
    ['/v1/chat/completions', { messages: ask.messages, max_tokens: 512 }, 'max_tokens'],
    ['/v1/chat/completions', { messages: ask.messages, max_completion_tokens: 512 }, 'max_completion_tokens'],
    ['/v1/completions', { prompt: 'a', max_tokens: 512 }, 'max_tokens'],
    ['/v1/responses', { input: 'a', max_output_tokens: 512 }, 'max_output_tokens'],
  ])(
    "%s lowers a limit that does not fit, and reports it under the client's name: %j",
    async (path, fields, param) => {
      for (const stream of [false, true]) {
        const response = await post(path, { model: 'fake', ignore_eos: true, stream, ...fields });
        expect(response.status).toBe(200);
        const [, limit] = /^(?:\w+)=(\d+)$/.exec(response.headers.get('x-graft-ignored') ?? '') ?? [];
        expect(response.headers.get('x-graft-ignored')).toBe(`${param}=${limit}`);
        const text = await response.text();
        const [, used] = /"(?:completion|output)_tokens":(\d+)/.exec(text) ?? [];
        // A stream of completions does not report usage here.
        if (used !== undefined) expect(used).toBe(limit);
      }
    },
  );

  it('reports what fits if the prompt is too long, however long', async () => {
    const messageOf = async (content: string) =>
      (
        (await (await chat({ messages: [{ role: 'user', content }] })).json()) as {
          error: { message: string };
        }
      ).error.message;
    for (const content of ['x '.repeat(600), 'x'.repeat(900_000)])
      expect(await messageOf(content)).toContain('maximum context length is 512 tokens. However, the prompt');
  });

  it.each<[string, (n: number) => object, number]>([
    [
      'messages',
      (n) => ({ messages: Array.from({ length: n }, () => ({ role: 'user', content: '' })), max_tokens: 1 }),
      2_048,
    ],
    ['stop', (n) => ({ stop: Array.from({ length: n }, (_v, i) => `s${i}`) }), 32],
    ['stop characters', (n) => ({ stop: 'x'.repeat(n) }), 256],
    ['temperature x 1000', (n) => ({ temperature: n / 1000 }), 2_000],
    ['n', (n) => ({ n }), 8],
  ])('holds the limit of %s at its boundary', async (_what, fields, limit) => {
    // The context is too short for 2,048 messages: it only matters that the field is accepted.
    const codeOf = async (n: number) => {
      const body = (await (await chat(fields(n))).json()) as { error?: { code: string } };
      return body.error?.code ?? 'ok';
    };
    expect(['ok', 'context_length_exceeded']).toContain(await codeOf(limit));
    expect(await codeOf(limit + 1)).toBe('invalid_request');
  });

  it('holds the body limit at its boundary, with and without a length header', async () => {
    const body = (bytes: number) => {
      const empty = JSON.stringify({ ...ask, user: '' });
      return JSON.stringify({ ...ask, messages: [{ role: 'user', content: '' }], user: '' }).replace(
        '"content":""',
        `"content":"${'x'.repeat(bytes - empty.length + 5)}"`,
      );
    };
    const codeOf = async (text: string, chunked: boolean) => {
      const stream = new Blob([text]).stream();
      const response = await fetch(`${origin.url}/v1/chat/completions`, {
        method: 'POST',
        body: chunked ? stream : text,
        duplex: 'half',
      } as RequestInit);
      return ((await response.json()) as { error: { code: string } }).error.code;
    };
    const fits = body(1_000_000);
    expect(fits).toHaveLength(1_000_000);
    for (const chunked of [false, true]) {
      expect(await codeOf(fits, chunked)).toBe('context_length_exceeded');
      expect(await codeOf(`${fits} `, chunked)).toBe('request_too_large');
    }
  });

  it('returns the request id if it is plain, otherwise its own', async () => {
    expect((await chat()).headers.get('x-request-id')).toMatch(/^req_[0-9a-f]{32}$/);
    const idOf = async (id: string) =>
      (await post('/v1/chat/completions', ask, { 'x-request-id': id })).headers.get('x-request-id');
    expect(await idOf('abc-1:2.3_4')).toBe('abc-1:2.3_4');
    expect(await idOf('a'.repeat(128))).toBe('a'.repeat(128));
    for (const bad of ['a'.repeat(129), 'a b', '<script>', 'é']) expect(await idOf(bad)).toMatch(/^req_/);
    expect(
      (await fetch(`${origin.url}/nothing`, { headers: { 'x-request-id': 'me' } })).headers.get(
        'x-request-id',
      ),
    ).toBe('me');
  });

  it('still answers afterwards', async () => {
    expect((await chat()).status).toBe(200);
    expect(origin.faults).toEqual([]);
    expect(origin.runner.misuses).toEqual([]);
  });
});
