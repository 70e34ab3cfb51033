import { z } from 'zod';
import { API_ERROR_CODES } from '../../protocol/api-error.ts';
import type { Problem } from '../messages.ts';

const ErrorAnswer = z.object({
  error: z.object({ code: z.enum(API_ERROR_CODES), message: z.string(), param: z.string().nullish() }),
});

/** Why the edge refuses. */
export async function refusalOf(response: Response): Promise<Problem> {
  const body = ErrorAnswer.safeParse(await response.json().catch(() => null));
  if (body.success) return { ...body.data.error, param: body.data.error.param ?? null };
  return { code: 'edge_unreachable', message: `The edge answered ${response.status}.` };
}
