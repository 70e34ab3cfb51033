/** What clients send beside what they mean, as it was captured: taken, and said. */
import { describe, expect, it } from 'vitest';
import { parseChatCompletion, parseTextCompletion } from '../../protocol/completion.ts';
import { parseResponse } from '../../protocol/responses.ts';

const USER = { role: 'user', content: 'hi' };

describe('chat completions', () => {
  const parse = (fields: object) => parseChatCompletion({ model: 'm', messages: [USER], ...fields });

  it.each<[client: string, fields: object, ignored: string[]]>([
    ['openai-python: defaults', { stream: false, tools: [], tool_choice: 'none' }, []],
    ['openai-agents', { parallel_tool_calls: true, store: false }, ['store']],
    ['inspect-ai', { reasoning_effort: 'medium', verbosity: 'low' }, ['reasoning_effort', 'verbosity']],
    ['AI SDK', { response_format: { type: 'text' }, modalities: ['text'] }, ['modalities']],
    [
      'guidellm',
      { stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } },
      ['stream_options.continuous_usage_stats'],
    ],
    ['LM Studio', { max_tokens: -1 }, ['max_tokens']],
    [
      'llama.cpp’s page',
      {
        cache_prompt: true,
        timings_per_token: true,
        samplers: '',
        dynatemp_range: 0,
        xtc_probability: 0,
        typical_p: 1,
        repeat_penalty: 1,
        dry_multiplier: 0,
        n_predict: -1,
      },
      [
        'cache_prompt',
        'timings_per_token',
        'samplers',
        'dynatemp_range',
        'xtc_probability',
        'typical_p',
        'repeat_penalty',
        'dry_multiplier',
        'n_predict',
      ],
    ],
    [
      'OpenRouter’s clients',
      {
        provider: { sort: 'price' },
        transforms: [],
        models: ['m'],
        route: 'fallback',
        usage: { include: true },
      },
      ['provider', 'transforms', 'models', 'route', 'usage'],
    ],
    [
      'vLLM’s clients',
      { priority: 0, use_beam_search: false, best_of: 1 },
      ['priority', 'use_beam_search', 'best_of'],
    ],
    ['LiteLLM', { drop_params: true, thinking: { type: 'enabled' } }, ['drop_params', 'thinking']],
    ['null everywhere', { tools: null, audio: null, x: null, stop: null, stream_options: null }, []],
  ])('%s', (_client, fields, ignored) => {
    expect(parse(fields)).toMatchObject({ ok: true, value: { ignored } });
  });

  it('accepts an answer as the libraries dump it', () => {
    const dumped = {
      content: 'hello',
      refusal: null,
      role: 'assistant',
      annotations: [],
      audio: null,
      function_call: null,
      tool_calls: null,
      reasoning_content: 'well',
      provider_specific_fields: { refusal: null },
    };
    const parsed = parse({ messages: [USER, dumped, USER] });
    expect(parsed).toEqual({
      ok: true,
      value: {
        request: { model: 'm', messages: [USER, { role: 'assistant', content: 'hello' }, USER] },
        ignored: [
          'messages[].annotations',
          'messages[].reasoning_content',
          'messages[].provider_specific_fields',
        ],
      },
    });
  });

  it.each<[object, unknown, string[]]>([
    [{ role: 'assistant', content: null, tool_calls: [] }, '', ['messages[].tool_calls']],
    [{ role: 'assistant' }, '', []],
    [{ role: 'user', content: null }, '', []],
    [{ role: 'user', content: [] }, '', []],
    [{ role: 'assistant', content: null, refusal: 'no' }, 'no', []],
    [{ role: 'assistant', content: 'a', refusal: 'no' }, 'a', ['messages[].refusal']],
    [
      { role: 'user', content: [{ type: 'text', text: 'a', cache_control: { type: 'ephemeral' } }] },
      [{ type: 'text', text: 'a' }],
      ['messages[].content[].cache_control'],
    ],
    [{ role: 'user', content: [{ type: 'input_text', text: 'a' }] }, [{ type: 'text', text: 'a' }], []],
    [
      { role: 'assistant', content: [{ type: 'refusal', refusal: 'no' }] },
      [{ type: 'text', text: 'no' }],
      [],
    ],
    [
      {
        role: 'assistant',
        content: [
          { type: 'thinking', thinking: 'x' },
          { type: 'text', text: 'a' },
        ],
      },
      [
        { type: 'text', text: '' },
        { type: 'text', text: 'a' },
      ],
      ['messages[].content[].thinking'],
    ],
  ])('accepts content of %j', (message, content, ignored) => {
    const parsed = parse({ messages: [message] });
    expect(parsed).toMatchObject({ ok: true, value: { ignored, request: { messages: [{ content }] } } });
  });

  it('refuses a user message without content', () => {
    expect(parse({ messages: [{ role: 'user', contents: 'hi' }] })).toMatchObject({
      error: { code: 'invalid_request', param: 'messages[0].content' },
    });
  });

  it.each<[object, string, RegExp]>([
    [{ typical_p: 0.9 }, 'typical_p', /way of sampling does not exist here; 1 turns it off/],
    [{ repeat_penalty: 1.1 }, 'repeat_penalty', /use 'repetition_penalty'/],
    [{ max_new_tokens: 5 }, 'max_new_tokens', /use 'max_tokens'/],
    [{ stop_sequences: ['a'] }, 'stop_sequences', /use 'stop'/],
    [{ system: 'be kind' }, 'system', /role 'system'/],
    [{ modalities: ['text', 'audio'] }, 'modalities', /returns text only/],
    [
      { web_search_options: { search_context_size: 'low' } },
      'web_search_options',
      /no access to the internet/,
    ],
    [{ echo: true }, 'echo', /cannot be echoed/],
    [{ lora_path: 'x' }, 'lora_path', /use 'model'/],
  ])('%j would change the answer, so the error says what to do', (fields, param, message) => {
    const parsed = parse(fields);
    expect(parsed).toMatchObject({ error: { code: 'unsupported_parameter', param } });
    expect(!parsed.ok && parsed.error.message).toMatch(message);
  });

  it('lowers values beyond a limit, and reports it', () => {
    expect(parse({ logprobs: true, top_logprobs: 50 })).toMatchObject({
      value: { request: { top_logprobs: 20 }, ignored: ['top_logprobs=20'] },
    });
    expect(parse({ top_logprobs: 5 })).toMatchObject({ value: { ignored: ['top_logprobs'] } });
  });
});

