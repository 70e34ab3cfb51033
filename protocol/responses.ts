/**
 * Requests, answers and stream events of OpenAI's Responses, without state: nothing is stored, hosted tools are
 * refused.
 */
import { z } from 'zod';
import { type ApiError, err, ok, type Result } from './api-error.ts';
import {
  ITEM_RULES,
  RESPONSE_RULES,
  TEXT_OPTION_RULES,
  IgnoredPaths,
  asFields,
  checkBody,
  clamp,
  isMap,
  issuePath,
  keysOf,
  short,
  selectFields,
  unsupported,
  type Fields,
  type Parsed,
  type ParseOptions,
  type ParseState,
} from './parse-body.ts';
import {
  MAX_CLIENT_KEY,
  MAX_MESSAGES,
  MAX_METADATA,
  MAX_TOP_LOGPROBS,
  MAX_USER_CHARACTERS,
} from './limits.ts';
import {
  refuseCrowd,
  readContent,
  refuseLimits,
  samplingFields,
  refuseSecondConstraint,
  structuredFields,
  TextFormat,
  checkTools,
  FunctionCallItem,
  FunctionOutputItem,
  refuseTools,
  responseToolFields,
} from './request-fields.ts';

/** The only value of `include` with a meaning for stateless text. */
const LOGPROBS = 'message.output_text.logprobs';

const inputPart = z.strictObject({ type: z.literal('input_text'), text: z.string() });

export const ResponseInputItem = z.strictObject({
  type: z.literal('message').optional(),
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([z.string(), z.array(inputPart)], 'must be a string or an array of text parts'),
});
export type ResponseInputItem = z.infer<typeof ResponseInputItem>;

const InputItem = z.union([ResponseInputItem, FunctionCallItem, FunctionOutputItem]);
export type InputItem = z.infer<typeof InputItem>;

/** Items that are not messages. */
const CALLS: ReadonlyMap<unknown, z.ZodType> = new Map<unknown, z.ZodType>([
  ['function_call', FunctionCallItem],
  ['function_call_output', FunctionOutputItem],
]);

const metadata = z
  .record(z.string().max(MAX_METADATA.key), z.string().max(MAX_METADATA.value))
  .refine(
    (map) => Object.keys(map).length <= MAX_METADATA.pairs,
    `must not have more than ${MAX_METADATA.pairs} pairs`,
  );

const TextOptions = z.strictObject({ format: TextFormat.nullish() });

export const ResponseRequest = z
  .strictObject({
    model: z.string().min(1).max(512),
    input: z.union(
      [z.string(), z.array(InputItem).min(1).max(MAX_MESSAGES)],
      `must be a string or an array of 1 to ${MAX_MESSAGES} items: messages, function calls and their ` +
        'outputs',
    ),
    instructions: z.string().nullish(),
    max_output_tokens: z.int().positive().nullish(),
    stream: z.boolean().nullish(),
    ...samplingFields,
    ...structuredFields,
    text: TextOptions.nullish(),
    top_logprobs: z.int().min(0).max(MAX_TOP_LOGPROBS).nullish(),
    include: z.array(z.literal(LOGPROBS)).nullish(),
    metadata: metadata.nullish(),
    user: z.string().max(MAX_USER_CHARACTERS).nullish(),
    safety_identifier: z.string().max(MAX_CLIENT_KEY).nullish(),
    prompt_cache_key: z.string().max(MAX_CLIENT_KEY).nullish(),
    ...responseToolFields,
  })
  .superRefine(refuseSecondConstraint)
  .superRefine(checkTools);
export type ResponseRequest = z.infer<typeof ResponseRequest>;

const RESPONSE: Fields = { known: keysOf(ResponseRequest), rules: RESPONSE_RULES };
const TEXT: Fields = { known: keysOf(TextOptions), rules: TEXT_OPTION_RULES };
const ITEM: Fields = { known: keysOf(ResponseInputItem), rules: ITEM_RULES };

/** A model's reasoning, when its answer is sent back: no chat template shows it again. */
const REASONING = 'reasoning';

const isReasoning = (item: unknown): boolean => isMap(item) && item['type'] === REASONING;

/** Placeholder for dropped items, so that the schema reports the original indexes. */
const NOTHING: ResponseInputItem = { role: 'assistant', content: '' };

const NO_REFERENCES =
  "this server stores nothing; send the item itself. In the AI SDK, set 'store: false' in " +
  'providerOptions.openai';

