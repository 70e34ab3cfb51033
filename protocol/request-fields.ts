/**
 * Fields shared by several APIs: sampling; constraints of the answer (JSON, JSON Schema, regular expression,
 * choice, grammar); message contents, reduced to text; template variables; prompts as text or token ids; and
 * functions that the model may call, in the shapes of chat completions and responses.
 */
import { z } from 'zod';
import { type ApiError, err, ok, type Result } from './api-error.ts';
import {
  MAX_LOGIT_BIAS,
  MAX_STOP_CHARACTERS,
  MAX_STOP_SEQUENCES,
  MAX_STOP_TOKENS,
  MAX_VOCABULARY,
  MAX_CONTENT_PARTS,
  MAX_TEMPLATE_KWARGS_BYTES,
  MAX_TEMPLATE_KWARGS_DEPTH,
  DEFAULT_TEXT_TOKENS,
  MAX_PROMPTS,
} from './limits.ts';
import {
  isMap,
  issuePath,
  short,
  selectFields,
  unsupported,
  type Fields,
  type ParseState,
} from './parse-body.ts';

const stop = z.union([
  z.string().min(1).max(MAX_STOP_CHARACTERS),
  z.array(z.string().min(1).max(MAX_STOP_CHARACTERS)).max(MAX_STOP_SEQUENCES),
]);

const TOKEN_ID = /^(?:0|[1-9][0-9]*)$/;
const MAX_BIAS = 100;

/** Token ids in decimal -> value added to their logits. Checked entry by entry, so that errors name the key. */
const logitBias = z
  .custom<Record<string, number>>(isMap, 'must be an object of token ids')
  .superRefine((map, context) => {
    const complain = (message: string, path: string[]) =>
      context.addIssue({ code: 'custom', message, path, input: map });
    const entries = Object.entries(map);
    if (entries.length > MAX_LOGIT_BIAS)
      return complain(`has ${entries.length} entries; at most ${MAX_LOGIT_BIAS} are allowed`, []);
    for (const [key, bias] of entries) {
      if (!TOKEN_ID.test(key) || Number(key) >= MAX_VOCABULARY) return complain('is not a token id', [key]);
      // `typeof` and both bounds: JSON may contain anything, and 1e309 is Infinity.
      if (typeof bias !== 'number' || !(bias >= -MAX_BIAS && bias <= MAX_BIAS))
        return complain(`must be a number between -${MAX_BIAS} and ${MAX_BIAS}`, [key]);
    }
  });

/**
 * Shared by chat completions, text completions and responses. `null` means "not given", as in OpenAI's schema.
 */
export const samplingFields = {
  temperature: z.number().min(0).max(2).nullish(),
  /** 0 keeps only the likeliest token. */
  top_p: z.number().min(0).max(1).nullish(),
  /** 0 and -1 mean "off", as in vLLM. */
  top_k: z.int().min(-1).max(1_000_000).nullish(),
  /** Minimum probability relative to the likeliest token, after temperature. */
  min_p: z.number().min(0).max(1).nullish(),
  /** Per occurrence in the generated text. */
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  /** Once per token that was generated. */
  presence_penalty: z.number().min(-2).max(2).nullish(),
  /** Divides positive and multiplies negative logits of tokens in prompt and answer; 1 = off, as in vLLM. */
  repetition_penalty: z.number().gt(0).max(2).nullish(),
  logit_bias: logitBias.nullish(),
  seed: z.int().nullish(),
  stop: stop.nullish(),
  ignore_eos: z.boolean().nullish(),
  /** Tokens that end the answer, and are not part of its text. These and the next fields are vLLM's. */
  stop_token_ids: z
    .array(
      z
        .int()
        .min(0)
        .max(MAX_VOCABULARY - 1),
    )
    .max(MAX_STOP_TOKENS)
    .nullish(),
  /** The answer cannot end before this many tokens. */
  min_tokens: z.int().min(0).nullish(),
  /** Whether to leave control tokens out of the text; default true. */
  skip_special_tokens: z.boolean().nullish(),
  /** Whether the text includes the stop text. */
  include_stop_str_in_output: z.boolean().nullish(),
};

/** Sampling fields that all three kinds of request have. */
export type SamplingFields = z.infer<z.ZodObject<typeof samplingFields>>;

