/**
 * The prompts of a request as token ids, encoded a slice at a time in the tenant's turn: text completions have
 * up to 128, all others one.
 */
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import type { ChatCompletionRequest, ChatMessage, TextCompletionRequest } from '../../protocol/completion.ts';
import { MAX_PROMPT_LIST_SCORES, MAX_PROMPT_LIST_TOKENS } from '../../protocol/limits.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { isMap } from '../../protocol/parse-body.ts';
import { isPromptList, promptsIn, type TextPrompt, toolUseOf } from '../../protocol/request-fields.ts';
import type { ResponseRequest } from '../../protocol/responses.ts';
import { contextFull, type ContextLengthExceeded, noSuchBias } from '../engine/engine.ts';
import { type GenerationRequest, samplingParamsOf } from '../generation/sampler.ts';
import {
  ChatTemplateError,
  type TemplateCall,
  type TemplateMessage,
  type TemplateOptions,
  type TemplateTool,
  type ChatTemplate,
} from '../model/chat-template.ts';
import { type Chunked, utf8Length, type Tokenizer } from '../model/tokenizer.ts';
import type { Clock } from '../engine/ports.ts';

export interface Prompt {
  ids: readonly number[];
  /** If it must be echoed. */
  echo: Echo | null;
}

export interface Echo {
  readonly text: string;
  /** Whether the echoed text omits a token of the prompt. @param place of the token, from 0. */
  readonly leavesOut: (id: number, place: number) => boolean;
}

type SingleText = Omit<TextCompletionRequest, 'prompt'> & { prompt: TextPrompt };
/** A request with a single prompt. */
export type SinglePrompt = Exclude<GenerationRequest, TextCompletionRequest> | SingleText;

/** Each in its turn. Errors of `promptOf`, and of a prompt that leaves no room for an answer. */
export async function promptsOf(
  request: GenerationRequest,
  services: PromptServices,
  caller: PromptCaller,
): Promise<Result<Prompt[], ApiError>> {
  const { context } = services.base;
  const { maxTokens } = samplingParamsOf(request);
  const prompts: Prompt[] = [];
  let tokens = 0;
  for (const { single, param } of singles(request)) {
    const one = await promptOf(single, services, caller, param);
    if (!one.ok) return err(withCounted(one.error, tokens));
    const prompt = one.value.ids.length;
    tokens += prompt;
    const refusal = contextFull({ context, prompt, maxTokens, param }) ?? tooMany(request, tokens);
    if (refusal !== null) return err({ ...refusal, promptTokens: tokens });
    prompts.push(one.value);
  }
  return ok(prompts);
}

/** A list counts what was encoded of it; `queue_full` and others have nothing to count. */
const withCounted = (error: ApiError, tokens: number): ApiError =>
  error.code === 'context_length_exceeded'
    ? { ...error, promptTokens: (error.promptTokens ?? 0) + tokens }
    : error;

function singles(request: GenerationRequest): { single: SinglePrompt; param: string }[] {
  const field = promptField(request);
  if (!('prompt' in request)) return [{ single: request, param: field }];
  const isList = isPromptList(request.prompt);
  return promptsIn(request.prompt).map((prompt, at) => ({
    single: { ...request, prompt },
    param: isList ? `${field}[${at}]` : field,
  }));
}

/** Why a list has too many tokens. A single prompt is limited by the context. */
function tooMany(request: GenerationRequest, tokens: number): ContextLengthExceeded | null {
  if (!('prompt' in request) || !isPromptList(request.prompt)) return null;
  const { logprobs } = samplingParamsOf(request);
  const wanted = [request.echo === true ? logprobs : null, request.prompt_logprobs ?? null];
  const scores = Math.max(...wanted.map((one) => (one === null ? 0 : 1 + one))) * (request.n ?? 1);
  const most =
    scores === 0
      ? MAX_PROMPT_LIST_TOKENS
      : Math.min(MAX_PROMPT_LIST_TOKENS, Math.floor(MAX_PROMPT_LIST_SCORES / scores));
  if (tokens <= most) return null;
  const message = `These prompts have more than ${most} tokens in total, the most for one request. Please send fewer.`;
  return { code: 'context_length_exceeded', message, param: 'prompt' };
}

/** Tokens whose texts are put together in one step. */
const ECHO_STEP = 4_096;

/**
 * Errors: those of the prompt, and `queue_full` when too much waits to be encoded.
 * @param param the field at fault.
 */
