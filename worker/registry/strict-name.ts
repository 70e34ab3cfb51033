import {
  err,
  ok,
  type ApiError,
  type Result,
  type StrictAnswer,
  type StrictRequest,
} from '../../protocol/index.ts';
import { conflict } from '../errors.ts';
import type { AdminCaller } from '../access/ports.ts';
import { changed } from './change-conflict.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { ownName } from './own-name.ts';
import { writePointer } from './write-pointer.ts';

/**
 * Marks a name as strict, whichever version is live, or ends that: a missing name below it is then answered neither by
 * it nor by what is above it. An alias has no mark of its own: it does as its target does.
 */
export async function strictName(
  deps: Pick<IntakeDeps, 'registry' | 'pointers' | 'now'>,
  params: { request: StrictRequest; caller: AdminCaller },
): Promise<Result<StrictAnswer, ApiError>> {
  const { request, caller } = params;
  const { name, strict } = request;
  const before = await ownName(deps, { name, caller });
  if (!before.ok) return before;
  const { alias, latest, strict: from } = before.value;
  if (alias !== null)
    return err(conflict(`'${name}' is an alias, and as strict as the name that it stands for: '${alias}'.`));
  if (latest === 0) return err(conflict(`'${name}' has no versions.`));
  if (request.dry_run === true) return ok({ name, strict, from });
  if (from !== strict) {
    const note = { actor: caller.keyId, at: deps.now(), why: request.why ?? null };
    const made = await deps.registry.setStrict({ before: before.value, strict, ...note });
    if (!made.ok) return err(changed(name, made.error.name));
  }
  // Also when it was so already: an earlier attempt may have ended before its pointer.
  const written = await writePointer(deps, { name, what: 'change' });
  return written.ok ? ok({ name, strict, from }) : written;
}
