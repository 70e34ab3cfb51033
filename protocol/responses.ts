/** Requests, answers and stream events of OpenAI's Responses, without state: nothing is stored, tools are refused. */
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
  takeFields,
  unsupported,
  type Fields,
  type Parsed,
  type ParseOptions,
  type Taking,
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
  takeContent,
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

/** The one value of `include` that stateless text has a meaning for. */
const LOGPROBS = 'message.output_text.logprobs';

const inputPart = z.strictObject({ type: z.literal('input_text'), text: z.string() });

export const ResponseInputItem = z.strictObject({
  type: z.literal('message').optional(),
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content: z.union([z.string(), z.array(inputPart)], 'must be a string or an array of parts with text'),
});
export type ResponseInputItem = z.infer<typeof ResponseInputItem>;

const InputItem = z.union([ResponseInputItem, FunctionCallItem, FunctionOutputItem]);
export type InputItem = z.infer<typeof InputItem>;

/** Items that are no messages. */
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
      `must be a string or an array of 1 to ${MAX_MESSAGES} items: messages, function calls and their outputs`,
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

/** What a model thought, when its answer is sent back: no chat template shows it again. */
const REASONING = 'reasoning';

const isReasoning = (item: unknown): boolean => isMap(item) && item['type'] === REASONING;

/** In the place of what is left out, so that the schema names the places of the others. */
const NOTHING: ResponseInputItem = { role: 'assistant', content: '' };

const NO_REFERENCES =
  "nothing is kept here; send the item itself, as the AI SDK does with 'store: false' in providerOptions.openai";

/** An item as the schema has it. */
function takeItem(item: unknown, at: number, taking: Taking): Result<unknown, ApiError> {
  if (!isMap(item)) return ok(item);
  const { type } = item;
  const path = ['input', at];
  if (isReasoning(item)) {
    taking.ignored.add([...path, REASONING]);
    return ok(NOTHING);
  }
  if (CALLS.has(type)) return ok(item);
  if (typeof type === 'string' && type !== 'message') {
    const why = type === 'item_reference' ? NO_REFERENCES : undefined;
    return err(unsupported(issuePath([...path, 'type']), why, `An input item of type '${short(type)}'`));
  }
  const taken = takeFields(item, ITEM, taking, path);
  if (!taken.ok || !('content' in item)) return taken;
  const content = takeContent(item['content'], 'input_text', taking, [...path, 'content']);
  return content.ok ? ok({ ...taken.value, content: content.value }) : content;
}

function takeInput(input: unknown, taking: Taking): Result<unknown, ApiError> {
  // The schema counts them.
  if (!Array.isArray(input) || input.length > MAX_MESSAGES) return ok(input);
  const items: unknown[] = [];
  for (const [at, item] of input.entries()) {
    const taken = takeItem(item, at, taking);
    if (!taken.ok) return taken;
    items.push(taken.value);
  }
  return ok(items);
}

/** What can be included besides is never there. */
function takeInclude(include: unknown, taking: Taking): unknown {
  if (!Array.isArray(include)) return include;
  const wanted = include.filter((one) => typeof one !== 'string' || one === LOGPROBS);
  if (wanted.length < include.length) taking.ignored.add(['include', 0]);
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
  const taking = { strict, ignored: new IgnoredPaths() };
  const taken = takeFields(fields.value, RESPONSE, taking);
  if (!taken.ok) return taken;
  const foreign = refuseTools(taken.value['tools']);
  if (foreign !== null) return err(foreign);
  const input = takeInput(taken.value['input'], taking);
  if (!input.ok) return input;
  const { text } = taken.value;
  const format = isMap(text) ? takeFields(text, TEXT, taking, ['text']) : ok(text);
  if (!format.ok) return format;
  clamp(taken.value, 'top_logprobs', MAX_TOP_LOGPROBS, taking);
  const include = takeInclude(taken.value['include'], taking);
  const request = checkBody(ResponseRequest, {
    ...taken.value,
    include,
    input: input.value,
    text: format.value,
  });
  if (!request.ok) return request;
  if (typeof request.value.input !== 'string') {
    const sent = taken.value['input'] as readonly unknown[];
    request.value.input = request.value.input.filter((_, at) => !isReasoning(sent[at]));
    if (request.value.input.length === 0)
      return err({
        code: 'invalid_request',
        message: "Invalid value for 'input': it has no message.",
        param: 'input',
      });
  }
  const limit = { name: 'max_output_tokens', value: request.value.max_output_tokens };
  const refusal = refuseLimits(request.value, limit);
  if (refusal !== null) return err(refusal);
  if (!wantsLogprobs(request.value) && request.value.top_logprobs != null)
    taking.ignored.add(['top_logprobs']);
  return ok({ request: request.value, ignored: taking.ignored.list() });
}

/**
 * What `POST /v1/responses/input_tokens` counts: a request that is not run. Whose tokens they are is the base's alone, so
 * that `model` may be left out.
 * @param body parsed JSON.
 */
export const parseInputTokens = (
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<ResponseRequest>, ApiError> =>
  parseResponse(isMap(body) && body['model'] == null ? { ...body, model: 'base' } : body, options);

export const InputTokensAnswer = z.object({
  object: z.literal('response.input_tokens'),
  input_tokens: z.int(),
});
export type InputTokensAnswer = z.infer<typeof InputTokensAnswer>;

/** Log-probabilities are given only when `include` asks for them. */
export const wantsLogprobs = (request: ResponseRequest): boolean =>
  request.include?.includes(LOGPROBS) ?? false;
