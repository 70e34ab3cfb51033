import {
  BASE_JUDGE,
  err,
  ok,
  pinOf,
  type ApiError,
  type Experiment,
  type Result,
} from '../../../protocol/index.ts';
import { adapterInvalid, adapterNotFound, conflict } from '../../errors.ts';
import type { AdminCaller } from '../../access/ports.ts';
import type { VersionRow, Registry } from '../../registry/ports.ts';
import type { LifeDeps } from './life-deps.ts';
import { webhookProblem } from '../webhooks.ts';

/**
 * All adapters that the document names are there, not retired, for a base that is served, and such as the owner of the
 * name may use. An edge that is not told which bases its origins serve has one, which is that of the name's own versions.
 * Errors: `model_not_found`, also for what may not be used; `version_conflict`; `adapter_invalid`.
 */
export async function checkAdapters(
  deps: Pick<LifeDeps, 'registry' | 'bases' | 'mayUseChain'>,
  params: { document: Experiment; caller: AdminCaller; owner: string },
): Promise<Result<null, ApiError>> {
  const { document, caller, owner } = params;
  const { variants, shadow, judge } = document;
  const named = [
    ...variants.map(({ adapter }, i) => ({ adapter, param: `variants.${i}.adapter` })),
    ...(shadow === undefined ? [] : [{ adapter: shadow.adapter, param: 'shadow.adapter' }]),
    ...(judge?.model === undefined || judge.model === BASE_JUDGE
      ? []
      : [{ adapter: judge.model, param: 'judge.model' }]),
  ];
  const rows = await Promise.all(
    named.map(({ adapter }) => {
      const { name, version } = pinOf(adapter);
      return deps.registry.version(name, version);
    }),
  );
  const rights = { ...caller, tenant: owner };
  const usable = (row: VersionRow | null): row is VersionRow =>
    row !== null && (caller.root || deps.mayUseChain(rights, row));
  let base = (await deps.registry.live(document.name))?.base ?? null;
  for (const [i, { adapter, param }] of named.entries()) {
    const row = rows[i] ?? null;
    if (!usable(row)) return err(adapterNotFound(adapter));
    if (row.retiredAt !== null || row.withdrawnAt !== null)
      return err(
        conflict(`'${adapter}' is retired, or stands on what is. Name a version that is in use.`, param),
      );
    base ??= row.base;
    const { declared } = deps.bases;
    if (declared?.includes(row.base.id) === false)
      return err(
        adapterInvalid(
          'base_mismatch',
          `'${adapter}' is for the base '${row.base.id}'; this edge serves ${declared.join(', ')}.`,
          param,
        ),
      );
    if (declared === null && row.base.digest !== base.digest)
      return err(
        adapterInvalid(
          'base_mismatch',
          `'${adapter}' is for the base '${row.base.id}', the others are for '${base.id}'. Compare adapters of one base.`,
          param,
        ),
      );
  }
  return ok(null);
}

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
