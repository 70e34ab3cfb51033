/** A failed request as text: what happened, and what to do. */
import { z } from 'zod';

export interface Problem {
  /** HTTP status; 0 = no answer. */
  readonly status: number;
  readonly code: string;
  readonly message: string;
  /** What the reader can do; empty when the message says it. */
  readonly advice: string;
  /** The invalid field. */
  readonly param: string | null;
}

const Body = z.object({
  error: z.object({ message: z.string(), code: z.string().nullish(), param: z.string().nullish() }),
});

const ADVICE: Readonly<Record<string, string>> = {
  invalid_api_key: 'Check the key, or sign in with another one.',
  insufficient_scope: "Sign in with the owner's key, or with the bootstrap key.",
  version_conflict: 'The current state is shown. Check it, and try again if you still want to.',
  rate_limit_exceeded: 'Wait a moment, then try again.',
  queue_full: 'Wait a moment, then try again.',
  edge_busy: 'Wait a moment, then try again.',
  origin_unavailable: 'Check on the Origins page which one answers, then try again.',
  registry_unavailable: 'Try again in a moment; the edge completes what was started.',
  registry_damaged: '`graft repair` shows which row of the registry it is.',
  adapter_loading: 'The origin is loading it. Try again in a moment.',
  unknown_url: 'This edge and this page have different versions. Deploy both together.',
  internal_error: "Try again. If the error stays, look up the request id in the edge's log.",
};

/** @param text the answer's body. */
export function problemOf(status: number, text: string): Problem {
  const parsed = Body.safeParse(jsonOf(text));
  if (!parsed.success)
    return {
      status,
      code: 'odd_answer',
      message: `The edge gave an unexpected answer (${status}).`,
      advice: 'Another program may be listening at this address. Reload the page.',
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

/** Of reads: nothing else waits for them. */
export const tooLate = (): Problem => ({
  status: 0,
  code: 'too_late',
  message: 'The edge did not answer within a minute.',
  advice: 'It may be busy. Try again.',
  param: null,
});

/** For a key that cannot even be sent: headers allow no line breaks, no inner spaces, and only ASCII. */
export const unsendableKey = (): Problem => ({
  status: 0,
  code: 'invalid_api_key',
  message: 'It contains characters that no key has.',
  advice: ADVICE['invalid_api_key'] ?? '',
  param: null,
});

/** For a sign-in link: there was no key to check. */
export const linkProblem = (problem: Problem): Problem =>
  problem.code === 'invalid_api_key'
    ? { ...problem, advice: 'Sign in with the admin key, or restart it and open the new link.' }
    : problem;

/** For a key of the other kind at the sign-in. */
export const apiKeyInstead = (): Problem => ({
  status: 0,
  code: 'insufficient_scope',
  message: 'This is an API key (gk_…), which applications use.',
  advice: 'The console needs an admin key, which begins with ga_.',
  param: null,
});

/** @param path of the request. */
export const oddAnswer = (path: string): Problem => ({
  status: 200,
  code: 'odd_answer',
  message: `The answer to ${path.split('?')[0]} is not what this page expects.`,
  advice: 'Page and edge may have different versions. Reload the page.',
  param: null,
});

export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
