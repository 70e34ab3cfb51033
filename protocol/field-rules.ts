/**
 * Fields that OpenAI's clients and those of other servers (vLLM, SGLang, llama.cpp, TGI, LoRAX, Mistral, Anthropic) send,
 * and that are not done here: which of their values ask for nothing, and why the others are refused. What can change
 * nothing that the caller gets has no reason to be refused; what stands nowhere is left out like it.
 */
import { isMap, type FieldRule } from './parse-body.ts';

export type FieldRules = ReadonlyMap<string, FieldRule>;

/** Every value asks for nothing that could be seen. */
const always = (): boolean => true;
/** Every value asks for something. */
export const never = (): boolean => false;
export const is =
  (...values: readonly unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value);
/** Off, or nothing in it. */
export const isEmpty = (value: unknown): boolean =>
  value === false ||
  value === '' ||
  (Array.isArray(value) && value.length === 0) ||
  (isMap(value) && Object.keys(value).length === 0);
/** `{"type": "text"}`, or one without a type. */
const isTextFormat = (value: unknown): boolean => isMap(value) && (value['type'] ?? 'text') === 'text';

/** Ways to choose tokens that are not there, and their values that choose as if they were not. */
const SAMPLERS: Record<string, readonly unknown[]> = {
  typical_p: [1],
  typ_p: [1],
  tfs_z: [1],
  tfs: [1],
  top_a: [0],
  top_n_sigma: [-1, 0],
  nsigma: [0],
  mirostat: [0],
  mirostat_mode: [0],
  dynatemp_range: [0],
  dynamic_temperature: [false],
  xtc_probability: [0],
  dry_multiplier: [0],
  smoothing_factor: [0],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
  no_repeat_ngram_size: [0],
  encoder_repetition_penalty: [1],
  penalty_alpha: [0],
  guidance_scale: [1],
  length_penalty: [1],
  num_beams: [1],
  use_beam_search: [false],
  watermark: [false],
  do_sample: [true],
  min_keep: [0, 1],
};

/** Other servers' names of what is there: their values that ask for nothing, and how it is called here. */
const MISNAMED: Record<string, readonly [neutral: readonly unknown[], ours: string]> = {
  repeat_penalty: [[1], 'repetition_penalty'],
  random_seed: [[], 'seed'],
  min_new_tokens: [[0], 'min_tokens'],
  stop_sequences: [[], 'stop'],
  n_cmpl: [[1], 'n'],
  n_probs: [[0], 'logprobs'],
  top_n_tokens: [[0], 'top_logprobs'],
  adapter_id: [[], 'model'],
  lora_path: [[], 'model'],
  lora: [[], 'adapters'],
};
/** … of the limit of tokens. */
const LIMITS = [
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
  'max_new_tokens',
  'max_tokens_to_sample',
  'max_gen_len',
  'max_length',
  'n_predict',
  'num_predict',
] as const;

/** Whatever else would change the answer; an empty value does not. */
const UNDONE: Record<string, string> = {
  audio: 'answers are text',
  plugins: 'it reaches nothing outside',
  web_search_options: 'it reaches nothing outside',
  mcp_servers: 'it reaches nothing outside',
  functions: "OpenAI has 'tools' in its place",
  documents: 'put them in a message',
  images: 'it reads text alone',
  image_data: 'it reads text alone',
  multimodal_data: 'it reads text alone',
  mm_processor_kwargs: 'it reads text alone',
  prompt_embeds: 'it reads text alone',
  system: "send it as the first message, of role 'system'",
  chat_template: "the model's own is used",
  safe_prompt: 'write the system message that you want',
  truncate_prompt_tokens: 'send what is to be read',
  logits_processors: 'no code runs in it',
  custom_logit_processor: 'no code runs in it',
  samplers: 'their order is fixed',
  allowed_token_ids: "use 'logit_bias'",
  bad_words: "use 'logit_bias'",
  stop_regex: "use 'stop'",
  return_hidden_states: 'they are not kept',
  post_sampling_probs: "log-probabilities are the model's own",
  no_stop_trim: "use 'include_stop_str_in_output'",
  adapter_parameters: "use 'adapters'",
  merged_adapters: "use 'adapters'",
  t_max_predict_ms: 'use the limit of tokens, or end the request',
  context_management: 'a conversation is read as it is sent',
  moderation: 'answers are not looked at',
};

/** Other servers' names of the shape of an answer. */
const SHAPES = ['structural_tag', 'grammar', 'json_schema', 'regex', 'ebnf', 'output_format'];

/** What OpenAI has, and what cannot change an answer here. */
const IDLE = [
  'metadata',
  'store',
  'service_tier',
  'prompt_cache_key',
  'prompt_cache_retention',
  'prompt_cache_options',
  'reasoning_effort',
  'verbosity',
  'prediction',
  'parallel_tool_calls',
  'max_tool_calls',
  'spaces_between_special_tokens',
];

/**
 * Of all requests.
 * @param limit how this API calls the limit of tokens.
 */
