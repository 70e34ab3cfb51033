import { describe, expect, it } from 'vitest';
import { parseChatCompletion, parseTextCompletion, takeEdgeFields } from '../../protocol/completion.ts';
import {
  MAX_CONTENT_PARTS,
  MAX_MESSAGES,
  MAX_PROMPTS,
  MAX_STOP_CHARACTERS,
  MAX_STOP_SEQUENCES,
  MAX_TOP_LOGPROBS,
  MAX_COMPOSED,
  MAX_COMPOSED_SCALE,
} from '../../protocol/limits.ts';

const chat = (fields: Record<string, unknown> = {}) =>
  parseChatCompletion({ model: 'm', messages: [{ role: 'user', content: 'hi' }], ...fields });
const text = (fields: Record<string, unknown> = {}) =>
  parseTextCompletion({ model: 'm', prompt: 'hi', ...fields });
const strictly = (fields: Record<string, unknown>) =>
  parseChatCompletion(
    { model: 'm', messages: [{ role: 'user', content: 'hi' }], ...fields },
    { strict: true },
  );
const paramOf = (result: ReturnType<typeof chat> | ReturnType<typeof text>) =>
  result.ok ? undefined : 'param' in result.error ? result.error.param : null;
const messages = (count: number) => Array.from({ length: count }, () => ({ role: 'user', content: 'x' }));

/** Conversation of so many parts, in messages of 64. */
const crowded = (parts: number) =>
  Array.from({ length: Math.ceil(parts / 64) }, (_, at) => ({
    role: 'user',
    content: Array.from({ length: Math.min(64, parts - 64 * at) }, () => ({ type: 'text', text: '' })),
  }));

describe('half a million of anything', () => {
  const many = <T>(item: T) => Array.from({ length: 490_000 }, () => item);

  it('is refused by its first item, or by its number', () => {
    expect(paramOf(text({ prompt: many('a') }))).toBe('prompt');
    expect(paramOf(text({ prompt: [[1], [...many(1), -1]] }))).toBe('prompt[1][490000]');
    expect(paramOf(text({ prompt: [...many(1), -1] }))).toBe('prompt[490000]');
    expect(text({ prompt: many(1) }).ok).toBe(true);
    expect(paramOf(chat({ messages: [{ role: 'user', content: many({}) }] }))).toBe('messages');
    expect(paramOf(chat({ messages: many(1) }))).toBe('messages');
    const fields = Object.fromEntries(many(1).map((one, at) => [`k${at}`, one]));
    expect(chat(fields)).toMatchObject({
      ok: false,
      error: { message: expect.stringContaining('fields') as string },
    });
  });
});

describe('limits, at the boundary', () => {
  it.each([
    ['messages', messages(1), messages(0)],
    ['messages', messages(MAX_MESSAGES), messages(MAX_MESSAGES + 1)],
    ['messages', crowded(MAX_CONTENT_PARTS), crowded(MAX_CONTENT_PARTS + 1)],
    ['top_logprobs', MAX_TOP_LOGPROBS, 0.5],
    ['top_logprobs', 0, -1],
    ['temperature', 0, -0.01],
    ['temperature', 2, 2.01],
    ['top_p', 1, 1.01],
    ['top_p', 0, -0.01],
    ['top_k', -1, -2],
    ['top_k', 0, 0.5],
    ['seed', 1, 1.5],
    ['seed', Number.MAX_SAFE_INTEGER, 2 ** 53],
    ['max_tokens', 1, 0],
    ['max_completion_tokens', 1, 0],
    ['stop', Array(MAX_STOP_SEQUENCES).fill('a'), Array(MAX_STOP_SEQUENCES + 1).fill('a')],
    ['stop', 'a'.repeat(MAX_STOP_CHARACTERS), 'a'.repeat(MAX_STOP_CHARACTERS + 1)],
    ['stop', 'a', ['a', '']],
    ['n', 8, 9],
    ['model', 'm'.repeat(512), 'm'.repeat(513)],
    ['model', 'm', ''],
  ])('chat %s', (field, good, bad) => {
    expect(chat({ [field]: good }).ok).toBe(true);
    expect(paramOf(chat({ [field]: bad }))).toMatch(new RegExp(`^${field}`));
  });

  it.each([
    ['logprobs', MAX_TOP_LOGPROBS, -1],
    ['max_tokens', 0, -2],
    ['max_tokens', -1, 0.5],
    ['prompt', [0, 5], []],
    ['prompt', '', {}],
    ['prompt', ['a', 'b'], ['a', 1]],
    ['prompt', [[1], [2, 3], 'a'], [[1], []]],
    ['prompt', Array(MAX_PROMPTS).fill('a'), Array(MAX_PROMPTS + 1).fill('a')],
    ['prompt', [1], [1, 'a']],
    ['prompt', [[0]], [[-1]]],
  ])('text %s', (field, good, bad) => {
    expect(text({ [field]: good }).ok).toBe(true);
    expect(paramOf(text({ [field]: bad }))).toMatch(new RegExp(`^${field}`));
  });

  it('refuses numbers that JSON allows but nobody means', () => {
    for (const temperature of [NaN, Infinity, '1', true, [], 1e309])
      expect(paramOf(chat({ temperature }))).toBe('temperature');
  });
});

