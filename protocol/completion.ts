/** Requests of OpenAI's chat and text completions that graft supports, and the fields meant for the edge. */
import { z } from 'zod';
import { type ApiError, err, ok, type Result } from './api-error.ts';
import {
  CHAT_RULES,
  MESSAGE_RULES,
  STREAM_RULES,
  TEXT_RULES,
  IgnoredPaths,
  asFields,
  checkBody,
  clamp,
  isMap,
  keysOf,
  selectFields,
  unsupported,
  type Fields,
  type Parsed,
  type ParseOptions,
  type ParseState,
} from './parse-body.ts';
import {
  DEFAULT_TEXT_TOKENS,
  MAX_CHOICES,
  MAX_CLIENT_KEY,
  MAX_MESSAGES,
  MAX_TOP_LOGPROBS,
  MAX_USER_CHARACTERS,
  MAX_COMPOSED,
  MAX_COMPOSED_SCALE,
} from './limits.ts';
import {
  refuseCrowd,
  refuseTemplateFields,
  readContent,
  templateFields,
  TextPrompts,
  refuseLimits,
  samplingFields,
  refuseSecondConstraint,
  ResponseFormat,
  structuredFields,
  chatToolFields,
  checkTools,
  MAX_TOOL_CALLS,
  refuseTools,
  ToolCall,
} from './request-fields.ts';

const StreamOptions = z.strictObject({ include_usage: z.boolean().optional() });

/** Fields that chat and text completions share. `null` means "not given", as in OpenAI's schema. */
const common = {
  model: z.string().min(1).max(512),
  stream: z.boolean().nullish(),
  stream_options: StreamOptions.nullish(),
  ...samplingFields,
  ...structuredFields,
  response_format: ResponseFormat.nullish(),
  max_tokens: z.int().positive().nullish(),
  /** Answers per prompt. */
  n: z.int().min(1).max(MAX_CHOICES).nullish(),
  /** vLLM's: log-probabilities of the prompt's tokens and of this many alternatives; not in a stream. */
  prompt_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
  /** These two name the end user, for experiments. */
  user: z.string().max(MAX_USER_CHARACTERS).nullish(),
  safety_identifier: z.string().max(MAX_CLIENT_KEY).nullish(),
};

const textPart = z.strictObject({
  type: z.literal('text', 'only text parts are supported'),
  text: z.string(),
});
const content = z.union([z.string(), z.array(textPart)], 'must be a string or an array of text parts');

export const ChatMessage = z.strictObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
  content,
  name: z.string().optional(),
  /** Of an assistant's message. */
  tool_calls: z.array(ToolCall).max(MAX_TOOL_CALLS).optional(),
  /** Of a tool's: which call it is the result of. */
  tool_call_id: z.string().max(128).optional(),
});
export type ChatMessage = z.infer<typeof ChatMessage>;

export const ChatCompletionRequest = z
  .strictObject({
    ...common,
    messages: z.array(ChatMessage).min(1).max(MAX_MESSAGES),
    ...templateFields,
    ...chatToolFields,
    max_completion_tokens: z.int().positive().nullish(),
    logprobs: z.boolean().nullish(),
    top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
  })
  .superRefine(refuseSecondConstraint)
  .superRefine(checkTools);
export type ChatCompletionRequest = z.infer<typeof ChatCompletionRequest>;

export const TextCompletionRequest = z
  .strictObject({
    ...common,
    prompt: TextPrompts,
    /** vLLM's: whether to prepend the tokens that the base puts before every text; default true. */
    add_special_tokens: z.boolean().nullish(),
    echo: z.boolean().nullish(),
    logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
    /** Default 16. `max_tokens: 0` with `echo` scores the prompt. */
    max_tokens: z.int().min(0).nullish(),
  })
  .superRefine(refuseSecondConstraint);
export type TextCompletionRequest = z.infer<typeof TextCompletionRequest>;

const CHAT: Fields = { known: keysOf(ChatCompletionRequest), rules: CHAT_RULES };
const TEXT: Fields = { known: keysOf(TextCompletionRequest), rules: TEXT_RULES };
const MESSAGE: Fields = { known: new Set([...keysOf(ChatMessage), 'refusal']), rules: MESSAGE_RULES };
const STREAM: Fields = { known: keysOf(StreamOptions), rules: STREAM_RULES };

/** A message as the schema has it; anything else is left to the schema. */
function readMessage(message: unknown, at: number, state: ParseState): Result<unknown, ApiError> {
  if (!isMap(message)) return ok(message);
  const { role } = message;
  const path = ['messages', at];
  if (role === 'function')
    return err(
      unsupported(`messages[${at}].role`, "OpenAI replaced it with 'tool'", "A message of role 'function'"),
    );
  const selected = selectFields(message, MESSAGE, state, path);
  if (!selected.ok) return selected;
  const { refusal, ...fields } = selected.value;
  // An assistant's message may have a refusal or calls instead of content; a user's must have content.
  const said =
    message['content'] ?? refusal ?? ('content' in message || role === 'assistant' ? '' : undefined);
  if (refusal !== undefined && said !== refusal) state.ignored.add([...path, 'refusal']);
  if (said === undefined) return ok(fields);
  const content = readContent(said, 'text', state, [...path, 'content']);
  return content.ok ? ok({ ...fields, content: content.value }) : content;
}

function readMessages(messages: unknown, state: ParseState): Result<unknown, ApiError> {
  // The schema counts them.
  if (!Array.isArray(messages) || messages.length > MAX_MESSAGES) return ok(messages);
  const all: unknown[] = [];
  for (const [at, message] of messages.entries()) {
    const selected = readMessage(message, at, state);
    if (!selected.ok) return selected;
    all.push(selected.value);
  }
  return ok(all);
}

