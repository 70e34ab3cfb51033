/** A server that answers completions from a table, and remembers what it was asked. */
import { createApiClient, type ApiClient } from '../../../cli/api-client.ts';

export interface AskedBody {
  path: string;
  model: string;
  strict?: boolean;
  prompt?: string;
  messages?: { role: string; content: string }[];
  [field: string]: unknown;
}

export interface FakeCompletions {
  readonly client: ApiClient;
  readonly asked: AskedBody[];
}

/** @param answer text, or text and how it ended and who gave it; a number is a status to refuse with. */
export function fakeCompletions(
  answer: (body: AskedBody) => string | number | { text: string; finish?: string; adapter?: string },
): FakeCompletions {
  const asked: AskedBody[] = [];
  const fetchFn = (async (url: string, init: RequestInit) => {
    const path = url.replace('http://edge', '');
    const body = { path, ...(JSON.parse(init.body as string) as object) } as AskedBody;
    asked.push(body);
    const given = answer(body);
    if (typeof given === 'number')
      return Response.json({ error: { message: 'refused here', code: 'refused_here' } }, { status: given });
    const { text, finish, adapter } = typeof given === 'string' ? { text: given } : given;
    const choice = path.endsWith('/chat/completions') ? { message: { content: text } } : { text };
    return Response.json(
      { choices: [{ index: 0, finish_reason: finish ?? 'stop', ...choice }] },
      { headers: { 'x-graft-adapter': adapter ?? body.model } },
    );
  }) as typeof fetch;
  return { client: createApiClient({ url: 'http://edge', key: 'gk_test', fetchFn }), asked };
}

/** The user's part of a chat, or the text. */
export const questionIn = (body: AskedBody): string =>
  body.prompt ?? body.messages?.find(({ role }) => role === 'user')?.content ?? '';
