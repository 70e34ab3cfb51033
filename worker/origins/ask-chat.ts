/** Asks a model a chat question for graft itself: a judge's verdict, or an answer that is judged. */
import { z } from 'zod';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { readUsageNote, USAGE_HEADER } from '../../protocol/origin-wire.ts';
import { originUnavailable } from '../errors.ts';
import type { OriginClient } from './client.ts';
import { asApiError, parseRefusal, textOf, type CompletionCall } from './send.ts';

interface ChatAnswer {
  text: Result<string, ApiError>;
  /** Of prompt and answer; also of a refused request, as far as the origin counted them. */
  tokens: number;
}

const Answer = z.object({
  choices: z.tuple([z.object({ message: z.object({ content: z.string().nullish() }) })]),
});

/**
 * No quota is checked and no usage is recorded; at the origin it counts for `call.tenant`.
 * @param call.request messages and settings, without the model. Errors: `invalid_request` and
 * `context_length_exceeded` where no origin can answer it; else those of origins.
 */
export async function askChat(
  origins: Pick<OriginClient, 'complete'>,
  call: Omit<CompletionCall, 'path'>,
): Promise<ChatAnswer> {
  const request = { model: call.model, ...call.request };
  const served = await origins.complete({ ...call, path: '/v1/chat/completions', request });
  if (!served.ok) return { text: served, tokens: 0 };
  const { response } = served.value;
  const note = readUsageNote(response.headers.get(USAGE_HEADER));
  const tokens = (note?.promptTokens ?? 0) + (note?.completionTokens ?? 0);
  const body = await textOf(response);
  if (!response.ok) return { text: err(refusalOf(body, response)), tokens };
  const content = contentOf(body);
  return { text: content === null ? err(originUnavailable()) : ok(content), tokens };
}

function refusalOf(body: string, response: Response): ApiError {
  const refusal = parseRefusal(body);
  if (refusal === null) return originUnavailable();
  const { code, message } = refusal;
  switch (code) {
    case 'context_length_exceeded':
      return { code, message, param: null };
    case 'invalid_request':
    case 'unsupported_parameter':
      return { code: 'invalid_request', message, param: null };
    default:
      return asApiError(refusal, response) ?? originUnavailable();
  }
}

/** @returns null for anything but one answer. Never throws: an error of the parser would quote the text. */
function contentOf(body: string): string | null {
  try {
    const answer = Answer.safeParse(JSON.parse(body));
    return answer.success ? (answer.data.choices[0].message.content ?? '') : null;
  } catch {
    return null;
  }
}