/** @param limit the request's token limit, with this API's name of it. */
export function refuseLimits(
  { min_tokens: least }: SamplingFields,
  limit: { name: string; value: number | null | undefined },
): ApiError | null {
  if (least == null || limit.value == null || least <= limit.value) return null;
  const message = `Invalid value for 'min_tokens': it must not exceed '${limit.name}' (${limit.value}).`;
  return { code: 'invalid_request', message, param: 'min_tokens' };
}

/** A JSON Schema, as written in the body: ten times what a hundred nested properties take. */
export const MAX_SCHEMA_BYTES = 65_536;
/** Texts of a `choice`. */
export const MAX_GUIDED_CHOICES = 1_000;
/** All texts of a `choice` together. */
// As many bytes as a schema that lists them.
export const MAX_GUIDED_CHOICES_BYTES = 65_536;
/** A regular expression, or one text of a `choice`. */
export const MAX_GUIDED_CHARACTERS = 2_048;
/** A grammar in EBNF. */
export const MAX_GRAMMAR_BYTES = 16_384;
/** OpenAI's limit of a format's name. */
const MAX_FORMAT_NAME = 64;

const bytesOf = (value: unknown): number => new TextEncoder().encode(JSON.stringify(value)).length;

/** Not validated here: the origin checks keywords when it compiles the grammar. */
export const JsonSchema = z
  .custom<Record<string, unknown>>(isMap, 'must be a JSON Schema object')
  .refine(
    (schema) => bytesOf(schema) <= MAX_SCHEMA_BYTES,
    `must not be larger than ${MAX_SCHEMA_BYTES} bytes`,
  )
  .meta({ type: 'object', additionalProperties: {} });

const formatFields = {
  name: z.string().max(MAX_FORMAT_NAME).optional(),
  description: z.string().nullish(),
  schema: JsonSchema.optional(),
  strict: z.boolean().nullish(),
};

const plainFormats = [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
] as const;

/** Chat and text completions'. */
export const ResponseFormat = z.discriminatedUnion('type', [
  ...plainFormats,
  z.strictObject({ type: z.literal('json_schema'), json_schema: z.strictObject(formatFields) }),
]);
export type ResponseFormat = z.infer<typeof ResponseFormat>;

/** Responses': `text.format`. */
export const TextFormat = z.discriminatedUnion('type', [
  ...plainFormats,
  z.strictObject({ type: z.literal('json_schema'), ...formatFields }),
]);
export type TextFormat = z.infer<typeof TextFormat>;

/** vLLM takes a schema as text, too. */
const jsonOrText = z.union([JsonSchema, z.string().max(MAX_SCHEMA_BYTES)], 'must be a JSON Schema');
const regex = z.string().min(1).max(MAX_GUIDED_CHARACTERS);
const choice = z
  .array(z.string().min(1).max(MAX_GUIDED_CHARACTERS))
  .min(1)
  .max(MAX_GUIDED_CHOICES)
  .refine(
    (texts) => new TextEncoder().encode(texts.join('')).length <= MAX_GUIDED_CHOICES_BYTES,
    `must not exceed ${MAX_GUIDED_CHOICES_BYTES} bytes in total; send fewer or shorter choices`,
  );
const grammar = z.string().min(1).max(MAX_GRAMMAR_BYTES);

/** vLLM's names, current and before 0.12. */
export const structuredFields = {
  structured_outputs: z
    .strictObject({
      json: jsonOrText.nullish(),
      json_object: z.boolean().nullish(),
      regex: regex.nullish(),
      choice: choice.nullish(),
      grammar: grammar.nullish(),
    })
    .nullish(),
  guided_json: jsonOrText.nullish(),
  guided_regex: regex.nullish(),
  guided_choice: choice.nullish(),
  guided_grammar: grammar.nullish(),
};

export type Constraint =
  | { readonly kind: 'json_object' }
  /** `schema`: an object, or its JSON as text. */
  | { readonly kind: 'json_schema'; readonly schema: unknown }
  | { readonly kind: 'regex'; readonly pattern: string }
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
  /** In XGrammar's EBNF, its first rule `root`. */
  | { readonly kind: 'grammar'; readonly grammar: string };

/** A constraint, and where it stands in the body. */
export interface PlacedConstraint {
  readonly constraint: Constraint;
  readonly path: readonly string[];
}

type StructuredFields = z.infer<z.ZodObject<typeof structuredFields>> & {
  response_format?: ResponseFormat | null | undefined;
  text?: { format?: TextFormat | null | undefined } | null | undefined;
};