/** An item as the schema has it. */
function readItem(item: unknown, at: number, state: ParseState): Result<unknown, ApiError> {
  if (!isMap(item)) return ok(item);
  const { type } = item;
  const path = ['input', at];
  if (isReasoning(item)) {
    state.ignored.add([...path, REASONING]);
    return ok(NOTHING);
  }
  if (CALLS.has(type)) return ok(item);
  if (typeof type === 'string' && type !== 'message') {
    const why = type === 'item_reference' ? NO_REFERENCES : undefined;
    return err(unsupported(issuePath([...path, 'type']), why, `An input item of type '${short(type)}'`));
  }
  const selected = selectFields(item, ITEM, state, path);
  if (!selected.ok || !('content' in item)) return selected;
  const content = readContent(item['content'], 'input_text', state, [...path, 'content']);
  return content.ok ? ok({ ...selected.value, content: content.value }) : content;
}

function readInput(input: unknown, state: ParseState): Result<unknown, ApiError> {
  // The schema counts them.
  if (!Array.isArray(input) || input.length > MAX_MESSAGES) return ok(input);
  const items: unknown[] = [];
  for (const [at, item] of input.entries()) {
    const selected = readItem(item, at, state);
    if (!selected.ok) return selected;
    items.push(selected.value);
  }
  return ok(items);
}

/** Other values of `include` never apply here. */
function readInclude(include: unknown, state: ParseState): unknown {
  if (!Array.isArray(include)) return include;
  const wanted = include.filter((one) => typeof one !== 'string' || one === LOGPROBS);
  if (wanted.length < include.length) state.ignored.add(['include', 0]);
  return wanted;
}

/** @param body parsed JSON. */
export function parseResponse(
  body: unknown,
  { strict = false }: ParseOptions = {},
): Result<Parsed<ResponseRequest>, ApiError> {
  const fields = asFields(body);
  if (!fields.ok) return fields;
  const crowd = refuseCrowd(fields.value['input'], 'input');
  if (crowd !== null) return err(crowd);
  const state = { strict, ignored: new IgnoredPaths() };
  const selected = selectFields(fields.value, RESPONSE, state);
  if (!selected.ok) return selected;
  const foreign = refuseTools(selected.value['tools']);
  if (foreign !== null) return err(foreign);
  const input = readInput(selected.value['input'], state);
  if (!input.ok) return input;
  const { text } = selected.value;
  const format = isMap(text) ? selectFields(text, TEXT, state, ['text']) : ok(text);
  if (!format.ok) return format;
  clamp(selected.value, 'top_logprobs', MAX_TOP_LOGPROBS, state);
  const include = readInclude(selected.value['include'], state);
  const request = checkBody(ResponseRequest, {
    ...selected.value,
    include,
    input: input.value,
    text: format.value,
  });
  if (!request.ok) return request;
  if (typeof request.value.input !== 'string') {
    const sent = selected.value['input'] as readonly unknown[];
    request.value.input = request.value.input.filter((_, at) => !isReasoning(sent[at]));
    if (request.value.input.length === 0)
      return err({
        code: 'invalid_request',
        message: "Invalid value for 'input': it contains no message.",
        param: 'input',
      });
  }
  const limit = { name: 'max_output_tokens', value: request.value.max_output_tokens };
  const refusal = refuseLimits(request.value, limit);
  if (refusal !== null) return err(refusal);
  if (!wantsLogprobs(request.value) && request.value.top_logprobs != null)
    state.ignored.add(['top_logprobs']);
  return ok({ request: request.value, ignored: state.ignored.list() });
}

/**
 * Body of `POST /v1/responses/input_tokens`: a request that is only counted. Only the base's tokenizer matters,
 * so `model` is optional.
 * @param body parsed JSON.
 */
export const parseInputTokens = (
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<ResponseRequest>, ApiError> =>
  parseResponse(isMap(body) && body['model'] == null ? { ...body, model: 'base' } : body, options);

export const InputTokensAnswer = z
  .object({
    object: z.literal('response.input_tokens'),
    input_tokens: z.int(),
  })
  .meta({ id: 'InputTokensAnswer' });
export type InputTokensAnswer = z.infer<typeof InputTokensAnswer>;

/** Log-probabilities are returned only if `include` asks for them. */
export const wantsLogprobs = (request: ResponseRequest): boolean =>
  request.include?.includes(LOGPROBS) ?? false;
