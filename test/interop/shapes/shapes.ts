/** Requests as clients send them, one for each thing that they send. Answers are kept to two tokens where they can be. */
export interface Shape {
  readonly name: string;
  readonly method?: 'GET' | 'POST';
  readonly path: string;
  readonly body?: object;
}

const USER = { role: 'user', content: 'Say hi.' };
const WEATHER = {
  name: 'weather',
  description: 'Weather of a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const TOOL = { type: 'function', function: WEATHER };
const SCHEMA = {
  type: 'object',
  properties: { city: { type: 'string', maxLength: 5 } },
  required: ['city'],
  additionalProperties: false,
};
const CALL = { id: 'call_1', type: 'function', function: { name: 'weather', arguments: '{"city":"Rome"}' } };
const CALLED = { role: 'assistant', content: null, tool_calls: [CALL] };
const RESULT = { role: 'tool', tool_call_id: 'call_1', content: '18 degrees' };

type Fields = Record<string, object>;

const chat: Fields = {
  'nothing else': {},
  stream: { stream: true },
  'stream, usage': { stream: true, stream_options: { include_usage: true } },
  'stream, usage all along': {
    stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true },
  },
  'stream_options null': { stream: false, stream_options: null },
  'temperature 0': { temperature: 0 },
  'temperature 2': { temperature: 2 },
  top_p: { top_p: 0.9 },
  top_k: { top_k: 40 },
  'top_k -1': { top_k: -1 },
  min_p: { min_p: 0.05 },
  seed: { seed: 7 },
  'stop, one': { stop: 'x' },
  'stop, four': { stop: ['a', 'b', 'c', 'd'] },
  'stop, none': { stop: [] },
  max_completion_tokens: { max_tokens: undefined, max_completion_tokens: 2 },
  'max_tokens beyond the context': { max_tokens: 100_000, stop: ['a', 'e', 'i', 'o'] },
  'max_tokens null': { max_tokens: null, stop: ['a', 'e', 'i', 'o'] },
  n: { n: 2 },
  logprobs: { logprobs: true },
  'logprobs, five': { logprobs: true, top_logprobs: 5 },
  'logprobs, twenty': { logprobs: true, top_logprobs: 20 },
  'logprobs false': { logprobs: false, top_logprobs: null },
  presence_penalty: { presence_penalty: 0.5 },
  frequency_penalty: { frequency_penalty: 0.5 },
  repetition_penalty: { repetition_penalty: 1.1 },
  'penalties of 0': { presence_penalty: 0, frequency_penalty: 0 },
  logit_bias: { logit_bias: { '5': -10 } },
  'logit_bias, none': { logit_bias: {} },
  user: { user: 'u' },
  metadata: { metadata: { a: 'b' } },
  store: { store: false },
  service_tier: { service_tier: 'auto' },
  prompt_cache_key: { prompt_cache_key: 'k', safety_identifier: 's' },
  reasoning_effort: { reasoning_effort: 'low' },
  verbosity: { verbosity: 'low' },
  modalities: { modalities: ['text'] },
  'audio, prediction null': { audio: null, prediction: null, web_search_options: null },
  'all null': { temperature: null, top_p: null, seed: null, stop: null, n: null, user: null, tools: null },
  'unknown field': { some_new_field: true },
  'extra_body fields': { provider: { sort: 'price' }, transforms: [] },
  thinking: { thinking: { type: 'disabled' } },
  chat_template_kwargs: { chat_template_kwargs: { enable_thinking: false } },
  'assistant prefill': { messages: [USER, { role: 'assistant', content: 'Hi' }] },
  continue_final_message: {
    messages: [USER, { role: 'assistant', content: 'Hi' }],
    continue_final_message: true,
    add_generation_prompt: false,
  },
  ignore_eos: { ignore_eos: true },
  min_tokens: { min_tokens: 1 },
  stop_token_ids: { stop_token_ids: [2] },
  skip_special_tokens: { skip_special_tokens: true },
  include_stop_str_in_output: { stop: 'x', include_stop_str_in_output: true },
  return_token_ids: { return_token_ids: true },
  return_tokens_as_token_ids: { logprobs: true, return_tokens_as_token_ids: true },
  prompt_logprobs: { prompt_logprobs: 1 },
  bad_words: { bad_words: ['no'] },
  allowed_token_ids: { allowed_token_ids: [40, 41, 42] },
  priority: { priority: 0 },
  request_id: { request_id: 'r' },
  cache_salt: { cache_salt: 's' },
  truncate_prompt_tokens: { truncate_prompt_tokens: null },
  'beam search off': { use_beam_search: false, length_penalty: 1, best_of: 1 },
  'llama.cpp’s samplers, off': {
    typical_p: 1,
    repeat_penalty: 1,
    mirostat: 0,
    dry_multiplier: 0,
    xtc_probability: 0,
  },
  repeat_penalty: { repeat_penalty: 1.1 },
  cache_prompt: { cache_prompt: true, timings_per_token: true, id_slot: -1 },
  n_predict: { max_tokens: undefined, n_predict: 2 },
  'tools, none': { tools: [] },
  'tools null, choice none': { tools: null, tool_choice: 'none' },
  'tools null, choice auto': { tool_choice: 'auto' },
  parallel_tool_calls: { parallel_tool_calls: true },
  tools: { tools: [TOOL] },
  'tools, choice auto': { tools: [TOOL], tool_choice: 'auto', parallel_tool_calls: true },
  'tools, choice none': { tools: [TOOL], tool_choice: 'none' },
  'tools, choice required': { tools: [TOOL], tool_choice: 'required', max_tokens: 60 },
  'tools, choice of one': {
    tools: [TOOL],
    tool_choice: { type: 'function', function: { name: 'weather' } },
    max_tokens: 60,
  },
  'tools, strict': {
    tools: [{ type: 'function', function: { ...WEATHER, parameters: SCHEMA, strict: true } }],
  },
  'tools, without parameters': { tools: [{ type: 'function', function: { name: 'now' } }] },
  'tools, stream': { tools: [TOOL], stream: true },
  'a call and its result': { messages: [USER, CALLED, RESULT], tools: [TOOL] },
  'a call and its result, no tools': { messages: [USER, CALLED, RESULT] },
  'a result in parts': {
    messages: [USER, CALLED, { ...RESULT, content: [{ type: 'text', text: '18' }] }],
    tools: [TOOL],
  },
  'a result with a name': { messages: [USER, CALLED, { ...RESULT, name: 'weather' }], tools: [TOOL] },
  'response_format text': { response_format: { type: 'text' } },
  'response_format null': { response_format: null },
  json_object: { response_format: { type: 'json_object' }, max_tokens: 40 },
  json_schema: {
    response_format: { type: 'json_schema', json_schema: { name: 'c', schema: SCHEMA } },
    max_tokens: 40,
  },
  'json_schema, strict': {
    response_format: { type: 'json_schema', json_schema: { name: 'c', schema: SCHEMA, strict: true } },
    max_tokens: 40,
  },
  'structured_outputs, json': { structured_outputs: { json: SCHEMA }, max_tokens: 40 },
  'structured_outputs, regex': { structured_outputs: { regex: '[a-c]{2}' }, max_tokens: 8 },
  'structured_outputs, choice': { structured_outputs: { choice: ['yes', 'no'] }, max_tokens: 8 },
  guided_json: { guided_json: SCHEMA, max_tokens: 40 },
  guided_choice: { guided_choice: ['yes', 'no'], max_tokens: 8 },
  grammar: { grammar: 'root ::= "yes" | "no"', max_tokens: 8 },
  'system message': { messages: [{ role: 'system', content: 'Be kind.' }, USER] },
  'developer message': { messages: [{ role: 'developer', content: 'Be kind.' }, USER] },
  'two system messages': {
    messages: [{ role: 'system', content: 'a' }, { role: 'system', content: 'b' }, USER],
  },
  'system message in the middle': { messages: [USER, { role: 'system', content: 'a' }, USER] },
  'two user messages': { messages: [USER, USER] },
  'name of a message': { messages: [{ ...USER, name: 'ann' }] },
  'content in a part': { messages: [{ role: 'user', content: [{ type: 'text', text: 'hi' }] }] },
  'content in parts': {
    messages: [
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
    ],
  },
  cache_control: {
    messages: [
      { role: 'user', content: [{ type: 'text', text: 'a', cache_control: { type: 'ephemeral' } }] },
    ],
  },
  'empty content': { messages: [{ role: 'user', content: '' }] },
  'content null of an assistant': {
    messages: [USER, { role: 'assistant', content: null, tool_calls: [CALL] }, RESULT],
  },
  'the answer as it was': {
    messages: [
      USER,
      {
        role: 'assistant',
        content: 'Hi',
        refusal: null,
        annotations: [],
        audio: null,
        function_call: null,
        tool_calls: null,
      },
      USER,
    ],
  },
  reasoning_content: {
    messages: [USER, { role: 'assistant', content: 'Hi', reasoning_content: 'well' }, USER],
  },
  'an image': {
    messages: [
      { role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }] },
    ],
  },
};

