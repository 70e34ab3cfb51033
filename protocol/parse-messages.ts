/**
 * From a body of Anthropic's Messages API to a typed request, or to an error that names the field; and from that to the
 * chat that it asks for.
 */
import type { z } from 'zod';
import { type ApiError, err, ok, type Result } from './api-error.ts';
import { type ChatCompletionRequest, parseChatCompletion } from './completion.ts';
import { refuseCrowd } from './prompt-fields.ts';
import { CountTokensRequest, MessagesRequest, type MessagesBlock, type MessagesInput } from './messages.ts';
import {
  isMap,
  issuePath,
  parseRequest,
  short,
  unsupported,
  type Parsed,
  type ParseOptions,
} from './parse-body.ts';

const BLOCKS = ['text', 'thinking', 'redacted_thinking', 'tool_use', 'tool_result'];

/** Blocks that are known by Anthropic's clients and not here: refused where they stand. */
function refuseBlocks(messages: unknown): ApiError | null {
  if (!Array.isArray(messages)) return null;
  for (const [at, message] of messages.entries()) {
    const content: unknown = isMap(message) ? message['content'] : undefined;
    if (!Array.isArray(content)) continue;
    for (const [place, block] of content.entries()) {
      const type: unknown = isMap(block) ? block['type'] : undefined;
      if (typeof type === 'string' && !BLOCKS.includes(type)) {
        const param = issuePath(['messages', at, 'content', place, 'type']);
        return unsupported(param, 'it reads and writes text alone', `A block of type '${short(type)}'`);
      }
    }
  }
  return null;
}

function parse<T>(
  schema: z.ZodType<T> & { shape: object },
  body: unknown,
  options: ParseOptions,
): Result<Parsed<T>, ApiError> {
  const messages: unknown = isMap(body) ? body['messages'] : undefined;
  const refusal = refuseCrowd(messages, 'messages') ?? refuseBlocks(messages);
  return refusal === null ? parseRequest(schema, body, options) : err(refusal);
}

/** A request and the chat that it means: what the chat would refuse is refused where the request comes in. */
function parseBoth(body: unknown, options: ParseOptions) {
  const parsed = parse(MessagesRequest, body, options);
  if (!parsed.ok) return parsed;
  const chat = messagesToChat(parsed.value.request);
  return chat.ok ? ok({ parsed: parsed.value, chat: chat.value }) : chat;
}

