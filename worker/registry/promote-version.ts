import {
  err,
  type ApiError,
  type LiveAnswer,
  type PromoteRequest,
  type Result,
} from '../../protocol/index.ts';
import { conflict } from '../errors.ts';
import type { AdminCaller } from '../access/ports.ts';
import { goLive, type GoLiveDeps } from './go-live.ts';
import { ownName } from './own-name.ts';
import type { RequestLife } from './registry-deps.ts';

/** Makes a staged version live. Repeating it is harmless: what has been promoted is live. */
export async function promoteVersion(
  deps: GoLiveDeps,
  params: { request: PromoteRequest; caller: AdminCaller; life: Pick<RequestLife, 'keepAlive'> },
): Promise<Result<LiveAnswer, ApiError>> {
  const { caller, life } = params;
  const { version, ...request } = params.request;
  const what = version ? `${request.name}@${version}` : request.name;
  const before = await ownName(deps, { name: request.name, caller, what });
  if (!before.ok) return before;
  const live = before.value.version ?? 0;
  const staged = version ?? (await deps.registry.newestStaged(request.name))?.version ?? 0;
  // One that is older than the live version was passed over; to take it now is a choice to be made by its number.
  const to = version ?? (staged > live ? staged : before.value.latest === live ? live : 0);
  if (to === 0)
    return err(
      conflict(
        `'${request.name}' has no staged version above the live one (${live === 0 ? 'none' : live}). ` +
          `Name the version that is to be live, as '${request.name}@<version>'.`,
      ),
    );
  return goLive(deps, { request: { ...request, to }, caller, life, before: before.value, action: 'promote' });
}