const text: Fields = {
  'nothing else': {},
  'a list of one': { prompt: ['Say hi.'] },
  'a list of two': { prompt: ['a b', 'c d'] },
  ids: { prompt: [40, 41, 42] },
  'a list of ids': { prompt: [[40, 41], [42]] },
  stream: { stream: true, stream_options: { include_usage: true } },
  logprobs: { logprobs: 1 },
  'logprobs, five': { logprobs: 5 },
  echo: { echo: true },
  'echo, logprobs': { echo: true, logprobs: 1, max_tokens: 1 },
  'echo, logprobs, no tokens': { echo: true, logprobs: 1, max_tokens: 0 },
  n: { n: 2 },
  'best_of 1': { best_of: 1 },
  'suffix null': { suffix: null },
  stop: { stop: ['x'] },
  seed: { seed: 7, temperature: 1 },
  logit_bias: { logit_bias: { '5': -10 } },
  user: { user: 'u' },
  min_tokens: { min_tokens: 1 },
  ignore_eos: { ignore_eos: true },
  stop_token_ids: { stop_token_ids: [2] },
  prompt_logprobs: { prompt_logprobs: 1 },
  return_tokens_as_token_ids: { logprobs: 1, return_tokens_as_token_ids: true },
  return_token_ids: { return_token_ids: true },
  add_special_tokens: { add_special_tokens: false },
  'structured_outputs, choice': { structured_outputs: { choice: ['yes', 'no'] }, max_tokens: 8 },
  response_format: { response_format: { type: 'json_object' }, max_tokens: 40 },
  'all null': { temperature: null, stop: null, logprobs: null, seed: null, suffix: null },
  'unknown field': { some_new_field: true },
};

