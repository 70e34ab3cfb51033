/** From a body of Anthropic's Messages API to a typed request, or to an error that names the field. */
import type { z } from 'zod';
import type { ApiError } from './api-error.ts';
import type { ChatCompletionRequest } from './completion.ts';
import { refuseCrowd } from './message-content.ts';
import { messagesToChat } from './messages-to-chat.ts';
import { CountTokensRequest, MessagesRequest } from './messages.ts';
import {
  isMap,
  issuePath,
  parseRequest,
  short,
  unsupported,
  type Parsed,
  type ParseOptions,
} from './parse-body.ts';
import { err, ok, type Result } from './result.ts';

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
