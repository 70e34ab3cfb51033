/**
 * Parses a client API body into a typed request, or an error that names the field: nesting limits, dropped
 * fields and the header that lists them, and refused fields. The rules of unsupported fields are at the end.
 */
import type { z } from 'zod';
import { type ApiError, err, ok, type Result } from './api-error.ts';
import { MAX_FIELDS, MAX_JSON_CONTAINERS, MAX_JSON_DEPTH } from './limits.ts';

/** Path in a body, in OpenAI's notation: `messages[1].content`. */
export const issuePath = (path: readonly PropertyKey[]): string =>
  path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    return text ? `${text}.${short(String(key))}` : short(String(key));
  }, '');

/** Characters of a client's own word that an error repeats. */
const MAX_REPEATED = 128;

export const short = (text: string): string =>
  text.length > MAX_REPEATED ? `${text.slice(0, MAX_REPEATED)}…` : text;

export const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** @param why the reason, or what to do instead; a clause. */
export const unsupported = (param: string, why?: string, what = `'${param}'`): ApiError => ({
  code: 'unsupported_parameter',
  message: `${what} is not supported by this server${why === undefined ? ' yet' : `: ${why}`}.`,
  param,
});

/** How a body is read. */
export interface ParseOptions {
  /** Refuse unknown fields, as OpenAI does, instead of dropping them. */
  strict?: boolean;
}

/** A parsed request. */
export interface Parsed<T> {
  request: T;
  /** Fields that were dropped or lowered; see `IGNORED_HEADER`. */
  ignored: readonly string[];
}

/** Options of one parse, and the fields dropped so far. */
export interface ParseState {
  readonly strict: boolean;
  readonly ignored: IgnoredPaths;
}

/** A known field that is not supported, or not with every value. */
export interface FieldRule {
  /** Whether this value has no effect, or asks for the default: the field is then dropped. */
  idle: (value: unknown, body: Record<string, unknown>) => boolean;
  /** Why other values are refused, or what to do instead; not needed for fields of the schema. */
  why?: string;
}

/** Fields that one object may have. */
export interface Fields {
  /** Fields of its schema. */
  known: ReadonlySet<string>;
  rules: ReadonlyMap<string, FieldRule>;
}

/**
 * Drops fields that have no effect or are unknown. `null` means "not given" everywhere.
 * @returns the fields for the schema, or `unsupported_parameter` for unsupported ones.
 */
export function selectFields(
  body: Record<string, unknown>,
  { known, rules }: Fields,
  { strict, ignored }: ParseState,
  path: readonly PropertyKey[] = [],
): Result<Record<string, unknown>, ApiError> {
  const selected: [string, unknown][] = [];
  for (const [key, value] of Object.entries(body)) {
    if (value === null) continue;
    const rule = rules.get(key);
    if (rule?.idle(value, body) === true) ignored.add([...path, key]);
    else if (known.has(key)) selected.push([key, value]);
    else if (rule !== undefined) return err(unsupported(issuePath([...path, key]), rule.why));
    // The schema refuses it by its name.
    else if (strict) selected.push([key, value]);
    else ignored.add([...path, key]);
  }
  return ok(Object.fromEntries(selected));
}

/** Lowers a whole number that exceeds its limit, as OpenAI-compatible servers do. */
export function clamp(
  body: Record<string, unknown>,
  field: string,
  most: number,
  { ignored }: ParseState,
): void {
  const value = body[field];
  if (typeof value !== 'number' || !Number.isInteger(value) || value <= most) return;
  body[field] = most;
  ignored.add([field], most);
}

/** @returns the body, if it can be a request at all. */
export function asFields(body: unknown): Result<Record<string, unknown>, ApiError> {
  if (!isMap(body))
    return err({ code: 'invalid_request', message: 'The body must be a JSON object.', param: null });
  const fields = Object.keys(body).length;
  if (fields <= MAX_FIELDS) return ok(body);
  const message = `The body has ${fields} fields; at most ${MAX_FIELDS} are allowed.`;
  return err({ code: 'invalid_request', message, param: null });
}

/** @param body the remaining fields. @returns `invalid_request` with the path of the invalid value. */
export function checkBody<T>(schema: z.ZodType<T>, body: unknown): Result<T, ApiError> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const param = issuePath([...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])]) || null;
  const message =
    unknown === undefined ? `Invalid value for '${param}': ${issue?.message}.` : `Unknown field '${param}'.`;
  return err({ code: 'invalid_request', message, param });
}

/** The names of a schema's fields. */
export const keysOf = (schema: { shape: object }): ReadonlySet<string> => new Set(Object.keys(schema.shape));

/** For a body that needs only its schema: unknown fields are dropped and listed. */
export function parseRequest<T>(
  schema: z.ZodType<T> & { shape: object },
  body: unknown,
  { strict = false }: ParseOptions,
): Result<Parsed<T>, ApiError> {
  const fields = asFields(body);
  if (!fields.ok) return fields;
  const ignored = new IgnoredPaths();
  const selected = selectFields(
    fields.value,
    { known: keysOf(schema), rules: new Map() },
    { strict, ignored },
  );
  if (!selected.ok) return selected;
  const checked = checkBody(schema, selected.value);
  return checked.ok ? ok({ request: checked.value, ignored: ignored.list() }) : checked;
}

