import { err, ok, pinOf, type ApiError, type Experiment, type Result } from '../../../protocol/index.ts';
import { conflict } from '../../errors.ts';
import type { Registry } from '../../registry/ports.ts';
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

/** Where nobody is in the experiment, users get the live version: pairs need that to be control. */
export async function checkControlAnswers(
  registry: Pick<Registry, 'live' | 'version'>,
  { judge, coverage, ramp, name, variants }: Experiment,
): Promise<Result<null, ApiError>> {
  const [control] = variants;
  if (judge === undefined || coverage > 0 || ramp !== undefined || control === undefined) return ok(null);
  const pin = pinOf(control.adapter);
  const [live, row] = await Promise.all([registry.live(name), registry.version(pin.name, pin.version)]);
  if (live === null || live.chainId === row?.chainId) return ok(null);
  return err(
    conflict(
      `'${name}@${live.version}' is live, and control is '${control.adapter}': with a coverage of 0 no answer is control's, so that there would be no pairs. ` +
        'Make the live version control, or give a coverage.',
      'variants.0.adapter',
    ),
  );
}
