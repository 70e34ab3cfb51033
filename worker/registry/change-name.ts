/** What an owner changes of a name beside its versions: what it stands for, what is said of it, whether it is strict. */
import {
  err,
  MAX_TAGS,
  ok,
  type AboutName,
  type AliasAnswer,
  type AliasRequest,
  type ApiError,
  type Result,
  sameJson,
  type EditAnswer,
  type EditRequest,
  type StrictAnswer,
  type StrictRequest,
} from '../../protocol/index.ts';
import { adapterInvalid, conflict, ownNameOfBase } from '../errors.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { NameRow } from './ports.ts';
import type { MayUseChain } from './assemble-chain.ts';
import { changed, mayName, ownName, type Taken } from './own-name.ts';
import type { IntakeDeps } from './registry-deps.ts';
import { MAX_TRIES } from './limits.ts';
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

/** What is said of a name, once the request is done; an error where that is too much. */
function aboutAfter(
  { description, tags, add_tags: added = [], remove_tags: taken = [] }: EditRequest,
  from: AboutName,
): Result<AboutName, ApiError> {
  const wanted = tags ?? [...from.tags, ...added].filter((tag) => !taken.includes(tag));
  const all = [...new Set(wanted)].sort();
  if (tags === undefined && added.length > 0 && all.length > MAX_TAGS)
    return err({
      code: 'invalid_request',
      message: `A name has at most ${MAX_TAGS} tags, and this one would have ${all.length}.`,
      param: 'add_tags',
    });
  return ok({ description: description === undefined ? from.description : description, tags: all });
}

/**
 * Changes what is said of a name. Nothing that is served depends on it, so that no pointer is written. What it leaves as
 * it is may change meanwhile: then it is done again, on top of that.
 */
export async function editName(
  deps: Pick<IntakeDeps, 'registry' | 'now'>,
  params: { request: EditRequest; caller: AdminCaller },
): Promise<Result<EditAnswer, ApiError>> {
  const { request, caller } = params;
  const { name } = request;
  for (let attempt = 1; ; attempt += 1) {
    const before = await ownName(deps, { name, caller });
    if (!before.ok) return before;
    const from = before.value.about;
    const about = aboutAfter(request, from);
    if (!about.ok) return about;
    const answer: EditAnswer = { name, ...about.value, from };
    if (request.dry_run === true || sameJson(about.value, from)) return ok(answer);
    const note = { actor: caller.keyId, at: deps.now(), why: request.why ?? null };
    const made = await deps.registry.setAbout({ before: before.value, about: about.value, ...note });
    if (made.ok) return ok(answer);
    if (attempt === MAX_TRIES) return err(changed(name, made.error.name));
  }
}

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