const [QUOTE, BACKSLASH, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [
  0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d,
];

/**
 * Nesting depth and number of arrays and objects. Checked before parsing: a megabyte of brackets parses slowly,
 * and whatever walks the value afterwards overflows the stack.
 * @param json UTF-8; the parser checks whether it is JSON.
 * @param enough counting stops when either is exceeded.
 */
export function jsonShape(
  json: Uint8Array,
  enough: { depth: number; containers: number },
): { depth: number; containers: number } {
  let [depth, deepest, containers] = [0, 0, 0];
  let inString = false;
  for (let at = 0; at < json.length; at += 1) {
    const byte = json[at];
    if (inString) {
      if (byte === BACKSLASH) at += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      depth += 1;
      containers += 1;
      if (depth > deepest) deepest = depth;
      if (deepest > enough.depth || containers > enough.containers) break;
    } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth -= 1;
  }
  return { depth: deepest, containers };
}

/** @returns what is wrong with the shape of a body, as an error text; null when it may be parsed. */
export function badShape(json: Uint8Array, maxDepth: number = MAX_JSON_DEPTH): string | null {
  const { depth, containers } = jsonShape(json, { depth: maxDepth, containers: MAX_JSON_CONTAINERS });
  if (depth > maxDepth) return `The body is nested more than ${maxDepth} levels deep.`;
  return containers > MAX_JSON_CONTAINERS
    ? `The body has more than ${MAX_JSON_CONTAINERS} arrays and objects.`
    : null;
}

/**
 * `x-graft-ignored: reasoning_effort, messages[].annotations, max_tokens=120`: paths of dropped fields, and of
 * lowered fields with their effective value. List indexes are omitted, so that a long conversation lists each
 * field once.
 */
export const IGNORED_HEADER = 'x-graft-ignored';

/** A request header: `true` refuses unknown fields, as OpenAI does. */
export const STRICT_FIELDS_HEADER = 'x-graft-strict-fields';

/** A real request has fewer ignored fields; `...` marks more. */
const MAX_PATHS = 32;
/** The longest real field names are half as long. */
const MAX_PATH_CHARACTERS = 64;
const MORE = '...';
/** Names are the client's own words, but a header is ASCII without commas. */
const UNSAFE = /[^\w.[\]=-]/g;

/** Collects the paths, each once. */
export class IgnoredPaths {
  readonly #paths = new Set<string>();

  /** @param value the effective value of a lowered field. */
  add(path: readonly PropertyKey[], value?: number): void {
    if (this.#paths.size > MAX_PATHS) return;
    const name = path.reduce<string>((text, key) => {
      if (typeof key === 'number') return `${text}[]`;
      return text === '' ? String(key) : `${text}.${String(key)}`;
    }, '');
    const told = value === undefined ? name : `${name}=${value}`;
    this.#paths.add(told.slice(0, MAX_PATH_CHARACTERS).replace(UNSAFE, '?') || '?');
  }

  list(): string[] {
    return [...this.#paths];
  }
}

/** @param paths of one or several places, each safe in a header. @returns null when there are none. */
export function writeIgnored(paths: readonly string[]): string | null {
  const all = [...new Set(paths)];
  if (all.length === 0) return null;
  return (all.length > MAX_PATHS ? [...all.slice(0, MAX_PATHS), MORE] : all).join(', ');
}

/** @returns the paths in a header of {@link writeIgnored}. */
export const readIgnored = (header: string | null): string[] =>
  (header ?? '').split(', ').filter((path) => path !== '');

/**
 * Fields that clients of OpenAI and other servers (vLLM, SGLang, llama.cpp, TGI, LoRAX, Mistral, Anthropic)
 * send and that are not supported here: which values have no effect, and why others are refused. A field that
 * cannot change the answer is not refused; unknown fields are dropped.
 */
type FieldRules = ReadonlyMap<string, FieldRule>;

/** No value has a visible effect. */
const always = (): boolean => true;
/** Every value has an effect. */
const never = (): boolean => false;
const is =
  (...values: readonly unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value);
/** Off, or nothing in it. */
const isEmpty = (value: unknown): boolean =>
  value === false ||
  value === '' ||
  (Array.isArray(value) && value.length === 0) ||
  (isMap(value) && Object.keys(value).length === 0);
/** `{"type": "text"}`, or one without a type. */
const isTextFormat = (value: unknown): boolean => isMap(value) && (value['type'] ?? 'text') === 'text';

/** Unsupported sampling methods, and the values that turn them off. */
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

/** Other servers' names of supported fields: the values without effect, and the name used here. */
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
/** … of the token limit. */
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

/** Other fields that would change the answer; empty values do not. */
const UNDONE: Record<string, string> = {
  audio: 'this server returns text only',
  plugins: 'this server has no access to the internet',
  web_search_options: 'this server has no access to the internet',
  mcp_servers: 'this server has no access to the internet',
  functions: "OpenAI replaced it with 'tools'",
  documents: 'put them in a message',
  images: 'this server reads text only',
  image_data: 'this server reads text only',
  multimodal_data: 'this server reads text only',
  mm_processor_kwargs: 'this server reads text only',
  prompt_embeds: 'this server reads text only',
  system: "send it as the first message, with role 'system'",
  chat_template: "the model's own template is always used",
  safe_prompt: 'send your own system message',
  truncate_prompt_tokens: 'shorten the prompt yourself',
  logits_processors: 'this server runs no custom code',
  custom_logit_processor: 'this server runs no custom code',
  samplers: 'the order of samplers is fixed',
  allowed_token_ids: "use 'logit_bias'",
  bad_words: "use 'logit_bias'",
  stop_regex: "use 'stop'",
  return_hidden_states: 'hidden states are not kept',
  post_sampling_probs: "log-probabilities are always the model's own",
  no_stop_trim: "use 'include_stop_str_in_output'",
  adapter_parameters: "use 'adapters'",
  merged_adapters: "use 'adapters'",
  t_max_predict_ms: 'limit the tokens, or cancel the request',
  context_management: 'the conversation is read as sent',
  moderation: 'answers are not moderated',
};

/** Other servers' names of the answer's format. */
const SHAPES = ['structural_tag', 'grammar', 'json_schema', 'regex', 'ebnf', 'output_format'];

/** OpenAI's fields that cannot change an answer here. */
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
 * For all requests.
 * @param limit this API's name of the token limit.
 */
const commonRules = (limit: string): [string, FieldRule][] => [
  ...IDLE.map((field): [string, FieldRule] => [field, { idle: always }]),
  ...Object.entries(SAMPLERS).map(([field, neutral]): [string, FieldRule] => [
    field,
    {
      idle: is(...neutral),
      why: `this way of sampling does not exist here; ${JSON.stringify(neutral[0])} turns it off`,
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
  ['function_call', { idle: is('none', 'auto'), why: "OpenAI replaced it with 'tool_choice'" }],
  [
    'modalities',
    {
      idle: (value) => Array.isArray(value) && value.every((one) => one === 'text'),
      why: 'this server returns text only',
    },
  ],
  ['strict', { idle: isEmpty, why: 'only an edge supports it, and this is an origin' }],
  ['adapters', { idle: isEmpty, why: 'only an edge supports it, and this is an origin' }],
];

/** Fields without effect on text. */
const OF_TOOLS = ['tools', 'tool_choice', 'parallel_tool_calls'];

export const CHAT_RULES: FieldRules = new Map([
  ...commonRules('max_tokens').filter(([field]) => !OF_TOOLS.includes(field)),
  ['echo', { idle: isEmpty, why: 'a conversation cannot be echoed' }],
  ['add_special_tokens', { idle: isEmpty, why: 'the chat template adds them' }],
]);

export const TEXT_RULES: FieldRules = new Map([
  ...commonRules('max_tokens'),
  ['suffix', { idle: isEmpty, why: 'text can only be added at the end of the prompt' }],
  [
    'best_of',
    {
      idle: (value, { n }) =>
        typeof value === 'number' && value >= 0 && value <= (typeof n === 'number' ? n : 1),
      why: "request all of them with 'n', and choose by their log-probabilities",
    },
  ],
]);

const STATELESS = "this server stores nothing; send the whole conversation as 'input'";

/** Fields that a response returns unchanged. */
const GIVEN_BACK = ['metadata', 'prompt_cache_key', ...OF_TOOLS];

export const RESPONSE_RULES: FieldRules = new Map([
  ...commonRules('max_output_tokens').filter(([field]) => !GIVEN_BACK.includes(field)),
  ['previous_response_id', { idle: isEmpty, why: STATELESS }],
  ['conversation', { idle: isEmpty, why: STATELESS }],
  ['prompt', { idle: isEmpty, why: "this server stores nothing; send it as 'instructions'" }],
  ['background', { idle: isEmpty, why: 'request a stream instead' }],
  ['truncation', { idle: is('auto', 'disabled') }],
  ['stream_options', { idle: isMap, why: 'it must be an object' }],
  ['reasoning', { idle: isMap, why: 'it must be an object' }],
  ['response_format', { idle: isTextFormat, why: "use 'text.format'" }],
  ['n', { idle: is(1), why: 'a response has one answer; send several requests' }],
]);

/** Fields of a chat message beyond its schema, which an assistant's answer has when it is sent back. */
export const MESSAGE_RULES: FieldRules = new Map<string, FieldRule>([
  ['tool_calls', { idle: isEmpty }],
  ['function_call', { idle: isEmpty }],
  ['audio', { idle: never, why: 'this server reads text only' }],
  ['images', { idle: isEmpty, why: 'this server reads text only' }],
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

/** Of an item of a response's input: fields of an answer that is sent back. */
export const ITEM_RULES: FieldRules = new Map<string, FieldRule>([
  ['id', { idle: always }],
  ['status', { idle: always }],
  ['phase', { idle: always }],
]);
