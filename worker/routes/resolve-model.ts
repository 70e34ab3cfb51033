import { err, ok, type AdapterManifest, type ApiError, type Result } from '../../protocol/index.ts';
import { manifestOf } from '../intake/write-pointer.ts';
import type { OriginClient } from '../origin-client.ts';
import { parseModelReference, resolveName, type Resolution } from '../policy/resolve-name.ts';
import type { Caller, Index, Lookup, Registry } from '../stores/types.ts';
import { explainNotFound } from './model-not-found.ts';

export interface ResolveDeps {
  names: Index<AdapterManifest>;
  registry: Registry;
  origins: OriginClient;
}

/** Looked up, not yet decided: the caller may still be unknown. */
export type PendingModel = (caller: Caller) => Promise<Result<Resolution, ApiError>>;

/**
 * Starts every read that `model` needs, beside the key's. On the plain path that is one KV read.
 * @returns what decides once the caller is known.
 */
export async function lookUpModel(deps: ResolveDeps, model: string): Promise<PendingModel> {
  const notFound = async (caller: Caller) => err(await explainNotFound(deps.registry, caller, model));
  const guess = parseModelReference(model, null);
  const [base, lookup] = await Promise.all([
    guess.kind === 'base' ? null : deps.origins.base(),
    guess.kind === 'name' ? deps.names.get(guess.name) : null,
  ]);
  const reference = parseModelReference(model, base?.ok ? base.value.id : null);
  if (reference.kind === 'base') return () => Promise.resolve(ok({ manifest: null, stale: false }));
  if (reference.kind === 'illegal') return notFound;
  return async (caller) => {
    const found: Lookup<AdapterManifest> = lookup ?? (await lookUpVersion(deps.registry, reference));
    const resolved = resolveName(caller, found);
    if (resolved.ok) return resolved;
    if (resolved.error.kind === 'trouble') {
      if (found.state === 'trouble')
        console.error(JSON.stringify({ event: 'name_lookup_trouble', reason: found.reason }));
      return err(resolved.error.error);
    }
    // It could be the base's id, which nobody could tell us.
    if (base !== null && !base.ok && found.state === 'absent') return base;
    return notFound(caller);
  };
}

async function lookUpVersion(
  registry: Registry,
  reference: { kind: 'name' | 'version'; name: string; version?: number },
): Promise<Lookup<AdapterManifest>> {
  const row = await registry.version(reference.name, reference.version ?? 0);
  return row === null ? { state: 'absent' } : { state: 'found', value: manifestOf(row), stale: false };
}
