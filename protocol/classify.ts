/**
 * Requests to an adapter's classification head, in vLLM's shapes: `POST /v1/classify`, and for heads of one class
 * `POST /v1/score` and `POST /v1/rerank`, which Jina's and Cohere's clients send too.
 */
import { z } from 'zod';
import { type ApiError, err, type Result, ok } from './api-error.ts';
import { ChatMessage, parseChatCompletion, type ChatCompletionRequest } from './completion.ts';
import { embeddingInputs, inputs } from './embed-tokenize.ts';
import {
  MAX_CLIENT_KEY,
  MAX_EMBEDDING_INPUTS,
  MAX_MESSAGES,
  MAX_PAIR_CHARACTERS,
  MAX_USER_CHARACTERS,
} from './limits.ts';
import {
  asFields,
  checkBody,
  type FieldRule,
  IgnoredPaths,
  keysOf,
  type Parsed,
  type ParseOptions,
  selectFields,
} from './parse-body.ts';

const common = {
  model: z.string().min(1).max(512),
  /** As in vLLM: false returns the head's own numbers, without softmax or sigmoid; default true. */
  use_activation: z.boolean().nullish(),
  user: z.string().max(MAX_USER_CHARACTERS).nullish(),
  safety_identifier: z.string().max(MAX_CLIENT_KEY).nullish(),
};

export const ClassifyRequest = z
  .strictObject({
    ...common,
    /** Each text or list of token ids is classified; or one conversation, in `messages`. */
    input: inputs.nullish(),
    /** Whether to prepend the tokens that start every raw prompt; default true. Of texts only. */
    add_special_tokens: z.boolean().nullish(),
    /** A conversation, rendered with the base's chat template; other fields of a chat completion that affect it, too. */
    messages: z.array(ChatMessage).min(1).max(MAX_MESSAGES).nullish(),
  })
  .meta({ id: 'ClassifyRequest' });
export type ClassifyRequest = z.infer<typeof ClassifyRequest> &
  Partial<Omit<ChatCompletionRequest, 'model' | 'messages' | 'user' | 'safety_identifier'>>;

const text = z.string();
/** A text, or Jina's and Cohere's object with one. */
const document = z.union([text, z.object({ text }).transform((given) => given.text)]);
const texts = z.union([
  document.transform((one) => [one]),
  z.array(document).min(1).max(MAX_EMBEDDING_INPUTS),
]);

export const ScoreRequest = z
  .strictObject({
    ...common,
    /** One text, or as many as `text_2` has. Also `queries` or `data_1`. */
    text_1: texts,
    /** Each is scored behind the text before it. Also `documents`, `items` or `data_2`. */
    text_2: texts,
  })
  .meta({ id: 'ScoreRequest' });
export type ScoreRequest = z.infer<typeof ScoreRequest>;

export const RerankRequest = z
  .strictObject({
    ...common,
    query: document,
    documents: texts,
    /** Results returned, the most relevant first; default, and with 0: all. */
    top_n: z.int().min(0).nullish(),
    /** Whether results contain the documents' texts; default true. */
    return_documents: z.boolean().nullish(),
  })
  .meta({ id: 'RerankRequest' });
export type RerankRequest = z.infer<typeof RerankRequest>;

const Usage = z.object({ prompt_tokens: z.int(), total_tokens: z.int(), completion_tokens: z.literal(0) });

export const ClassifyAnswer = z
  .object({
    id: z.string(),
    object: z.literal('list'),
    /** Unix seconds. */
    created: z.int(),
    model: z.string(),
    data: z.array(
      z.object({
        index: z.int(),
        /** The likeliest class. */
        label: z.string(),
        /** By class, in the order of the head. */
        probs: z.array(z.number()),
        num_classes: z.int(),
      }),
    ),
    usage: Usage,
  })
  .meta({ id: 'ClassifyAnswer' });
export type ClassifyAnswer = z.infer<typeof ClassifyAnswer>;

export const ScoreAnswer = z
  .object({
    id: z.string(),
    object: z.literal('list'),
    created: z.int(),
    model: z.string(),
    data: z.array(z.object({ index: z.int(), object: z.literal('score'), score: z.number() })),
    usage: Usage,
  })
  .meta({ id: 'ScoreAnswer' });
export type ScoreAnswer = z.infer<typeof ScoreAnswer>;

export const RerankAnswer = z
  .object({
    id: z.string(),
    model: z.string(),
    usage: Usage,
    /** The most relevant first. */
    results: z.array(
      z.object({
        /** Of the document in the request. */
        index: z.int(),
        document: z.object({ text: z.string() }).optional(),
        relevance_score: z.number(),
      }),
    ),
  })
  .meta({ id: 'RerankAnswer' });
export type RerankAnswer = z.infer<typeof RerankAnswer>;

const isOff = (value: unknown): boolean =>
  value === false || value === 0 || value === '' || value === -1 || value === 'do_not_pad';
const isEmptyMap = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;

/** vLLM's fields that would change the answer. */
const RULES: ReadonlyMap<string, FieldRule> = new Map<string, FieldRule>([
  ['truncate_prompt_tokens', { idle: isOff, why: 'shorten the texts yourself' }],
  ['max_tokens_per_query', { idle: isOff, why: 'shorten the query yourself' }],
  ['max_tokens_per_doc', { idle: isOff, why: 'shorten the documents yourself' }],
  ['padding', { idle: isOff, why: 'nothing is padded' }],
  ['activation', { idle: () => false, why: "use 'use_activation'" }],
  ['softmax', { idle: () => false, why: "use 'use_activation'" }],
  ['instruction', { idle: isOff, why: 'query and document are joined as they are; write it into the query' }],
  [
    'chat_template_kwargs',
    { idle: isEmptyMap, why: 'query and document are joined as they are, without a template' },
  ],
  ['chat_template', { idle: isOff, why: 'query and document are joined as they are, without a template' }],
  ['mm_processor_kwargs', { idle: isEmptyMap, why: 'this server reads text only' }],
]);

