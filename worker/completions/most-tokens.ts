import {
  DEFAULT_TEXT_TOKENS,
  promptsIn,
  type ChatCompletionRequest,
  type ResponseRequest,
  type TextCompletionRequest,
} from '../../protocol/index.ts';
import type { TokenCounts } from '../metering/ports.ts';

/**
 * The most tokens that a request can use: what is counted for one whose client left it when its origin does not say what
 * it used, so that leaving is never cheaper than staying. A token of a prompt is a byte of the body at least, a prompt
 * and each of its answers fit the context together, and an answer ends at its limit or with the context.
 * @param room the context of the base, tokens.
 */
export function mostTokens(
  request: ChatCompletionRequest | TextCompletionRequest | ResponseRequest,
  room: number,
): TokenCounts {
  const bytes = new TextEncoder().encode(JSON.stringify(request)).length;
  const asked = limitOf(request);
  const limit = asked === null || asked >= room ? null : asked;
  const prompts = 'prompt' in request ? promptsIn(request.prompt).length : 1;
  const promptTokens = Math.min(bytes, prompts * (room - (limit ?? 0)));
  const answers = prompts * ('n' in request ? (request.n ?? 1) : 1);
  // Without a limit each answer fills what its prompt leaves of the context.
  const completionTokens = limit === null ? answers * room - promptTokens : answers * limit;
  return { promptTokens, completionTokens };
}

function limitOf(request: ChatCompletionRequest | TextCompletionRequest | ResponseRequest): number | null {
  if ('input' in request) return request.max_output_tokens ?? null;
  if ('prompt' in request) return request.max_tokens ?? DEFAULT_TEXT_TOKENS;
  return request.max_completion_tokens ?? request.max_tokens ?? null;
}
