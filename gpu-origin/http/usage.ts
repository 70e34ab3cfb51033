import type { Context } from 'hono';
import { AskId, errorResponse } from '../../protocol/index.ts';
import type { OriginContext, OriginEnv } from './origin-context.ts';

/** `GET /usage/<ask id>` -> `RequestUsage`; waits a moment for the end of a request that runs. */
export async function tellUsage(c: Context<OriginEnv>, { usage }: OriginContext): Promise<Response> {
  const askId = AskId.safeParse(c.req.param('ask'));
  const { kid } = c.var;
  if (kid === null || !askId.success)
    return errorResponse({
      code: 'invalid_request',
      message: 'An id is a UUID, and only an edge asks.',
      param: 'ask',
    });
  return Response.json(await usage.find(askId.data, kid));
}