export async function promptOf(
  request: SinglePrompt,
  services: PromptServices,
  caller: PromptCaller,
  param = promptField(request),
): Promise<Result<Prompt, ApiError>> {
  const { tokenizer } = services;
  const beyond = Object.keys(request.logit_bias ?? {}).find(
    (id) => tokenizer.tokenBytes(Number(id)) === null,
  );
  if (beyond !== undefined) return err(noSuchBias(Number(beyond)));
  const encoded =
    'prompt' in request
      ? await textPrompt(request, { services, caller, param })
      : await chatPrompt(request, { services, caller, param });
  if (!encoded.ok) return encoded;
  if (encoded.value.ids.length === 0)
    return err({ code: 'invalid_request', message: 'The prompt is empty.', param });
  return encoded;
}

/** @param param path of the ids. @returns why they are invalid, or null. */
export function unknownToken(ids: readonly number[], tokenizer: Tokenizer, param: string): ApiError | null {
  const at = ids.findIndex((id) => tokenizer.tokenBytes(id) === null);
  if (at === -1) return null;
  return { code: 'invalid_request', message: `There is no token ${ids[at]!}.`, param: `${param}[${at}]` };
}

const promptField = (request: GenerationRequest | SinglePrompt): string =>
  'messages' in request ? 'messages' : 'input' in request ? 'input' : 'prompt';

const templateOptions = (request: ChatCompletionRequest): TemplateOptions => ({
  variables: request.chat_template_kwargs ?? {},
  opensTurn: request.add_generation_prompt ?? true,
  continuesLast: request.continue_final_message ?? false,
});

async function chatPrompt(
  request: ChatCompletionRequest | ResponseRequest,
  { services, caller, param }: { services: PromptServices; caller: PromptCaller; param: string },
): Promise<Result<Prompt, ApiError>> {
  const { chatTemplate, base } = services;
  if (chatTemplate === null)
    return err({
      code: 'invalid_request',
      message: 'This base has no chat template. Use /v1/completions.',
      param: null,
    });
  const conversation = conversationOf(request);
  const tools = templateTools(request);
  const options = { ...('messages' in request ? templateOptions(request) : {}), tools };
  const written = [...conversation, ...tools];
  try {
    const ids = await encodeCooperatively(services, caller, {
      bytes: written.reduce((sum, one) => sum + utf8Length(JSON.stringify(one)), 0),
      param,
      steps: chatTemplate.encodeChunked(conversation, base.context, options),
    });
    return ids.ok ? ok({ ids: ids.value, echo: null }) : ids;
  } catch (error) {
    if (!(error instanceof ChatTemplateError)) throw error;
    const message = `The base's chat template refuses these messages: ${error.message}`;
    return err({ code: 'invalid_request', message, param });
  }
}

/** A raw prompt is the caller's own template: its control strings become their tokens. */
async function textPrompt(
  { prompt, echo, add_special_tokens: special }: SingleText,
  { services, caller, param }: { services: PromptServices; caller: PromptCaller; param: string },
): Promise<Result<Prompt, ApiError>> {
  const { tokenizer, base } = services;
  if (typeof prompt === 'string') {
    const ids = await encodeCooperatively(services, caller, {
      bytes: utf8Length(prompt),
      param,
      steps: tokenizer.encodeChunked(prompt, { allowSpecial: true, limit: base.context }),
    });
    if (!ids.ok) return ids;
    const prefix = special === false ? [] : tokenizer.prefixIds;
    return ok({
      ids: [...prefix, ...ids.value],
      echo: echo === true ? { text: prompt, leavesOut: (_id, place) => place < prefix.length } : null,
    });
  }
  if (prompt.length > base.context) return err(tooLong(base.context, param, 0));
  const unknown = unknownToken(prompt, tokenizer, param);
  if (unknown !== null) return err(unknown);
  if (echo !== true) return ok({ ids: prompt, echo: null });
  const text = await services.prompts.run({
    ...caller,
    bytes: prompt.length,
    steps: textChunked(prompt, services),
  });
  return text.ok
    ? ok({ ids: prompt, echo: { text: text.value, leavesOut: (id) => tokenizer.isSpecial(id) } })
    : text;
}

/** Without control tokens. A character may lie in several tokens. */
function* textChunked(ids: readonly number[], { tokenizer }: PromptServices): Chunked<string> {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let text = '';
  for (const [at, id] of ids.entries()) {
    const bytes = tokenizer.isSpecial(id) ? null : tokenizer.tokenBytes(id);
    if (bytes !== null) text += decoder.decode(bytes, { stream: true });
    if ((at + 1) % ECHO_STEP === 0) yield;
  }
  return text + decoder.decode();
}

type Conversation = Pick<ChatCompletionRequest, 'messages'> | Pick<ResponseRequest, 'input' | 'instructions'>;

/** A request in the form of chat templates. */
function conversationOf(request: Conversation): TemplateMessage[] {
  return 'messages' in request ? request.messages.map(ofMessage) : ofResponse(request);
}