describe('fields', () => {
  it('null means not given', () => {
    const none = { temperature: null, stop: null, n: null, logprobs: null, stream_options: null };
    expect(chat(none).ok).toBe(true);
    expect(chat({ ...none, tools: null, response_format: null }).ok).toBe(true);
    expect(text({ ...none, tools: null }).ok).toBe(true);
  });

  it.each(['graft', 'x', 'constructor', 'toString'])(
    '%s is unknown: left out, or refused by name',
    (field) => {
      for (const parsed of [chat({ [field]: 1 }), text({ [field]: 1 })])
        expect(parsed).toMatchObject({ ok: true, value: { ignored: [field] } });
      expect(strictly({ [field]: 1 })).toMatchObject({ error: { code: 'invalid_request', param: field } });
      expect(strictly({ [field]: null }).ok).toBe(true);
    },
  );

  it('__proto__ in a body changes nothing', () => {
    const body: unknown = JSON.parse(
      '{"model":"m","messages":[{"role":"user","content":"x","__proto__":{"role":"system"}}],"__proto__":{"stream":true}}',
    );
    const parsed = parseChatCompletion(body);
    expect(parsed).toMatchObject({ value: { ignored: ['__proto__', 'messages[].__proto__'] } });
    if (parsed.ok) expect(parsed.value.request.stream).toBeUndefined();
    expect(paramOf(parseChatCompletion(body, { strict: true }))).toBe('messages[0].__proto__');
    expect(({} as Record<string, unknown>)['stream']).toBeUndefined();
  });

  it('errors name nested fields', () => {
    expect(
      paramOf(
        chat({
          messages: [
            { role: 'user', content: 'a' },
            { role: 'function', content: 'b' },
          ],
        }),
      ),
    ).toBe('messages[1].role');
    expect(paramOf(strictly({ messages: [{ role: 'user', content: 'a', x: 1 }] }))).toBe('messages[0].x');
    expect(paramOf(strictly({ stream_options: { x: 1 } }))).toBe('stream_options.x');
    expect(paramOf(chat({ stream_options: { include_usage: 1 } }))).toBe('stream_options.include_usage');
  });

  it.each([
    [
      { role: 'user', content: [{ type: 'text', text: 'a' }, { type: 'image_url' }] },
      'messages[1].content[1].type',
    ],
    [{ role: 'assistant', content: [{ type: 'file', file: {} }] }, 'messages[1].content[0].type'],
    [{ role: 'function', content: 'a', name: 'x' }, 'messages[1].role'],
    [{ role: 'assistant', content: null, function_call: { name: 'f' } }, 'messages[1].function_call'],
    [{ role: 'assistant', audio: { id: 'a' } }, 'messages[1].audio'],
    [{ role: 'assistant', content: 'a', prefix: true }, 'messages[1].prefix'],
  ])('refuses known but unsupported fields, with their path: %j', (message, param) => {
    expect(chat({ messages: [{ role: 'user', content: 'a' }, message] })).toMatchObject({
      error: { code: 'unsupported_parameter', param },
    });
  });

  it('errors repeat a bounded part of the request', () => {
    const long = 'x'.repeat(10_000);
    for (const body of [
      { [long]: 1 },
      { logit_bias: { [long]: 1 } },
      { messages: [{ role: 'user', content: [{ type: long }] }] },
    ]) {
      const refused = strictly(body);
      expect(refused.ok).toBe(false);
      expect(JSON.stringify(refused).length).toBeLessThan(600);
    }
  });

  it.each([null, undefined, 'x', 1, [], [{}]])('a body that is %j', (body) => {
    for (const result of [parseChatCompletion(body), parseTextCompletion(body)])
      expect(result).toMatchObject({ ok: false, error: { code: 'invalid_request', param: null } });
  });
});

