/**
 * What the edge may ask an origin about a completion whose end it has not seen, because the client left it: the usage
 * note is in the header of a whole answer and at the end of a stream, and neither comes any more.
 */
import { z } from 'zod';

/**
 * Parameter of a completion's path, `?ask=<uuid>`: the id under which the edge may ask. A request's own id may be its
 * client's choice, and so the same for two of them.
 */
export const ASK_PARAMETER = 'ask';
export const AskId = z.uuid();

/** Path of the question. */
export const usagePath = (askId: string): string => `/usage/${askId}`;

/** Answer of `GET /usage/<ask id>`; tokens are those that the model has really run. */
export const RequestUsage = z.object({
  /** `unknown`: no such request came, or it ended long ago. */
  state: z.enum(['running', 'ended', 'unknown']),
  prompt_tokens: z.int().min(0),
  completion_tokens: z.int().min(0),
});
export type RequestUsage = z.infer<typeof RequestUsage>;