/** Every constraint of a request, in the order of precedence. */
export function constraintsOf(request: StructuredFields): PlacedConstraint[] {
  const { response_format: format, text, structured_outputs: outputs } = request;
  const found: (PlacedConstraint | null)[] = [
    ofFormat(format, ['response_format'], format?.type === 'json_schema' ? ['json_schema'] : []),
    ofFormat(text?.format, ['text', 'format'], []),
    ...guided(outputs ?? {}, (name) => ['structured_outputs', name]),
    outputs?.json_object === true
      ? { constraint: { kind: 'json_object' }, path: ['structured_outputs', 'json_object'] }
      : null,
    ...guided(
      {
        json: request.guided_json,
        regex: request.guided_regex,
        choice: request.guided_choice,
        grammar: request.guided_grammar,
      },
      (name) => [`guided_${name}`],
    ),
  ];
  return found.filter((one) => one !== null);
}

function ofFormat(
  format: ResponseFormat | TextFormat | null | undefined,
  path: string[],
  inside: string[],
): PlacedConstraint | null {
  if (format == null || format.type === 'text') return null;
  if (format.type === 'json_object') return { constraint: { kind: 'json_object' }, path };
  const { schema } = 'json_schema' in format ? format.json_schema : format;
  const place = [...path, ...inside, 'schema'];
  return schema === undefined
    ? { constraint: { kind: 'json_object' }, path: place }
    : { constraint: { kind: 'json_schema', schema }, path: place };
}

interface Guided {
  json?: unknown;
  regex?: string | null | undefined;
  choice?: string[] | null | undefined;
  grammar?: string | null | undefined;
}

function guided(fields: Guided, pathOf: (name: string) => string[]): PlacedConstraint[] {
  const { json, regex: pattern, choice: choices, grammar: text } = fields;
  const found: [string, Constraint | null][] = [
    ['json', json == null ? null : { kind: 'json_schema', schema: json }],
    ['regex', pattern == null ? null : { kind: 'regex', pattern }],
    ['choice', choices == null ? null : { kind: 'choice', choices }],
    ['grammar', text == null ? null : { kind: 'grammar', grammar: text }],
  ];
  return found.flatMap(([name, constraint]) =>
    constraint === null ? [] : [{ constraint, path: pathOf(name) }],
  );
}

/** Used in request schemas: an answer can have only one constraint. */
export function refuseSecondConstraint(request: StructuredFields, context: z.RefinementCtx): void {
  const [first, second] = constraintsOf(request);
  if (first === undefined || second === undefined) return;
  context.addIssue({
    code: 'custom',
    message: `an answer can have only one constraint, and '${first.path.join('.')}' sets one already`,
    path: [...second.path],
  });
}

/** Text parts of both APIs. A model's refusal counts as its text. */
const TEXT_PARTS: ReadonlyMap<string, string> = new Map([
  ['text', 'text'],
  ['input_text', 'text'],
  ['output_text', 'text'],
  ['refusal', 'refusal'],
]);
/** A model's reasoning, when its answer is sent back: no chat template shows it again. */
const THOUGHTS: ReadonlySet<string> = new Set(['thinking', 'redacted_thinking', 'reasoning', 'summary_text']);

/**
 * Checks the number of content parts first: the schema would list the errors of half a million.
 * @param field where the messages are.
 */
export function refuseCrowd(messages: unknown, field: string): ApiError | null {
  if (!Array.isArray(messages)) return null;
  let parts = 0;
  for (const message of messages) {
    const content: unknown = isMap(message) ? message['content'] : undefined;
    if (Array.isArray(content)) parts += content.length;
  }
  if (parts <= MAX_CONTENT_PARTS) return null;
  const message = `Invalid value for '${field}': ${parts} content parts; at most ${MAX_CONTENT_PARTS} are allowed.`;
  return { code: 'invalid_request', message, param: field };
}

/**
 * Joins content whose parts are all text, of one type; no content is an empty text. Anything else is left to
 * the schema.
 * @param type of a part, as the API names it.
 * @returns `unsupported_parameter` for parts that are not text.
 */
export function readContent(
  content: unknown,
  type: 'text' | 'input_text',
  state: ParseState,
  path: readonly PropertyKey[],
): Result<unknown, ApiError> {
  if (content === null || (Array.isArray(content) && content.length === 0)) return ok('');
  if (!Array.isArray(content)) return ok(content);
  const parts: unknown[] = [];
  for (const [at, part] of content.entries()) {
    const selected = isMap(part) ? readPart(part, type, state, [...path, at]) : ok(part as unknown);
    if (!selected.ok) return selected;
    parts.push(selected.value);
  }
  return ok(parts);
}