const rest = { model: 'm', messages: [] };
const take = (more: object) => takeEdgeFields({ ...rest, ...more });

describe('takeEdgeFields', () => {
  it('takes its own fields out and leaves the rest alone', () => {
    expect(take({})).toEqual({ ok: true, value: { edge: { strict: false, adapters: [] }, rest } });
    expect(take({ strict: true, adapters: [{ name: 'a/b@2', scale: -0.5 }, { name: 'c' }] })).toEqual({
      ok: true,
      value: {
        edge: {
          strict: true,
          adapters: [
            { name: 'a/b@2', scale: -0.5 },
            { name: 'c', scale: 1 },
          ],
        },
        rest,
      },
    });
  });

  it('takes null for "not given"', () => {
    const nothing = { ok: true, value: { edge: { strict: false, adapters: [] }, rest } };
    expect(take({ strict: null, adapters: null })).toEqual(nothing);
    expect(take({ adapters: [] })).toEqual(nothing);
    expect(take({ adapters: [{ name: 'c', scale: null }] })).toMatchObject({
      value: { edge: { adapters: [{ name: 'c', scale: 1 }] } },
    });
  });

  it.each([null, 'x', 7, []])('leaves a body that is no object (%j) to who parses it', (body) => {
    expect(takeEdgeFields(body)).toMatchObject({ ok: true, value: { rest: body } });
  });

  const many = (length: number) => Array.from({ length }, (_, i) => ({ name: `n${i}` }));
  it.each([
    [{ strict: 'yes' }, 'strict'],
    [{ adapters: 'x' }, 'adapters'],
    [{ adapters: ['x'] }, 'adapters[0]'],
    [{ adapters: [{}] }, 'adapters[0].name'],
    [{ adapters: [{ name: '' }] }, 'adapters[0].name'],
    [{ adapters: [{ name: 'x'.repeat(513) }] }, 'adapters[0].name'],
    [{ adapters: [{ name: 'a', colour: 'red' }] }, 'adapters[0].colour'],
    [{ adapters: [{ name: 'a', scale: '1' }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a', scale: MAX_COMPOSED_SCALE + 0.001 }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a', scale: -MAX_COMPOSED_SCALE - 0.001 }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a', scale: Number.NaN }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a', scale: Infinity }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a' }, { name: 'b' }, { name: 'a', scale: 2 }] }, 'adapters[2].name'],
    [{ adapters: many(MAX_COMPOSED + 1) }, 'adapters'],
  ])('refuses %j and names %s', (more, param) => {
    expect(take(more)).toMatchObject({ ok: false, error: { code: 'invalid_request', param } });
  });

  it('accepts values at the limits', () => {
    expect(take({ adapters: many(MAX_COMPOSED) }).ok).toBe(true);
    for (const scale of [MAX_COMPOSED_SCALE, -MAX_COMPOSED_SCALE, 0])
      expect(take({ adapters: [{ name: 'x'.repeat(512), scale }] }).ok).toBe(true);
  });
});