function parseFields<T>(
  schema: z.ZodType<T> & { shape: object },
  fields: Record<string, unknown>,
  { strict = false }: ParseOptions,
): Result<Parsed<T>, ApiError> {
  const ignored = new IgnoredPaths();
  const selected = selectFields(fields, { known: keysOf(schema), rules: RULES }, { strict, ignored });
  if (!selected.ok) return selected;
  const checked = checkBody(schema, selected.value);
  return checked.ok ? ok({ request: checked.value, ignored: ignored.list() }) : checked;
}

const OWN = Object.keys(ClassifyRequest.shape).filter((name) => name !== 'messages');

/**
 * A conversation accepts every field of a chat completion that affects its prompt. As in vLLM, no answer is begun
 * unless `add_generation_prompt` says so.
 * @param body parsed JSON.
 */
export function parseClassify(
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<ClassifyRequest>, ApiError> {
  const fields = asFields(body);
  if (!fields.ok) return fields;
  const given = fields.value;
  if ((given['input'] == null) === (given['messages'] == null)) {
    const message = "Give either 'input' or 'messages'.";
    return err({ code: 'invalid_request', message, param: given['input'] == null ? 'input' : 'messages' });
  }
  if (given['messages'] == null) return parseFields(ClassifyRequest, given, options);
  const isOwn = ([name]: [string, unknown]): boolean => OWN.includes(name);
  const entries = Object.entries(given);
  const chat = parseChatCompletion(
    {
      add_generation_prompt: false,
      ...Object.fromEntries(entries.filter((entry) => !isOwn(entry))),
      model: 'base',
    },
    options,
  );
  if (!chat.ok) return chat;
  const own = parseFields(ClassifyRequest, Object.fromEntries(entries.filter(isOwn)), options);
  if (!own.ok) return own;
  return ok({
    request: { ...chat.value.request, ...own.value.request },
    ignored: [...chat.value.ignored, ...own.value.ignored],
  });
}

/** Names of the two texts of a pair in vLLM's versions of the request. */
const PAIRS = [
  ['text_1', 'text_2'],
  ['queries', 'documents'],
  ['queries', 'items'],
  ['data_1', 'data_2'],
] as const;

/** @param body parsed JSON. */
export function parseScore(
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<ScoreRequest>, ApiError> {
  const fields = asFields(body);
  if (!fields.ok) return fields;
  const given = fields.value;
  const pair = PAIRS.find(([one, other]) => given[one] != null && given[other] != null);
  if (pair === undefined) {
    const message = "Give the texts in 'text_1' and 'text_2'.";
    return err({ code: 'invalid_request', message, param: given['text_1'] == null ? 'text_1' : 'text_2' });
  }
  const { [pair[0]]: text_1, [pair[1]]: text_2, ...rest } = given;
  const parsed = parseFields(ScoreRequest, { ...rest, text_1, text_2 }, options);
  if (!parsed.ok) return parsed;
  const [queries, documents] = [parsed.value.request.text_1.length, parsed.value.request.text_2.length];
  if (queries === 1 || queries === documents) {
    const long = tooLong(parsed.value.request, pair[1]);
    return long === null ? parsed : err(long);
  }
  const message = `'${pair[0]}' has ${queries} texts and '${pair[1]}' ${documents}. Give one, or as many as the other has.`;
  return err({ code: 'invalid_request', message, param: pair[0] });
}

/** @param body parsed JSON. */
export function parseRerank(
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<RerankRequest>, ApiError> {
  const fields = asFields(body);
  if (!fields.ok) return fields;
  const parsed = parseFields(RerankRequest, fields.value, options);
  const long = parsed.ok ? tooLong(parsed.value.request, 'documents') : null;
  return long === null ? parsed : err(long);
}

/** The query and the document that get one score. */
function pairOf(
  request: ScoreRequest | RerankRequest,
  at: number,
): readonly [query: string, document: string] {
  if ('query' in request) return [request.query, request.documents[at]!];
  const { text_1: queries, text_2: documents } = request;
  return [queries.length === 1 ? queries[0]! : queries[at]!, documents[at]!];
}

/** How many pairs a request has. */
export const pairsIn = (request: ScoreRequest | RerankRequest): number =>
  'query' in request ? request.documents.length : request.text_2.length;

/**
 * A pair as one text. As vLLM joins it for decoders: the document stands behind the query, with nothing between (vllm
 * `scoring/io_processor.py`, `get_score_prompt`).
 */
export const joinedPair = (request: ScoreRequest | RerankRequest, at: number): string =>
  pairOf(request, at).join('');

/** The length of all pairs together: nobody joins them for that. */
export function charactersOfPairs(request: ScoreRequest | RerankRequest): number {
  let sum = 0;
  for (let at = 0; at < pairsIn(request); at += 1)
    sum += pairOf(request, at).reduce((length, { length: more }) => length + more, 0);
  return sum;
}

/** A short request could otherwise make a long query be read thousands of times. */
function tooLong(request: ScoreRequest | RerankRequest, param: string): ApiError | null {
  const characters = charactersOfPairs(request);
  if (characters <= MAX_PAIR_CHARACTERS) return null;
  const message =
    `The pairs have ${characters} characters together, with the query in each; at most ${MAX_PAIR_CHARACTERS} ` +
    'are allowed. Send fewer documents.';
  return { code: 'invalid_request', message, param };
}

/** How many texts are classified. */
export const classifiedIn = (request: ClassifyRequest): number =>
  request.input == null ? 1 : embeddingInputs(request.input).length;