function readPart(
  part: Record<string, unknown>,
  type: 'text' | 'input_text',
  state: ParseState,
  path: readonly PropertyKey[],
): Result<unknown, ApiError> {
  const { type: own } = part;
  if (typeof own !== 'string') return ok(part);
  if (THOUGHTS.has(own)) {
    state.ignored.add([...path, own]);
    return ok({ type, text: '' });
  }
  const field = TEXT_PARTS.get(own);
  if (field === undefined) {
    const what = `A part of type '${short(own)}'`;
    return err(unsupported(issuePath([...path, 'type']), 'this server reads and writes text only', what));
  }
  const selected = selectFields(part, partFields(field), state, path);
  if (!selected.ok) return selected;
  const { type: _type, [field]: text, ...unknown } = selected.value;
  return ok({ type, ...unknown, ...(text === undefined ? {} : { text }) });
}

/** Of an answer's part that is sent back. */
const SENT_BACK = new Map([
  ['annotations', { idle: () => true }],
  ['logprobs', { idle: () => true }],
]);
const partFields = (field: string): Fields => ({ known: new Set(['type', field]), rules: SENT_BACK });

const NAME = /^[A-Za-z_]\w{0,63}$/;
/** Template options of a request, and their names. */
const RESERVED: ReadonlySet<string> = new Set([
  ...['messages', 'tools', 'documents', 'chat_template', 'tokenize'],
  ...['add_generation_prompt', 'continue_final_message', 'bos_token', 'eos_token'],
  ...['raise_exception', 'range', 'strftime_now', 'namespace', 'loop', 'dict', 'joiner', 'cycler'],
  ...['true', 'false', 'none', 'True', 'False', 'None'],
]);

const depthOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;

const kwargs = z
  .custom<Record<string, unknown>>(isMap, 'must be an object')
  .superRefine((values, context) => {
    const complain = (message: string, path: string[] = []) =>
      context.addIssue({ code: 'custom', message, path, input: values });
    for (const name of Object.keys(values)) {
      if (!NAME.test(name)) return complain('is not a variable name', [name]);
      if (RESERVED.has(name)) return complain('cannot be set by a request', [name]);
    }
    const bytes = new TextEncoder().encode(JSON.stringify(values)).length;
    if (bytes > MAX_TEMPLATE_KWARGS_BYTES)
      return complain(`has ${bytes} bytes; at most ${MAX_TEMPLATE_KWARGS_BYTES} are allowed`);
    if (depthOf(values) > MAX_TEMPLATE_KWARGS_DEPTH)
      complain(`is nested more than ${MAX_TEMPLATE_KWARGS_DEPTH} objects and lists deep`);
  })
  .meta({ type: 'object', additionalProperties: {} });

export const templateFields = {
  /** Variables of the template, such as `enable_thinking`. */
  chat_template_kwargs: kwargs.nullish(),
  /** Whether to open the assistant's next turn; default true, unless the final message is continued. */
  add_generation_prompt: z.boolean().nullish(),
  /** Continue the last message, which must be an assistant's. */
  continue_final_message: z.boolean().nullish(),
};

/** Contradictions between these fields. */
export function refuseTemplateFields(request: {
  messages: readonly { role: string }[];
  add_generation_prompt?: boolean | null | undefined;
  continue_final_message?: boolean | null | undefined;
}): ApiError | null {
  if (request.continue_final_message !== true) return null;
  if (request.add_generation_prompt === true) {
    const message = "Set either 'add_generation_prompt' or 'continue_final_message', not both.";
    return { code: 'invalid_request', message, param: 'continue_final_message' };
  }
  const last = request.messages.length - 1;
  if (request.messages[last]?.role === 'assistant') return null;
  const message = "'continue_final_message' needs an assistant message as the last one.";
  return { code: 'invalid_request', message, param: `messages[${last}].role` };
}

/** One prompt. */
export type TextPrompt = string | number[];

interface Complaint {
  message: string;
  path: number[];
}

const EMPTY = 'must not be empty';

