import {
  err,
  ok,
  type AliasAnswer,
  type AliasRequest,
  type ApiError,
  type Result,
} from '../../protocol/index.ts';
import { adapterInvalid, conflict, ownNameOfBase } from '../errors.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { NameRow } from './ports.ts';
import type { MayUseChain } from './assemble-chain.ts';
import { changed } from './change-conflict.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { mayName, ownName, type Taken } from './own-name.ts';
import { writePointer } from './write-pointer.ts';

type AliasDeps = Pick<IntakeDeps, 'registry' | 'pointers' | 'bases' | 'now'> & { mayUseChain: MayUseChain };

/** Makes a name that has no versions stand for another, or ends that. It gives nobody a right to the other. */
export async function aliasName(
  deps: AliasDeps,
  params: { request: AliasRequest; caller: AdminCaller },
): Promise<Result<AliasAnswer, ApiError>> {
  const { request, caller } = params;
  const { name, target } = request;
  const before = await deps.registry.name(name);
  const checked = await (target === null
    ? checkRemoval(deps, { name, caller })
    : checkAlias(deps, { name, target, caller, before }));
  if (!checked.ok) return checked;
  const from = before?.alias ?? null;
  const { owner, claimant, notice } = checked.value;
  const answer: AliasAnswer = { name, target, from, ...(notice === null ? {} : { notice }) };
  if (request.dry_run === true) return ok(answer);
  if (from !== target) {
    const note = { actor: caller.keyId, at: deps.now(), why: request.why ?? null };
    const made = await deps.registry.alias({ before, name, owner, target, claimant, ...note });
    if (!made.ok) return err(changed(name, made.error.name));
  }
  // Also when it was so already: an earlier attempt may have ended before its pointer.
  const written = await writePointer(deps, { name, what: 'alias' });
  return written.ok ? ok(answer) : written;
}

async function checkRemoval(
  deps: AliasDeps,
  { name, caller }: { name: string; caller: AdminCaller },
): Promise<Result<Taken, ApiError>> {
  const own = await ownName(deps, { name, caller });
  if (!own.ok) return own;
  return own.value.latest > 0
    ? err(conflict(hasVersions(name)))
    : ok({ owner: own.value.owner, claimant: null, notice: null });
}

const hasVersions = (name: string): string => `'${name}' has versions of its own and is no alias.`;
const hadVersions = (name: string): string =>
  `'${name}' was removed, and had versions of its own. Erase it before it becomes an alias.`;

async function checkAlias(
  deps: AliasDeps,
  params: { name: string; target: string; caller: AdminCaller; before: NameRow | null },
): Promise<Result<Taken, ApiError>> {
  const { name, target, caller, before } = params;
  const owner = await mayName(deps, { name, owner: null, caller, before });
  if (!owner.ok) return owner;
  if (before !== null && before.latest > 0)
    return err(conflict((before.removedAt === null ? hasVersions : hadVersions)(name)));
  if (name === target)
    return err(adapterInvalid('alias_of_itself', 'A name cannot stand for itself.', 'target'));
  const bases = await deps.bases.ids();
  if (bases.ok && bases.value.includes(name)) return err(ownNameOfBase(name));
  const row = await deps.registry.live(target);
  if (row !== null && (caller.root || deps.mayUseChain(caller, row))) return owner;
  return err({
    code: 'model_not_found',
    message: `'${target}' does not exist, has no live version of its own, or you do not have access to it.`,
  });
}