/** Callable functions; none when the model must not call any. */
function templateTools(request: ChatCompletionRequest | ResponseRequest): TemplateTool[] {
  return (toolUseOf(request)?.functions ?? []).map(({ name, description, parameters }) => ({
    type: 'function',
    function: {
      name,
      description: description ?? '',
      parameters: parameters ?? { type: 'object', properties: {} },
    },
  }));
}

const textOf = (content: string | readonly { text: string }[]): string =>
  typeof content === 'string' ? content : content.map(({ text }) => text).join('');

function ofMessage({
  role,
  content,
  name,
  tool_calls: calls,
  tool_call_id: callId,
}: ChatMessage): TemplateMessage {
  return {
    role: role === 'developer' ? 'system' : role,
    content: textOf(content),
    ...(calls === undefined
      ? {}
      : { calls: calls.map(({ id, function: { name: of, arguments: json } }) => callOf(id, of, json)) }),
    ...(role === 'tool' && callId !== undefined ? { callId } : {}),
    ...(name === undefined ? {} : { name }),
  };
}

/** Templates write arguments as JSON themselves. */
function callOf(id: string | undefined, name: string, json: string): TemplateCall {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    parsed = json;
  }
  return { ...(id === undefined ? {} : { id }), name, arguments: isMap(parsed) ? parsed : json };
}

/** Its instructions come first, as the developer's; calls are part of the preceding assistant message. */
function ofResponse({
  input,
  instructions,
}: Pick<ResponseRequest, 'input' | 'instructions'>): TemplateMessage[] {
  const messages: TemplateMessage[] = instructions == null ? [] : [{ role: 'system', content: instructions }];
  for (const item of typeof input === 'string' ? [{ role: 'user' as const, content: input }] : input) {
    if ('role' in item) {
      messages.push(ofMessage({ role: item.role, content: textOf(item.content) }));
      continue;
    }
    if (item.type === 'function_call_output') {
      messages.push({ role: 'tool', content: textOf(item.output), callId: item.call_id });
      continue;
    }
    const call = callOf(item.call_id, item.name, item.arguments);
    const last = messages.at(-1);
    if (last?.role === 'assistant')
      messages[messages.length - 1] = { ...last, calls: [...(last.calls ?? []), call] };
    else messages.push({ role: 'assistant', content: '', calls: [call] });
  }
  return messages;
}

/** How long prompts are encoded before other work of the event loop runs, ms: a tenth of a long decode step. */
export const SLICE_MS = 5;
/** Prompts that wait to be encoded, bytes: 16 of the largest, about ten seconds of the slowest text … */
export const MAX_WAITING_BYTES = 16_000_000;
/** … and of one tenant, so that four are needed to block others. */
export const MAX_TENANT_WAITING_BYTES = 4_000_000;
/** Encoded per millisecond for the slowest text, bytes: for retry times. */
const BYTES_PER_MS = 1_000;

interface PromptWork<T> {
  tenant: string;
  /** Size of what is to be encoded, bytes. */
  bytes: number;
  /** Aborting it ends the work before its next slice. */
  signal: AbortSignal;
  steps: Chunked<T>;
}

interface Job {
  readonly bytes: number;
  /** Runs one step. @returns whether it was the last. */
  step(): boolean;
}

/**
 * Encodes prompts a slice at a time, so that none blocks the event loop. Tenants take turns, and so do the
 * prompts of each: a short one waits for about one slice of each other tenant, however long theirs are.
 */
export class PromptQueue {
  readonly #clock: Pick<Clock, 'now' | 'yield'>;
  /** In the order of their turns. */
  readonly #waiting = new Map<string, Job[]>();
  readonly #bytes = new Map<string, number>();
  #total = 0;
  #running = false;

  constructor(clock: Pick<Clock, 'now' | 'yield'>) {
    this.#clock = clock;
  }