/** Not `z.array`, which would take seconds to list the errors of half a million items. */
function complain(prompt: unknown): Complaint | null {
  if (typeof prompt === 'string') return null;
  if (!Array.isArray(prompt))
    return { message: 'must be a string, token ids, or a list of either', path: [] };
  if (prompt.length === 0) return { message: EMPTY, path: [] };
  if (typeof prompt[0] === 'number') return complainOfIds(prompt, []);
  if (prompt.length > MAX_PROMPTS)
    return { message: `has ${prompt.length} prompts; at most ${MAX_PROMPTS} are allowed`, path: [] };
  for (const [at, one] of prompt.entries()) {
    if (typeof one === 'string') continue;
    if (!Array.isArray(one))
      return { message: 'must be a string or token ids, like every prompt of a list', path: [at] };
    const complaint = one.length === 0 ? { message: EMPTY, path: [at] } : complainOfIds(one, [at]);
    if (complaint !== null) return complaint;
  }
  return null;
}

function complainOfIds(ids: readonly unknown[], path: number[]): Complaint | null {
  const at = ids.findIndex((id) => !Number.isSafeInteger(id) || (id as number) < 0);
  return at === -1 ? null : { message: 'is not a token id', path: [...path, at] };
}

export const TextPrompts = z
  .custom<TextPrompt | TextPrompt[]>()
  .superRefine((prompt, context) => {
    const complaint = complain(prompt);
    if (complaint !== null) context.addIssue({ code: 'custom', ...complaint, input: prompt });
  })
  .meta({
    anyOf: [
      { type: 'string' },
      { type: 'array', items: { type: 'integer', minimum: 0 }, minItems: 1 },
      { type: 'array', items: { type: ['string', 'array'] }, minItems: 1, maxItems: MAX_PROMPTS },
    ],
  });

/** The prompts of a request. */
export const promptsIn = (prompt: TextPrompt | TextPrompt[]): readonly TextPrompt[] =>
  typeof prompt === 'string' || typeof prompt[0] === 'number'
    ? [prompt as TextPrompt]
    : (prompt as TextPrompt[]);

/** Whether they were sent as a list. */
export const isPromptList = (prompt: TextPrompt | TextPrompt[]): boolean =>
  Array.isArray(prompt) && typeof prompt[0] !== 'number';

/** Answers to a request: this many per prompt. */
export const answersTo = (request: {
  model: string;
  n?: number | null | undefined;
  prompt?: TextPrompt | TextPrompt[];
}): number => (request.n ?? 1) * (request.prompt === undefined ? 1 : promptsIn(request.prompt).length);

/** Functions in `tools`. */
export const MAX_TOOLS = 128;
/** Calls in one message of a conversation. A model that asks for more goes in circles. */
export const MAX_TOOL_CALLS = 64;
/** Characters of one call’s arguments. */
const MAX_ARGUMENTS = 262_144;
const MAX_CALL_ID = 128;
/** OpenAI's syntax of a function's name. */
const functionName = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 of A-Z a-z 0-9 _ -');

const functionFields = {
  name: functionName,
  description: z.string().nullish(),
  parameters: JsonSchema.nullish(),
  /** Arguments are constrained by the schema, whose every keyword must be supported; otherwise only to JSON. */
  strict: z.boolean().nullish(),
};
export const FunctionDefinition = z.strictObject(functionFields);
export type FunctionDefinition = z.infer<typeof FunctionDefinition>;

const functionType = z.literal('function', "must be 'function': no other tools are supported");
export const ChatTool = z.strictObject({ type: functionType, function: FunctionDefinition });
export const ResponseTool = z.strictObject({ type: functionType, ...functionFields });
export type ResponseTool = z.infer<typeof ResponseTool>;

const modes = z.enum(['none', 'auto', 'required']);
const choiceError = "must be 'none', 'auto', 'required' or a function";
export const ChatToolChoice = z.union(
  [modes, z.strictObject({ type: z.literal('function'), function: z.strictObject({ name: functionName }) })],
  choiceError,
);
export const ResponseToolChoice = z.union(
  [modes, z.strictObject({ type: z.literal('function'), name: functionName })],
  choiceError,
);
export type ResponseToolChoice = z.infer<typeof ResponseToolChoice>;

export const chatToolFields = {
  tools: z.array(ChatTool).max(MAX_TOOLS).nullish(),
  tool_choice: ChatToolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};
export const responseToolFields = {
  tools: z.array(ResponseTool).max(MAX_TOOLS).nullish(),
  tool_choice: ResponseToolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};

