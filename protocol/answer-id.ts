/** An answer's `id`: what says of which API it is, and behind that a text that is the edge's to choose. */
import { z } from 'zod';

/** What stands before it: of chat completions, completions, responses and messages. */
const PREFIXES = ['chatcmpl-', 'cmpl-', 'resp_', 'msg_'];

/**
 * Parameter of a completion's path to an origin, `?answer=<text>`: what the answer's id ends with. An origin of before
 * does not know it, and makes one of its own.
 */
export const ANSWER_PARAMETER = 'answer';
/** With the longest prefix at most 120 characters; letters that stand in a URL and in JSON as they are. */
export const AnswerText = z.string().regex(/^[A-Za-z0-9_-]{1,111}$/);

/** @returns an id's text behind its prefix; null when it has none of ours. */
export function answerTextOf(id: string): string | null {
  const prefix = PREFIXES.find((one) => id.startsWith(one));
  return prefix === undefined ? null : id.slice(prefix.length);
}
