import { describe, expect, it } from 'vitest';
import { MAX_MESSAGES } from '../../protocol/limits.ts';
import { parseResponse, wantsLogprobs } from '../../protocol/responses.ts';

const parse = (fields: Record<string, unknown> = {}) => parseResponse({ model: 'm', input: 'hi', ...fields });
const items = (count: number) => Array.from({ length: count }, () => ({ role: 'user', content: 'x' }));

describe('parseResponse', () => {
  it.each<[string, Record<string, unknown>]>([
    ['text', {}],
    ['an empty text', { input: '' }],
    ['a short item', { input: [{ role: 'user', content: 'x' }] }],
    ['parts', { input: [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: 'x' }] }] }],
    [
      'an answer sent back',
      {
        input: [
          {
            id: 'msg_1',
            type: 'message',
            role: 'assistant',
            status: 'completed',
            content: [{ type: 'output_text', text: 'x', annotations: [], logprobs: [] }],
          },
        ],
      },
    ],
    ['as many items as may be', { input: items(MAX_MESSAGES) }],
    ['instructions', { instructions: 'be kind', metadata: { a: 'b' }, store: true, user: 'u' }],
    [
      'null everywhere',
      { instructions: null, tools: null, background: null, text: null, previous_response_id: null },
    ],
    [
      'values that ask for nothing',
      {
        background: false,
        tools: [],
        tool_choice: 'auto',
        parallel_tool_calls: true,
        truncation: 'disabled',
        include: [],
        text: { format: { type: 'text' }, verbosity: null },
        reasoning: { effort: null },
        service_tier: 'auto',
        stream_options: { include_obfuscation: false },
      },
    ],
    ['log-probabilities', { include: ['message.output_text.logprobs'], top_logprobs: 20 }],
  ])('takes %s', (_what, fields) => {
    expect(parse(fields)).toMatchObject({ ok: true });
  });

  it.each<[Record<string, unknown>, string]>([
    [{ previous_response_id: 'resp_1' }, 'previous_response_id'],
    [{ conversation: 'conv_1' }, 'conversation'],
    [{ background: true }, 'background'],
    [{ tools: [{ type: 'web_search' }] }, 'tools[0].type'],
    [{ prompt: { id: 'p' } }, 'prompt'],
    [{ context_management: [{ type: 'compaction' }] }, 'context_management'],
    [{ max_tokens: 1 }, 'max_tokens'],
    [{ input: [{ type: 'item_reference', id: 'x' }] }, 'input[0].type'],
    [{ input: [...items(1), { type: 'computer_call', call_id: 'x' }] }, 'input[1].type'],
    [
      { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }] },
      'input[0].content[0].type',
    ],
  ])('refuses known but unsupported fields: %j', (fields, param) => {
    expect(parse(fields)).toMatchObject({ ok: false, error: { code: 'unsupported_parameter', param } });
  });

  it.each<[Record<string, unknown>, string]>([
    [{ input: undefined }, 'input'],
    [{ input: [] }, 'input'],
    [{ input: [{ type: 'reasoning', summary: [] }] }, 'input'],
    [{ input: [{ type: 'reasoning' }, { role: 'robot', content: '' }] }, 'input'],
    [{ input: [{ role: 'user' }] }, 'input'],
    [{ top_logprobs: -1 }, 'top_logprobs'],
    [{ input: 1 }, 'input'],
    [{ input: items(MAX_MESSAGES + 1) }, 'input'],
    [{ model: '' }, 'model'],
    [{ max_output_tokens: 0 }, 'max_output_tokens'],
    [{ max_output_tokens: 2 ** 53 }, 'max_output_tokens'],
    [{ stream: 'yes' }, 'stream'],
    [{ tool_choice: 'sometimes' }, 'tool_choice'],
    [{ tool_choice: 'required' }, 'tool_choice'],
    [{ tool_choice: { type: 'function', name: 'f' } }, 'tool_choice'],
    [{ metadata: { a: 1 } }, 'metadata.a'],
    [{ metadata: { a: 'x'.repeat(513) } }, 'metadata.a'],
    [{ metadata: { ['k'.repeat(65)]: 'x' } }, `metadata.${'k'.repeat(65)}`],
    [{ metadata: Object.fromEntries(Array.from({ length: 17 }, (_, i) => [`k${i}`, 'x'])) }, 'metadata'],
  ])('refuses invalid values: %j', (fields, param) => {
    const parsed = parse(fields);
    expect(parsed).toMatchObject({ ok: false, error: { code: 'invalid_request' } });
    if (!parsed.ok) expect('param' in parsed.error ? parsed.error.param : null).toContain(param);
  });

  it.each([null, undefined, 'x', 1, []])('refuses a body that is %j', (body) => {
    expect(parseResponse(body)).toMatchObject({ error: { code: 'invalid_request', param: null } });
  });

  it('returns log-probabilities only if requested', () => {
    const wants = (fields: Record<string, unknown>) => {
      const parsed = parse(fields);
      return parsed.ok && wantsLogprobs(parsed.value.request);
    };
    expect(wants({ top_logprobs: 5 })).toBe(false);
    expect(wants({ include: null })).toBe(false);
    expect(wants({ include: ['message.output_text.logprobs'] })).toBe(true);
  });
});