const readStreamOptions = (options: unknown, state: ParseState): Result<unknown, ApiError> =>
  isMap(options) ? selectFields(options, STREAM, state, ['stream_options']) : ok(options);

/** Not available in a stream. */
function refuseStreamed(request: {
  stream?: boolean | null | undefined;
  prompt_logprobs?: number | null | undefined;
}) {
  if (request.stream !== true || request.prompt_logprobs == null) return null;
  const message = "'prompt_logprobs' cannot be streamed. Remove 'stream'.";
  return { code: 'invalid_request' as const, message, param: 'prompt_logprobs' };
}

/** @param body parsed JSON. */
export function parseChatCompletion(
  body: unknown,
  { strict = false }: ParseOptions = {},
): Result<Parsed<ChatCompletionRequest>, ApiError> {
  const fields = asFields(body);
  if (!fields.ok) return fields;
  const crowd = refuseCrowd(fields.value['messages'], 'messages');
  if (crowd !== null) return err(crowd);
  const state = { strict, ignored: new IgnoredPaths() };
  const selected = selectFields(fields.value, CHAT, state);
  if (!selected.ok) return selected;
  const foreign = refuseTools(selected.value['tools']);
  if (foreign !== null) return err(foreign);
  const messages = readMessages(selected.value['messages'], state);
  if (!messages.ok) return messages;
  const options = readStreamOptions(selected.value['stream_options'], state);
  if (!options.ok) return options;
  clamp(selected.value, 'top_logprobs', MAX_TOP_LOGPROBS, state);
  clamp(selected.value, 'prompt_logprobs', MAX_TOP_LOGPROBS, state);
  const request = checkBody(ChatCompletionRequest, {
    ...selected.value,
    messages: messages.value,
    stream_options: options.value,
  });
  if (!request.ok) return request;
  const { logprobs, top_logprobs: top, max_completion_tokens: most } = request.value;
  const limit = most == null ? 'max_tokens' : 'max_completion_tokens';
  const refusal =
    refuseLimits(request.value, { name: limit, value: request.value[limit] }) ??
    refuseTemplateFields(request.value) ??
    refuseStreamed(request.value);
  if (refusal !== null) return err(refusal);
  if (logprobs !== true && top != null) state.ignored.add(['top_logprobs']);
  return ok({ request: request.value, ignored: state.ignored.list() });
}

/** @param body parsed JSON. */
export function parseTextCompletion(
  body: unknown,
  { strict = false }: ParseOptions = {},
): Result<Parsed<TextCompletionRequest>, ApiError> {
  const fields = asFields(body);
  if (!fields.ok) return fields;
  const state = { strict, ignored: new IgnoredPaths() };
  const selected = selectFields(fields.value, TEXT, state);
  if (!selected.ok) return selected;
  const options = readStreamOptions(selected.value['stream_options'], state);
  if (!options.ok) return options;
  clamp(selected.value, 'logprobs', MAX_TOP_LOGPROBS, state);
  clamp(selected.value, 'prompt_logprobs', MAX_TOP_LOGPROBS, state);
  const request = checkBody(TextCompletionRequest, { ...selected.value, stream_options: options.value });
  if (!request.ok) return request;
  const limit = { name: 'max_tokens', value: request.value.max_tokens ?? DEFAULT_TEXT_TOKENS };
  const refusal = refuseLimits(request.value, limit) ?? refuseStreamed(request.value);
  return refusal === null ? ok({ request: request.value, ignored: state.ignored.list() }) : err(refusal);
}

const ComposedAdapter = z.strictObject({
  /** A name, or `name@version`. */
  name: z.string().min(1).max(512),
  scale: z.number().min(-MAX_COMPOSED_SCALE).max(MAX_COMPOSED_SCALE).nullish(),
});

/** Fields of a completion request that are meant for the edge; the origin never sees them. */
export const EdgeFields = z.strictObject({
  /** Only the exact name: no ancestor is used as fallback. */
  strict: z.boolean().nullish(),
  /** Further adapters, added to the model's chain for this request. */
  adapters: z.array(ComposedAdapter).max(MAX_COMPOSED).nullish(),
});

export interface EdgeRequest {
  strict: boolean;
  adapters: { name: string; scale: number }[];
}

/**
 * Takes the edge's fields out of a body.
 * @param body parsed JSON. @returns the fields, and the body without them.
 */
export function takeEdgeFields(body: unknown): Result<{ edge: EdgeRequest; rest: unknown }, ApiError> {
  if (!isMap(body)) return ok({ edge: { strict: false, adapters: [] }, rest: body });
  if (!('strict' in body) && !('adapters' in body))
    return ok({ edge: { strict: false, adapters: [] }, rest: body });
  const { strict, adapters, ...rest } = body;
  const parsed = checkBody(EdgeFields, { strict, adapters });
  if (!parsed.ok) return parsed;
  const wanted = (parsed.value.adapters ?? []).map(({ name, scale }) => ({ name, scale: scale ?? 1 }));
  const repeated = wanted.findIndex(({ name }, i) => wanted.slice(0, i).some((other) => other.name === name));
  if (repeated !== -1)
    return err({
      code: 'invalid_request',
      message:
        `Invalid value for 'adapters[${repeated}].name': the adapter is listed twice. List it once, with ` +
        'one scale.',
      param: `adapters[${repeated}].name`,
    });
  return ok({ edge: { strict: parsed.value.strict ?? false, adapters: wanted }, rest });
}
