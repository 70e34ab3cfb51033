import { err, ok, type ApiError, type Experiment, type Result } from '../../../protocol/index.ts';
import { webhookProblem } from '../webhook-address.ts';

/** The judge's address is one that this edge may call. @param loopback whether this machine itself is. */
export function checkJudge({ judge }: Experiment, loopback: boolean): Result<null, ApiError> {
  const problem = judge?.url === undefined ? null : webhookProblem(judge.url, loopback);
  if (problem === null) return ok(null);
  return err({
    code: 'invalid_request',
    message: `Invalid value for 'judge.url': ${problem}.`,
    param: 'judge.url',
  });
}
