/**
 * From a body of the client API to a typed request, or to an error that names the field: how deep JSON may be, what is
 * left out and how the answer's header says it, what is refused. At its end the rules of fields that are not done here.
 */
import type { z } from 'zod';
import { type ApiError, err, ok, type Result } from './api-error.ts';
import { MAX_FIELDS, MAX_JSON_CONTAINERS, MAX_JSON_DEPTH } from './limits.ts';

/** As OpenAI writes places in a body: `messages[1].content`. */
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
  /** Fields that nobody knows are refused, as OpenAI does; otherwise they are left out. */
  strict?: boolean;
}

/** A request that was taken. */
export interface Parsed<T> {
  request: T;
  /** What was left out or lowered; see `IGNORED_HEADER`. */
  ignored: readonly string[];
}

/** The options of one parse, and what it has left out so far. */
export interface Taking {
  readonly strict: boolean;
  readonly ignored: IgnoredPaths;
}

/** A field that is known, and not done or not with every value. */
export interface FieldRule {
  /** Whether this value asks for nothing, or for what happens anyway: the field is left out then. */
  idle: (value: unknown, body: Record<string, unknown>) => boolean;
  /** Why its other values are refused, or what to do instead; not needed for fields of the schema. */
  why?: string;
}

/** What may stand in one object. */
export interface Fields {
  /** Of its schema. */
  known: ReadonlySet<string>;
  rules: ReadonlyMap<string, FieldRule>;
}

/**
 * Leaves out of an object what asks for nothing and what nobody knows. `null` means "not given" everywhere.
 * @returns what the schema is to look at, or `unsupported_parameter` for what cannot be done.
 */
export function takeFields(
  body: Record<string, unknown>,
  { known, rules }: Fields,
  { strict, ignored }: Taking,
  path: readonly PropertyKey[] = [],
): Result<Record<string, unknown>, ApiError> {
  const taken: [string, unknown][] = [];
  for (const [key, value] of Object.entries(body)) {
    if (value === null) continue;
    const rule = rules.get(key);
    if (rule?.idle(value, body) === true) ignored.add([...path, key]);
    else if (known.has(key)) taken.push([key, value]);
    else if (rule !== undefined) return err(unsupported(issuePath([...path, key]), rule.why));
    // The schema refuses it by its name.
    else if (strict) taken.push([key, value]);
    else ignored.add([...path, key]);
  }
  return ok(Object.fromEntries(taken));
}

/** Lowers a whole number that is beyond its limit, as peers of OpenAI do. */
export function clamp(body: Record<string, unknown>, field: string, most: number, { ignored }: Taking): void {
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

/** @param body what is left of a body. @returns `invalid_request` with the place of what is wrong. */
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

/** A body that needs no more than its schema: what the schema does not know is left out, and said. */
export function parseRequest<T>(
  schema: z.ZodType<T> & { shape: object },
  body: unknown,
  { strict = false }: ParseOptions,
): Result<Parsed<T>, ApiError> {
  const fields = asFields(body);
  if (!fields.ok) return fields;
  const ignored = new IgnoredPaths();
  const taken = takeFields(fields.value, { known: keysOf(schema), rules: new Map() }, { strict, ignored });
  if (!taken.ok) return taken;
  const checked = checkBody(schema, taken.value);
  return checked.ok ? ok({ request: checked.value, ignored: ignored.list() }) : checked;
}

const [QUOTE, BACKSLASH, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [
  0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d,
];

/**
 * How deep arrays and objects lie inside one another, and how many there are. Looks at the bytes before they are
 * parsed: a megabyte of brackets parses, slowly, and then whatever walks the value runs out of stack.
 * @param json UTF-8; that it is JSON at all is for the parser to say.
 * @param enough counting ends where either is above it.
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

/** @returns what is wrong with the shape of a body, in words for its sender; null when it may be parsed. */
export function badShape(json: Uint8Array, maxDepth: number = MAX_JSON_DEPTH): string | null {
  const { depth, containers } = jsonShape(json, { depth: maxDepth, containers: MAX_JSON_CONTAINERS });
  if (depth > maxDepth) return `The body is nested deeper than ${maxDepth} levels.`;
  return containers > MAX_JSON_CONTAINERS
    ? `The body has more than ${MAX_JSON_CONTAINERS} arrays and objects.`
    : null;
}

/**
 * `x-graft-ignored: reasoning_effort, messages[].annotations, max_tokens=120`: paths of what was left out, and what was
 * lowered with the value that holds. Places in lists are not told apart, so that a long conversation says it once.
 */
export const IGNORED_HEADER = 'x-graft-ignored';

/** A request header: `true` has fields that nobody knows refused, as OpenAI does. */
export const STRICT_FIELDS_HEADER = 'x-graft-strict-fields';

/** A request has no more fields than that for good reasons; `...` says that there were more. */
const MAX_PATHS = 32;
/** The longest names of real fields are half as long. */
const MAX_PATH_CHARACTERS = 64;
const MORE = '...';
/** Names are the client's own words, and a header is ASCII without commas. */
const UNSAFE = /[^\w.[\]=-]/g;

/** Collects them; each is told once. */
export class IgnoredPaths {
  readonly #paths = new Set<string>();

  /** @param value the one that holds instead, of what was lowered. */
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

/** @param paths of one or several places, each safe in a header. @returns null when there is nothing to say. */
export function writeIgnored(paths: readonly string[]): string | null {
  const all = [...new Set(paths)];
  if (all.length === 0) return null;
  return (all.length > MAX_PATHS ? [...all.slice(0, MAX_PATHS), MORE] : all).join(', ');
}

/** @returns the paths in a header of {@link writeIgnored}. */
export const readIgnored = (header: string | null): string[] =>
  (header ?? '').split(', ').filter((path) => path !== '');

/**
 * Fields that OpenAI's clients and those of other servers (vLLM, SGLang, llama.cpp, TGI, LoRAX, Mistral, Anthropic) send,
 * and that are not done here: which of their values ask for nothing, and why the others are refused. What can change
 * nothing that the caller gets has no reason to be refused; what stands nowhere is left out like it.
 */
type FieldRules = ReadonlyMap<string, FieldRule>;

/** Every value asks for nothing that could be seen. */
const always = (): boolean => true;
/** Every value asks for something. */
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
