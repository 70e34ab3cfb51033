import { z } from 'zod';
import { AdapterName, err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import type { AdminCaller, NameRow } from '../stores/types.ts';
import type { IntakeDeps } from './intake-deps.ts';
import { conflict } from './publish-version.ts';
import { writePointer } from './write-pointer.ts';

export const FlipRequest = z.strictObject({
  name: AdapterName,
  to: z.int().positive(),
  /** Live version that the caller knows of; 0 = none. */
  expect: z.int().min(0).nullish(),
});
export type FlipRequest = z.infer<typeof FlipRequest>;

/** Makes another version live. Requests that run end on the version they began with. */
export async function flipVersion(
  deps: Pick<IntakeDeps, 'registry' | 'names' | 'now'>,
  params: { request: FlipRequest; caller: AdminCaller },
): Promise<Result<{ name: NameRow; from: number | null }, ApiError>> {
  const { request, caller } = params;
  const before = await deps.registry.name(request.name);
  const mine = before !== null && (caller.root || before.owner === caller.tenant);
  if (!mine || (await deps.registry.version(request.name, request.to)) === null)
    return err({
      code: 'model_not_found',
      message: `'${request.name}@${request.to}' does not exist or you do not have access to it.`,
    });
  const expect = request.expect ?? null;
  if (expect !== null && expect !== (before.version ?? 0)) return err(conflict(request.name, before));
  let name = before;
  if (before.version !== request.to) {
    const flipped = await deps.registry.flip({ before, to: request.to, actor: caller.keyId, at: deps.now() });
    if (!flipped.ok) return err(conflict(request.name, flipped.error.name));
    name = flipped.value;
  }
  await writePointer(deps, request.name);
  return ok({ name, from: before.version });
}