const callArguments = z.string().max(MAX_ARGUMENTS);

/** A call in an assistant's message, as it was returned. Clients add fields of their own. */
export const ToolCall = z.object({
  id: z.string().max(MAX_CALL_ID).optional(),
  type: z.literal('function').optional(),
  function: z.object({ name: z.string().min(1).max(64), arguments: callArguments }),
});
export type ToolCall = z.infer<typeof ToolCall>;

/** The same as an item of a response's input. */
export const FunctionCallItem = z.object({
  type: z.literal('function_call'),
  call_id: z.string().min(1).max(MAX_CALL_ID),
  name: z.string().min(1).max(64),
  arguments: callArguments,
});
export const FunctionOutputItem = z.object({
  type: z.literal('function_call_output'),
  call_id: z.string().min(1).max(MAX_CALL_ID),
  output: z.union(
    [z.string(), z.array(z.object({ type: z.literal('input_text'), text: z.string() }))],
    'must be a string or an array of input_text parts',
  ),
});

/** A request's tools and tool choice, in either shape. */
export interface ToolUse {
  readonly functions: readonly FunctionDefinition[];
  /** `auto`: the model may answer with text; a name: only this function. */
  readonly choice: 'auto' | 'required' | { readonly name: string };
  /** Whether one answer may have several calls. */
  readonly parallel: boolean;
}

interface ToolRequest {
  tools?: readonly (z.infer<typeof ChatTool> | ResponseTool)[] | null | undefined;
  tool_choice?: z.infer<typeof ChatToolChoice> | ResponseToolChoice | null | undefined;
  parallel_tool_calls?: boolean | null | undefined;
}

const functionOf = (tool: z.infer<typeof ChatTool> | ResponseTool): FunctionDefinition => {
  if ('function' in tool) return tool.function;
  const { type: _type, ...definition } = tool;
  return definition;
};

const chosenName = (choice: ToolRequest['tool_choice']): string | null =>
  typeof choice !== 'object' || choice === null
    ? null
    : 'function' in choice
      ? choice.function.name
      : choice.name;

/** @returns null when the model is to call none. */
export function toolUseOf({ tools, tool_choice: choice, parallel_tool_calls }: ToolRequest): ToolUse | null {
  if (tools == null || tools.length === 0 || choice === 'none') return null;
  const name = chosenName(choice);
  return {
    functions: tools.map(functionOf),
    choice: name !== null ? { name } : choice === 'required' ? 'required' : 'auto',
    parallel: parallel_tool_calls ?? true,
  };
}

/** Used in request schemas: names are unique, and the chosen one exists. */
export function checkTools(request: ToolRequest, context: z.RefinementCtx): void {
  const names = (request.tools ?? []).map((tool) => functionOf(tool).name);
  const complain = (message: string, path: PropertyKey[]): void =>
    context.addIssue({ code: 'custom', message, path });
  const repeated = names.findIndex((name, at) => names.indexOf(name) < at);
  if (repeated !== -1) complain(`contains two functions named '${names[repeated]!}'`, ['tools', repeated]);
  const chosen = chosenName(request.tool_choice);
  if (request.tool_choice === 'required' && names.length === 0)
    complain("'required' needs 'tools'", ['tool_choice']);
  if (chosen !== null && !names.includes(chosen))
    complain(`names a function '${chosen}' that is not in 'tools'`, ['tool_choice']);
}

/** Refuses tools that OpenAI runs, where they occur. */
export function refuseTools(tools: unknown): ApiError | null {
  if (!Array.isArray(tools)) return null;
  for (const [at, tool] of tools.entries()) {
    const type: unknown = isMap(tool) ? tool['type'] : undefined;
    if (typeof type === 'string' && type !== 'function')
      return unsupported(
        `tools[${at}].type`,
        'only functions are supported',
        `A tool of type '${short(type)}'`,
      );
  }
  return null;
}

/**
 * @param request chat, text completion or response, checked.
 * @returns the most tokens that one answer may have; null = as many as the context leaves.
 */
export function maxTokensOf(request: {
  max_tokens?: number | null | undefined;
  max_completion_tokens?: number | null | undefined;
  max_output_tokens?: number | null | undefined;
}): number | null {
  if ('input' in request) return request.max_output_tokens ?? null;
  if ('prompt' in request) return request.max_tokens ?? DEFAULT_TEXT_TOKENS;
  return request.max_completion_tokens ?? request.max_tokens ?? null;
}
