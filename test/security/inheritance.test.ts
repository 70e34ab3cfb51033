/**
 * Whose weights answer for a name that is missing, or that cannot be had: the caller's own, those of whoever has the
 * nearest name that the caller may know of, or what was named; and on the base of that name, never on another.
 */
import fc from 'fast-check';
import { beforeEach, expect, it, vi } from 'vitest';
import type { AdapterManifest, NameEntry } from '../../protocol/adapter-manifest.ts';
import { mayUse, mayUseChain } from '../../worker/access/authenticate.ts';
import { ancestorsOf } from '../../worker/registry/claims.ts';
import { lookUpModel, type ResolveDeps } from '../../worker/completions/resolve.ts';
import type { Caller, Grant } from '../../worker/access/ports.ts';
import type { Lookup } from '../../worker/platform/ports.ts';
import { digestOf, versionRow } from '../contracts/sample-rows.ts';
import { manifestOf } from '../../worker/registry/write-pointer.ts';

beforeEach(() => void vi.spyOn(console, 'error').mockImplementation(() => undefined));

const BASES = ['tiny', 'large'];
const TENANTS = ['alice', 'bob', 'carol'];
const PATHS = ['a', 'b'].flatMap((x) => [
  x,
  ...['a', 'b'].flatMap((y) => [`${x}/${y}`, `${x}/${y}/a`, `${x}/${y}/b`]),
]);
const ASKED = PATHS.flatMap((path) => [path, `${path}/z`]);

interface Tree {
  owners: Record<string, string>;
  /** Paths whose chain stands on an adapter of another tenant. */
  borrowed: string[];
  strict: string[];
  /** Paths for the other base. */
  large: string[];
  aliases: Record<string, string>;
}

const tenant = fc.constantFrom(...TENANTS);
const some = fc.uniqueArray(fc.constantFrom(...PATHS), { maxLength: 4 });
const trees: fc.Arbitrary<Tree> = fc.record({
  owners: fc.dictionary(fc.constantFrom(...PATHS), tenant, { minKeys: 1, maxKeys: 8 }),
  borrowed: some,
  strict: some,
  large: some,
  aliases: fc.dictionary(fc.constantFrom('a/a', 'b', 'b/b/a'), fc.constantFrom(...PATHS), { maxKeys: 2 }),
});
const scope = fc.constantFrom('**', ...PATHS, ...PATHS.map((path) => `${path}/**`));
const grants = fc.array(fc.record({ scope, owner: fc.oneof(tenant, fc.constant(null)) }), { maxLength: 4 });
const callers = fc.record({
  tenant,
  bound: fc.array(fc.record({ scope, owner: fc.oneof(tenant, fc.constant(null)) }), { maxLength: 3 }),
  degrade: fc.constantFrom('ancestor' as const, 'stale' as const, 'base' as const),
});

function world({ owners, borrowed, strict, large, aliases }: Tree): Map<string, NameEntry> {
  const entries = new Map<string, NameEntry>();
  for (const [name, owner] of Object.entries(owners)) {
    const base = { id: large.includes(name) ? 'large' : 'tiny', digest: digestOf('base') };
    const manifest = manifestOf(versionRow(name, 1, { owner, base }));
    const lender = TENANTS[(TENANTS.indexOf(owner) + 1) % TENANTS.length] as string;
    const root = { digest: digestOf('lent'), scale: 1, name: 'lent', owner: lender };
    entries.set(name, {
      ...manifest,
      ...(borrowed.includes(name) ? { chain: [root, ...manifest.chain] } : {}),
      ...(strict.includes(name) ? { strict: true } : {}),
    });
  }
  for (const [name, alias] of Object.entries(aliases)) entries.set(name, { name, alias });
  return entries;
}

function depsOf(entries: Map<string, NameEntry>, held: Grant[], sick: string | null): ResolveDeps {
  const lookUp = (name: string): Lookup<NameEntry> => {
    if (name === sick) return { state: 'trouble', reason: 'sick', retryAfterMs: 1 };
    const value = entries.get(name);
    return value === undefined ? { state: 'absent' } : { state: 'found', value, stale: false };
  };
  const unused = {} as never;
  return {
    names: { get: async (name) => lookUp(name), getMany: async (names) => names.map(lookUp) },
    grants: {
      get: async (of) => {
        const value = { grants: of === '*' ? [] : held, refused: [] };
        return { state: 'found', value, stale: false };
      },
    },
    absence: { confirm: async () => ({ state: 'absent' }), dummyLookup: async () => undefined },
    versions: unused,
    registry: {
      name: async (name: string) => {
        const target = meant(entries, name);
        const entry = entries.get(name);
        const alias = entry !== undefined && 'alias' in entry ? entry.alias : null;
        return target === null ? null : { owner: target.owner, alias };
      },
      live: async (name: string) => {
        const entry = entries.get(name);
        return entry === undefined || 'alias' in entry ? null : { base: entry.base };
      },
    } as never,
    grantLedger: unused,
    maySuggest: () => false,
    origins: { bases: { declared: BASES, ids: async () => ({ ok: true, value: BASES }) } } as never,
  };
}

/** The adapter that a name means, an alias being followed once. */
const meant = (entries: Map<string, NameEntry>, name: string): AdapterManifest | null => {
  const entry = entries.get(name);
  const target = entry !== undefined && 'alias' in entry ? entries.get(entry.alias) : entry;
  return target === undefined || 'alias' in target ? null : target;
};

it('nobody is answered by weights of an owner who has nothing to do with what was asked for', async () => {
  await fc.assert(
    fc.asyncProperty(
      trees,
      callers,
      grants,
      fc.constantFrom(...ASKED),
      fc.boolean(),
      async (tree, who, held, model, sick) => {
        const entries = world(tree);
        const caller: Caller = {
          ...{ keyId: 'key_1', tenant: who.tenant, stale: false, degrade: who.degrade },
          scopes: who.bound.map((one) => one.scope),
          scope_owners: who.bound.map((one) => one.owner),
        };
        const rights = { ...caller, grants: held };
        const deps = depsOf(entries, held, sick ? model : null);
        const life = { signal: new AbortController().signal, keepAlive: () => undefined };
        const resolved = await (
          await lookUpModel(deps, model)
        )(caller, { strict: false, adapters: [] }, life);
        if (!resolved.ok) return;
        const { resolution, fallbacks } = resolved.value;
        const exact = meant(entries, model);
        // The name itself counts where it is the trouble, or where the caller may know of it.
        const path = [model, ...ancestorsOf(model)];
        const nearest = path
          .map((name) => meant(entries, name))
          .find((one) => one !== null && (mayUse(rights, one) || (sick && one === exact)));
        for (const { manifest, base } of [resolution, ...(await fallbacks())]) {
          if (manifest !== exact) expect(base).toBe(nearest?.base.id);
          if (manifest === null) continue;
          expect(mayUseChain(rights, manifest)).toBe(true);
          if (manifest === exact) continue;
          expect([caller.tenant, nearest?.owner]).toContain(manifest.owner);
        }
      },
    ),
    { numRuns: 2_000 },
  );
});