const commonRules = (limit: string): [string, FieldRule][] => [
  ...IDLE.map((field): [string, FieldRule] => [field, { idle: always }]),
  ...Object.entries(SAMPLERS).map(([field, neutral]): [string, FieldRule] => [
    field,
    {
      idle: is(...neutral),
      why: `there is no such way to choose tokens; ${JSON.stringify(neutral[0])} is off`,
    },
  ]),
  ...LIMITS.map((field): [string, FieldRule] => [field, { idle: is(-1), why: `use '${limit}'` }]),
  ...Object.entries(MISNAMED).map(([field, [neutral, ours]]): [string, FieldRule] => [
    field,
    { idle: (value) => isEmpty(value) || neutral.includes(value), why: `use '${ours}'` },
  ]),
  ...Object.entries(UNDONE).map(([field, why]): [string, FieldRule] => [field, { idle: isEmpty, why }]),
  ...SHAPES.map((field): [string, FieldRule] => [
    field,
    { idle: isEmpty, why: "use 'response_format' or 'structured_outputs'" },
  ]),
  ['stop', { idle: (value) => [value].flat().every((text) => text === '') }],
  ['tools', { idle: isEmpty, why: 'use /v1/chat/completions' }],
  ['tool_choice', { idle: is('none', 'auto'), why: 'use /v1/chat/completions' }],
  ['function_call', { idle: is('none', 'auto'), why: "OpenAI has 'tool_choice' in its place" }],
  [
    'modalities',
    {
      idle: (value) => Array.isArray(value) && value.every((one) => one === 'text'),
      why: 'answers are text',
    },
  ],
  ['strict', { idle: isEmpty, why: 'it is for an edge, and this is an origin' }],
  ['adapters', { idle: isEmpty, why: 'it is for an edge, and this is an origin' }],
];

/** What requests of text alone leave out. */
const OF_TOOLS = ['tools', 'tool_choice', 'parallel_tool_calls'];

export const CHAT_RULES: FieldRules = new Map([
  ...commonRules('max_tokens').filter(([field]) => !OF_TOOLS.includes(field)),
  ['echo', { idle: isEmpty, why: 'a conversation is not repeated' }],
  ['add_special_tokens', { idle: isEmpty, why: 'the chat template writes them' }],
]);

export const TEXT_RULES: FieldRules = new Map([
  ...commonRules('max_tokens'),
  ['suffix', { idle: isEmpty, why: 'text is written at the end of the prompt only' }],
  [
    'best_of',
    {
      idle: (value, { n }) =>
        typeof value === 'number' && value >= 0 && value <= (typeof n === 'number' ? n : 1),
      why: "ask for all of them with 'n', and choose by their log-probabilities",
    },
  ],
]);

const STATELESS = "nothing is kept here; send the whole conversation as 'input'";

/** What a response gives back as it came. */
const GIVEN_BACK = ['metadata', 'prompt_cache_key', ...OF_TOOLS];

export const RESPONSE_RULES: FieldRules = new Map([
  ...commonRules('max_output_tokens').filter(([field]) => !GIVEN_BACK.includes(field)),
  ['previous_response_id', { idle: isEmpty, why: STATELESS }],
  ['conversation', { idle: isEmpty, why: STATELESS }],
  ['prompt', { idle: isEmpty, why: "nothing is kept here; send it as 'instructions'" }],
  ['background', { idle: isEmpty, why: 'ask for a stream' }],
  ['truncation', { idle: is('auto', 'disabled') }],
  ['stream_options', { idle: isMap, why: 'it has to be an object' }],
  ['reasoning', { idle: isMap, why: 'it has to be an object' }],
  ['response_format', { idle: isTextFormat, why: "use 'text.format'" }],
  ['n', { idle: is(1), why: 'a response is one answer; send the request again' }],
]);

/** Of a message of a chat, beside its schema: what an assistant's answer has when it is sent back. */
export const MESSAGE_RULES: FieldRules = new Map<string, FieldRule>([
  ['tool_calls', { idle: isEmpty }],
  ['function_call', { idle: isEmpty }],
  ['audio', { idle: never, why: 'it reads text alone' }],
  ['images', { idle: isEmpty, why: 'it reads text alone' }],
  ['prefix', { idle: isEmpty, why: "use 'continue_final_message'" }],
  ['partial', { idle: isEmpty, why: "use 'continue_final_message'" }],
]);

/** Of `stream_options`: nothing is padded, and usage comes once, at the end. */
export const STREAM_RULES: FieldRules = new Map<string, FieldRule>([
  ['include_obfuscation', { idle: always }],
  ['continuous_usage_stats', { idle: always }],
]);

/** Of a response's `text`. */
export const TEXT_OPTION_RULES: FieldRules = new Map<string, FieldRule>([['verbosity', { idle: always }]]);

/** Of an item of a response's input: an answer's own, when it is sent back. */
export const ITEM_RULES: FieldRules = new Map<string, FieldRule>([
  ['id', { idle: always }],
  ['status', { idle: always }],
  ['phase', { idle: always }],
]);