  /** Refuses with `queue_full` when too much waits. Rejects with a step's error. */
  run<T>({ tenant, bytes, signal, steps }: PromptWork<T>): Promise<Result<T, ApiError>> {
    const held = this.#bytes.get(tenant) ?? 0;
    // A tenant's only prompt, and the only one, always has room.
    const full =
      (held > 0 && held + bytes > MAX_TENANT_WAITING_BYTES) ||
      (this.#total > 0 && this.#total + bytes > MAX_WAITING_BYTES);
    if (full) return Promise.resolve(err(tooManyWaiting(this.#total)));
    return new Promise((resolve, reject) => {
      this.#add(tenant, {
        bytes,
        step() {
          if (signal.aborted) {
            resolve(err(CALLER_GONE));
            return true;
          }
          try {
            const { done, value } = steps.next();
            if (done === true) resolve(ok(value));
            return done === true;
          } catch (error) {
            reject(error as Error);
            return true;
          }
        },
      });
    });
  }

  #add(tenant: string, job: Job): void {
    this.#count(tenant, job.bytes);
    const jobs = this.#waiting.get(tenant);
    if (jobs === undefined) this.#waiting.set(tenant, [job]);
    else jobs.push(job);
    if (!this.#running) void this.#work();
  }

  async #work(): Promise<void> {
    this.#running = true;
    // Reading and parsing the body have used a part of this turn.
    await this.#clock.yield();
    let began = this.#clock.now();
    for (const [tenant, jobs] of this.#turns()) {
      const job = jobs.shift()!;
      let done = job.step();
      while (!done && this.#clock.now() - began < SLICE_MS) done = job.step();
      if (done) this.#count(tenant, -job.bytes);
      else jobs.push(job);
      if (this.#clock.now() - began < SLICE_MS) continue;
      await this.#clock.yield();
      began = this.#clock.now();
    }
    this.#running = false;
  }

  /** Each tenant moves behind the others after its turn, and leaves when it has nothing. */
  *#turns(): Generator<[string, Job[]]> {
    for (;;) {
      const [first] = this.#waiting;
      if (first === undefined) return;
      const [tenant, jobs] = first;
      yield first;
      this.#waiting.delete(tenant);
      if (jobs.length > 0) this.#waiting.set(tenant, jobs);
    }
  }

  #count(tenant: string, bytes: number): void {
    this.#total += bytes;
    const held = (this.#bytes.get(tenant) ?? 0) + bytes;
    if (held === 0) this.#bytes.delete(tenant);
    else this.#bytes.set(tenant, held);
  }
}

const tooManyWaiting = (bytes: number): ApiError => ({
  code: 'queue_full',
  message: 'Too many long prompts are waiting. Retry in a few seconds.',
  retryAfterMs: Math.max(1_000, Math.ceil(bytes / BYTES_PER_MS)),
});

/** Nobody waits for it. */
const CALLER_GONE: ApiError = {
  code: 'origin_unavailable',
  message: 'The client disconnected.',
  retryAfterMs: 1_000,
};

/** The encoders of prompts. */
export interface PromptServices {
  base: BaseInfo;
  tokenizer: Tokenizer;
  /** null: the base has none; chat completions are refused. */
  chatTemplate: ChatTemplate | null;
  /** Where they are encoded. */
  prompts: PromptQueue;
}

/** The tenant of the encoding, and its abort signal. */
export interface PromptCaller {
  tenant: string;
  signal: AbortSignal;
}

/**
 * Encodes in the caller's turn.
 * @param bytes size of the work.
 * @param param the field at fault when there are more tokens than the model's context.
 */
export async function encodeCooperatively(
  services: PromptServices,
  { tenant, signal }: PromptCaller,
  { bytes, param, steps }: { bytes: number; param: string; steps: Chunked<number[] | null> },
): Promise<Result<number[], ApiError>> {
  const encoded = await services.prompts.run({ tenant, signal, bytes, steps });
  if (!encoded.ok) return encoded;
  const ids = encoded.value;
  const { context } = services.base;
  return ids === null || ids.length > context ? err(tooLong(context, param, ids?.length ?? 0)) : ok(ids);
}

/**
 * In words that clients search for, LangChain's and Anthropic's without looking at the code.
 * @param counted tokens encoded until then.
 */
const tooLong = (context: number, param: string, counted: number): ApiError => ({
  code: 'context_length_exceeded',
  message: `This model's maximum context length is ${context} tokens. However, the prompt has more than that. The prompt is too long: please reduce its length.`,
  param,
  promptTokens: counted,
});

/**
 * Control strings in a text are plain text.
 * @param params.prefixed whether the tokens that start every raw prompt come first. @param params.param its field.
 */
export async function idsOfInput(
  input: string | readonly number[],
  services: PromptServices,
  caller: PromptCaller,
  { prefixed, param }: { prefixed: boolean; param: string },
): Promise<Result<readonly number[], ApiError>> {
  const { tokenizer, base } = services;
  if (typeof input !== 'string') {
    const unknown = unknownToken(input, tokenizer, param);
    return unknown === null ? ok(input) : err(unknown);
  }
  const ids = await encodeCooperatively(services, caller, {
    bytes: Buffer.byteLength(input),
    param,
    steps: tokenizer.encodeChunked(input, { allowSpecial: false, limit: base.context }),
  });
  return ids.ok ? ok(prefixed ? [...tokenizer.prefixIds, ...ids.value] : ids.value) : ids;
}