/** @param body parsed JSON. */
export function parseMessagesRequest(
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<MessagesRequest>, ApiError> {
  const both = parseBoth(body, options);
  return both.ok ? ok(both.value.parsed) : both;
}

/** The chat completion that it means. @param body parsed JSON. */
export function parseMessagesAsChat(
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<ChatCompletionRequest>, ApiError> {
  const both = parseBoth(body, options);
  if (!both.ok) return both;
  const { parsed, chat } = both.value;
  return ok({ request: chat.request, ignored: [...parsed.ignored, ...chat.ignored] });
}

/** @param body parsed JSON. */
export const parseCountTokens = (
  body: unknown,
  options: ParseOptions = {},
): Result<Parsed<CountTokensRequest>, ApiError> => parse(CountTokensRequest, body, options);

type Turn = Pick<CountTokensRequest, 'model' | 'messages' | 'system' | 'tools' | 'tool_choice'>;

/** The chat completion that a request of Anthropic's API means. Errors name the chat's fields. */
export function messagesToChat(request: MessagesRequest): Result<Parsed<ChatCompletionRequest>, ApiError> {
  const { metadata, stop_sequences: stop } = request;
  const format = request.output_config?.format ?? request.output_format;
  return parseChatCompletion({
    ...conversation(request),
    max_tokens: request.max_tokens,
    ...given({ stream: request.stream, temperature: request.temperature, top_p: request.top_p }),
    ...given({ top_k: request.top_k, seed: request.seed, user: metadata?.user_id }),
    ...(stop == null || stop.length === 0 ? {} : { stop }),
    ...(format == null ? {} : { response_format: responseFormat(format.schema) }),
  });
}

const responseFormat = (schema: Record<string, unknown>) => ({
  type: 'json_schema',
  json_schema: { name: 'output', schema, strict: true },
});

/** The same of what is only to be counted. */
export const countedToChat = (request: Turn): Result<Parsed<ChatCompletionRequest>, ApiError> =>
  parseChatCompletion(conversation(request));

const given = (fields: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value != null));

function conversation({ model, messages, system, tools, tool_choice: choice }: Turn) {
  const instructions = system == null ? '' : textOf(system);
  const turns = turnsOf(messages).flatMap(chatMessages);
  return {
    model,
    messages: [...(instructions === '' ? [] : [{ role: 'system', content: instructions }]), ...turns],
    ...(isBegun(turns.at(-1)) ? { continue_final_message: true } : {}),
    ...(tools == null || tools.length === 0
      ? {}
      : {
          tools: tools.map(({ name, description, input_schema: parameters, strict }) => ({
            type: 'function',
            function: { name, parameters, ...given({ description, strict }) },
          })),
          ...given({ tool_choice: choiceOf(choice) }),
          ...(choice?.disable_parallel_tool_use === true ? { parallel_tool_calls: false } : {}),
        }),
  };
}

function choiceOf(choice: Turn['tool_choice']): unknown {
  if (choice == null) return null;
  if (choice.type === 'any') return 'required';
  if (choice.type === 'tool') return { type: 'function', function: { name: choice.name ?? '' } };
  return choice.type;
}

const textOf = (content: string | readonly { text: string }[]): string =>
  typeof content === 'string' ? content : content.map(({ text }) => text).join('');

interface ChatTurn {
  role: string;
  content: string;
  tool_calls?: object[];
}

/** Whether it is the beginning of the answer, which then goes on where it ends, as Anthropic has it. */
const isBegun = (last: ChatTurn | undefined): boolean =>
  last?.role === 'assistant' && last.content !== '' && last.tool_calls === undefined;

interface MessagesTurn {
  role: MessagesInput['role'];
  content: MessagesBlock[];
}

/**
 * Neighbours of one role are one turn, as Anthropic has it; templates of models that expect turns to alternate refuse
 * others. A paragraph divides their texts: whoever wrote two messages did not write one sentence.
 */
function turnsOf(messages: readonly MessagesInput[]): MessagesTurn[] {
  const turns: MessagesTurn[] = [];
  for (const { role, content } of messages) {
    const blocks = typeof content === 'string' ? [{ type: 'text' as const, text: content }] : content;
    const last = turns.at(-1);
    if (last?.role !== role) turns.push({ role, content: [...blocks] });
    else {
      const divided = last.content.some(isText) && blocks.some(isText);
      last.content.push(...(divided ? [{ type: 'text' as const, text: '\n\n' }] : []), ...blocks);
    }
  }
  return turns;
}

const isText = (block: MessagesBlock): boolean => block.type === 'text' && block.text !== '';

/** A turn is one message, but for the results of tools: those are messages of their own, and come first. */
function chatMessages({ role, content }: MessagesTurn): ChatTurn[] {
  const of = <T extends MessagesBlock['type']>(type: T) =>
    content.filter((block): block is Extract<MessagesBlock, { type: T }> => block.type === type);
  const text = textOf(of('text'));
  if (role === 'assistant') {
    const calls = of('tool_use').map(({ id, name, input }) => ({
      id,
      type: 'function',
      function: { name, arguments: JSON.stringify(input) },
    }));
    return [{ role, content: text, ...(calls.length === 0 ? {} : { tool_calls: calls }) }];
  }
  const results = of('tool_result').map((block) => ({
    role: 'tool',
    tool_call_id: block.tool_use_id,
    // All that a chat has for it. Who says more says it in the text.
    content: textOf(block.content ?? '') || (block.is_error === true ? 'error' : ''),
  }));
  return results.length > 0 && text === '' ? results : [...results, { role, content: text }];
}