describe('text completions', () => {
  const parse = (fields: object) => parseTextCompletion({ model: 'm', prompt: 'hi', ...fields });

  it.each<[object, string[]]>([
    [{ suffix: '', best_of: 1, user: 'u' }, ['suffix', 'best_of']],
    [{ n: 3, best_of: 3 }, ['best_of']],
    [{ logprobs: 50 }, ['logprobs=20']],
  ])('takes %j', (fields, ignored) => {
    expect(parse(fields)).toMatchObject({ ok: true, value: { ignored } });
  });

  it.each<[object, string]>([
    [{ best_of: 2 }, 'best_of'],
    [{ suffix: 'x' }, 'suffix'],
    [{ use_beam_search: true }, 'use_beam_search'],
    [{ length_penalty: 0.5 }, 'length_penalty'],
  ])('refuses %j', (fields, param) => {
    expect(parse(fields)).toMatchObject({ error: { code: 'unsupported_parameter', param } });
  });
});

describe('responses', () => {
  const parse = (fields: object) => parseResponse({ model: 'm', input: 'hi', ...fields });

  it.each<[string, object, string[]]>([
    [
      'LiteLLM’s bridge',
      { include: ['reasoning.encrypted_content'], reasoning: { effort: 'low', summary: 'auto' } },
      ['reasoning', 'include[]'],
    ],
    [
      'Codex',
      {
        instructions: 'x',
        tools: [],
        tool_choice: 'auto',
        parallel_tool_calls: false,
        store: false,
        text: { verbosity: 'low' },
        prompt_cache_key: 'k',
        client_metadata: {},
      },
      ['store', 'client_metadata', 'text.verbosity'],
    ],
    ['the SDK’s defaults', { truncation: 'auto', background: false }, ['truncation', 'background']],
    ['stream options', { stream_options: { include_obfuscation: false } }, ['stream_options']],
    ['top_logprobs alone', { top_logprobs: 2 }, ['top_logprobs']],
    ['null everywhere', { safety_identifier: null, reasoning: null, text: null, conversation: null }, []],
  ])('%s', (_client, fields, ignored) => {
    expect(parse(fields)).toMatchObject({ ok: true, value: { ignored } });
  });

  it('accepts output as input', () => {
    const parsed = parse({
      input: [
        { role: 'user', content: 'hi' },
        { type: 'reasoning', id: 'rs_1', summary: [], encrypted_content: 'x' },
        {
          id: 'msg_1',
          type: 'message',
          role: 'assistant',
          status: 'completed',
          content: [{ type: 'output_text', text: 'hello', annotations: [], logprobs: [] }],
        },
        { role: 'user', content: [{ type: 'input_text', text: 'more' }] },
      ],
    });
    expect(parsed).toEqual({
      ok: true,
      value: {
        request: {
          model: 'm',
          input: [
            { role: 'user', content: 'hi' },
            { type: 'message', role: 'assistant', content: [{ type: 'input_text', text: 'hello' }] },
            { role: 'user', content: [{ type: 'input_text', text: 'more' }] },
          ],
        },
        ignored: [
          'input[].reasoning',
          'input[].id',
          'input[].status',
          'input[].content[].annotations',
          'input[].content[].logprobs',
        ],
      },
    });
  });

  it('explains what to do about a reference', () => {
    const parsed = parse({ input: [{ type: 'item_reference', id: 'msg_1' }] });
    expect(parsed).toMatchObject({ error: { code: 'unsupported_parameter', param: 'input[0].type' } });
    expect(!parsed.ok && parsed.error.message).toContain('send the item itself');
  });
});
