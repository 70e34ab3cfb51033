import type { ApiError } from './api-error.ts';

/** The client API, whole. */
const HAS =
  'POST /v1/chat/completions, POST /v1/completions, POST /v1/responses, POST /v1/messages, POST /v1/embeddings, POST /tokenize, POST /detokenize, POST /v1/feedback, GET /v1/models and GET /v1/models/<name>';

/** Paths are shown as they were sent, if they are short and plain. */
const PLAIN = /^[\x21-\x7e]{1,128}$/;

/** For every path without a route: clients of OpenAI's API try more of it than there is here. */
export function unknownPath(method: string, path: string): ApiError {
  if (!path.startsWith('/v1/')) return { code: 'not_found', message: 'There is no such path.' };
  const stored = method === 'GET' || method === 'DELETE' || path.endsWith('/cancel');
  if (path.startsWith('/v1/responses/') && stored)
    return {
      code: 'not_found',
      message: "Responses are not stored here ('store' is false in every answer), so there is none to find.",
    };
  const asked = PLAIN.test(`${method}${path}`) ? `${method} ${path}` : 'such path';
  return { code: 'unknown_url', message: `This server has no ${asked}; it has ${HAS}.` };
}