const MESSAGE = { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'Say hi.' }] };
const FUNCTION = { type: 'function', ...WEATHER, strict: false };
const responses: Fields = {
  'nothing else': {},
  'a list': { input: [USER] },
  'a list of items': { input: [MESSAGE] },
  instructions: { instructions: 'Be kind.' },
  stream: { stream: true },
  store: { store: false },
  temperature: { temperature: 0.5, top_p: 0.9 },
  'text.format text': { text: { format: { type: 'text' } } },
  'text.format json_schema': {
    text: { format: { type: 'json_schema', name: 'c', schema: SCHEMA, strict: true } },
    max_output_tokens: 40,
  },
  'text.verbosity': { text: { verbosity: 'low' } },
  tools: { tools: [FUNCTION] },
  'tools, choice auto': { tools: [FUNCTION], tool_choice: 'auto', parallel_tool_calls: true },
  'a call and its result': {
    input: [
      MESSAGE,
      { type: 'function_call', call_id: 'c1', name: 'weather', arguments: '{"city":"Rome"}' },
      { type: 'function_call_output', call_id: 'c1', output: '18 degrees' },
    ],
    tools: [FUNCTION],
  },
  'the answer as it was': {
    input: [
      MESSAGE,
      {
        type: 'message',
        id: 'msg_1',
        status: 'completed',
        role: 'assistant',
        content: [{ type: 'output_text', text: 'Hi', annotations: [] }],
      },
      MESSAGE,
    ],
  },
  include: { include: ['reasoning.encrypted_content'] },
  reasoning: { reasoning: { effort: 'low', summary: 'auto' } },
  'reasoning null': { reasoning: null, previous_response_id: null },
  truncation: { truncation: 'disabled' },
  metadata: { metadata: { a: 'b' }, user: 'u' },
  prompt_cache_key: { prompt_cache_key: 'k', safety_identifier: 's' },
  background: { background: false },
};

const CLAUDE_TOOL = { name: 'weather', description: 'w', input_schema: WEATHER.parameters };
const messages: Fields = {
  'nothing else': {},
  system: { system: 'Be kind.' },
  'system in blocks': { system: [{ type: 'text', text: 'Be kind.', cache_control: { type: 'ephemeral' } }] },
  stream: { stream: true },
  stop_sequences: { stop_sequences: ['x'] },
  sampling: { temperature: 0.5, top_p: 0.9, top_k: 40 },
  'content in blocks': { messages: [{ role: 'user', content: [{ type: 'text', text: 'hi' }] }] },
  metadata: { metadata: { user_id: 'u' } },
  tools: { tools: [CLAUDE_TOOL] },
  'tools, choice auto': { tools: [CLAUDE_TOOL], tool_choice: { type: 'auto' } },
  'tools, choice any': { tools: [CLAUDE_TOOL], tool_choice: { type: 'any' }, max_tokens: 60 },
  'a call and its result': {
    messages: [
      USER,
      {
        role: 'assistant',
        content: [{ type: 'tool_use', id: 't1', name: 'weather', input: { city: 'Rome' } }],
      },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: 't1', content: '18 degrees' }] },
    ],
    tools: [CLAUDE_TOOL],
  },
};

const of = (path: string, defaults: object, all: Fields): Shape[] =>
  Object.entries(all).map(([name, fields]) => ({ name, path, body: { ...defaults, ...fields } }));

/** @param model whose name goes into each. */
export const shapesFor = (model: string): Shape[] => [
  ...of('/v1/chat/completions', { model, messages: [USER], max_tokens: 2 }, chat),
  ...of('/v1/completions', { model, prompt: 'Say hi.', max_tokens: 2 }, text),
  ...of('/v1/responses', { model, input: 'Say hi.', max_output_tokens: 16 }, responses),
  ...of('/v1/messages', { model, messages: [USER], max_tokens: 2 }, messages),
  { name: 'count tokens', path: '/v1/messages/count_tokens', body: { model, messages: [USER] } },
  { name: 'models', method: 'GET', path: '/v1/models' },
  { name: 'health', method: 'GET', path: '/health' },
];
