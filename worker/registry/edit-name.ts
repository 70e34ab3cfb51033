import {
  err,
  ok,
  sameJson,
  type ApiError,
  type EditAnswer,
  type EditRequest,
  type Result,
} from '../../protocol/index.ts';
import type { AdminCaller } from '../access/ports.ts';
import { changed } from './change-conflict.ts';
import { ownName } from './own-name.ts';
import type { IntakeDeps } from './registry-deps.ts';

/** Changes what is said of a name. Nothing that is served depends on it, so that no pointer is written. */
export async function editName(
  deps: Pick<IntakeDeps, 'registry' | 'now'>,
  params: { request: EditRequest; caller: AdminCaller },
): Promise<Result<EditAnswer, ApiError>> {
  const { request, caller } = params;
  const { name } = request;
  const before = await ownName(deps, { name, caller });
  if (!before.ok) return before;
  const from = before.value.about;
  const about = {
    description: request.description === undefined ? from.description : request.description,
    tags: request.tags ?? from.tags,
  };
  if (request.dry_run !== true && !sameJson(about, from)) {
    const note = { actor: caller.keyId, at: deps.now(), why: request.why ?? null };
    const made = await deps.registry.setAbout({ before: before.value, about, ...note });
    if (!made.ok) return err(changed(name, made.error.name));
  }
  return ok({ name, ...about, from });
}
