/** What went wrong with a request, in words: what happened, and what to do about it. */
import { z } from 'zod';

export interface Problem {
  /** HTTP status; 0 = there was no answer. */
  readonly status: number;
  readonly code: string;
  readonly message: string;
  /** What its reader may do; empty when the message says it. */
  readonly advice: string;
  /** The field that is wrong. */
  readonly param: string | null;
}

const Body = z.object({
  error: z.object({ message: z.string(), code: z.string().nullish(), param: z.string().nullish() }),
});

const ADVICE: Readonly<Record<string, string>> = {
  invalid_api_key: 'Check the key, or sign in with another one.',
  insufficient_scope: 'Sign in with the key of the owner, or with the bootstrap key.',
  version_conflict: 'It is shown as it is now. Look at it, and try again if you still want to.',
  rate_limit_exceeded: 'Wait a moment, then try again.',
  queue_full: 'Wait a moment, then try again.',
  edge_busy: 'Wait a moment, then try again.',
  origin_unavailable: 'See on the page of origins which one answers, and try again.',
  registry_unavailable: 'Try again in a moment; what is in doubt is finished by the edge itself.',
  registry_damaged: '`graft repair` says which row of the registry it is.',
  adapter_loading: 'The origin is loading it. Try again in a moment.',
  unknown_url: 'This edge is of another version than the page. Deploy both together.',
  internal_error: 'Try again. If it stays so, the request id is in the log of the edge.',
};

/** @param text the answer's body. */
export function problemOf(status: number, text: string): Problem {
  const parsed = Body.safeParse(jsonOf(text));
  if (!parsed.success)
    return {
      status,
      code: 'odd_answer',
      message: `The edge answered ${status}, and not as it should.`,
      advice: 'Something else may be listening at this address. Load the page again.',
      param: null,
    };
  const { message, code, param } = parsed.data.error;
  return {
    status,
    code: code ?? 'unknown',
    message,
    advice: ADVICE[code ?? ''] ?? '',
    param: param ?? null,
  };
}

export const noAnswer = (): Problem => ({
  status: 0,
  code: 'no_answer',
  message: 'The edge does not answer.',
  advice: 'Check that it runs and that you are online, then try again.',
  param: null,
});

/** Of what was only read: nothing else waits for it. */
export const tooLate = (): Problem => ({
  status: 0,
  code: 'too_late',
  message: 'The edge has not answered within a minute.',
  advice: 'It may be busy. Try again.',
  param: null,
});

/** Of a key that cannot even be sent: a header takes no line breaks, no spaces within, nothing beyond ASCII. */
export const unsendableKey = (): Problem => ({
  status: 0,
  code: 'invalid_api_key',
  message: 'There are characters in it that no key has.',
  advice: ADVICE['invalid_api_key'] ?? '',
  param: null,
});

/** Of a link to sign in by: no key was given that could be checked. */
export const linkProblem = (problem: Problem): Problem =>
  problem.code === 'invalid_api_key'
    ? { ...problem, advice: 'Sign in with the admin key, or start it again and open the new link.' }
    : problem;

/** Of a key of the other kind, given where one signs in. */
export const apiKeyInstead = (): Problem => ({
  status: 0,
  code: 'insufficient_scope',
  message: 'This is an API key (gk_…): applications ask models with it.',
  advice: 'The console wants an admin key, which begins with ga_.',
  param: null,
});

/** @param path of the request. */
export const oddAnswer = (path: string): Problem => ({
  status: 200,
  code: 'odd_answer',
  message: `The answer to ${path.split('?')[0]} is not what this page expects.`,
  advice: 'Page and edge may be of different versions. Load the page again.',
  param: null,
});

export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
