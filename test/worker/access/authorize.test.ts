import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { scopeProblem } from '../../../protocol/identity.ts';
import {
  grantCovers,
  mayUse,
  mayUseChain,
  scopeCovers,
  scopeWithin,
} from '../../../worker/access/authenticate.ts';
import { manifestOf } from '../../../worker/registry/write-pointer.ts';
import { versionRow } from '../../contracts/sample-rows.ts';

fc.configureGlobal({ seed: 20 });

const segment = fc.constantFrom('a', 'b', 'ab', 'a-b', 'a.b');
const name = fc.array(segment, { minLength: 1, maxLength: 4 }).map((segments) => segments.join('/'));
const scope = fc.oneof(
  name,
  name.map((path) => `${path}/**`),
  fc.constant('**'),
);

describe('scopes', () => {
  it.each([
    ['**', 'anything/at/all', true],
    ['medicine', 'medicine', true],
    ['medicine', 'medicine/cardiology', false],
    ['medicine/**', 'medicine', true],
    ['medicine/**', 'medicine/cardiology/dr-lee', true],
    ['medicine/**', 'medicine-2', false],
    ['medicine/**', 'medicine2/x', false],
    ['medicine/cardiology', 'medicine', false],
    ['', 'medicine', false],
    ['/**', 'medicine', false],
  ])('%s covers %s: %s', (given, path, covers) => {
    expect(scopeCovers(given, path)).toBe(covers);
  });

  it.each(['', '*', 'a/*', '/**', 'a//b', 'A', 'a/**/b', '**/a', 'a/../b', 'base/**', '***'])(
    'rejects the scope %j',
    (given) => {
      expect(scopeProblem(given)).not.toBeNull();
    },
  );

  it('accepts names and prefixes', () => {
    for (const given of ['**', 'a', 'a/b', 'a/b/**']) expect(scopeProblem(given)).toBeNull();
  });

  it('is within another exactly if it covers no name that the other does not cover', () => {
    fc.assert(
      fc.property(scope, scope, name, (inner, outer, path) => {
        if (scopeWithin(inner, outer) && scopeCovers(inner, path))
          expect(scopeCovers(outer, path)).toBe(true);
      }),
    );
    fc.assert(fc.property(scope, (given) => scopeWithin(given, given)));
    expect(scopeWithin('**', 'a/**')).toBe(false);
    expect(scopeWithin('a/**', 'a')).toBe(false);
    expect(scopeWithin('a/b/**', 'a/**')).toBe(true);
    expect(scopeWithin('a', 'a/**')).toBe(true);
  });
});

describe('chains', () => {
  const member = (path: string, owner: string) => ({ digest: 'd'.repeat(64), scale: 1, name: path, owner });
  const manifest = (...chain: ReturnType<typeof member>[]) => {
    const own = chain.at(-1) as ReturnType<typeof member>;
    return manifestOf(versionRow(own.name, 1, { owner: own.owner, chain }));
  };

  it.each([
    ['own', 'me', [], [member('a', 'me')], true],
    ["another's", 'me', [], [member('a', 'you')], false],
    ["own on another's", 'me', [], [member('a', 'you'), member('a/me', 'me')], false],
    ["own on another's that is granted", 'me', ['a'], [member('a', 'you'), member('a/me', 'me')], true],
    ["another's leaf on own", 'me', [], [member('a', 'me'), member('a/you', 'you')], false],
    ['all granted', 'me', ['a/**'], [member('a', 'you'), member('a/b', 'him')], true],
  ] as const)('%s', (_, tenant, scopes, chain, allowed) => {
    expect(mayUseChain({ tenant, scopes }, manifest(...chain))).toBe(allowed);
  });

  it('may be used only if every member may be', () => {
    const owner = fc.constantFrom('me', 'you', 'him');
    const caller = fc.record({ tenant: owner, scopes: fc.array(scope, { maxLength: 2 }) });
    fc.assert(
      fc.property(caller, fc.array(fc.tuple(name, owner), { minLength: 1, maxLength: 4 }), (who, pairs) => {
        const chain = pairs.map(([path, by]) => member(path, by));
        expect(mayUseChain(who, manifest(...chain))).toBe(chain.every((one) => mayUse(who, one)));
      }),
    );
  });
});

describe('grants', () => {
  const clinic = { scope: 'medicine/**', owner: 'clinic' };

  it.each([
    ['what its giver owns there', clinic, 'medicine/cardiology', 'clinic', true],
    ['what another publishes in the same room', clinic, 'medicine/cardiology', 'stranger', false],
    ['what its giver owns elsewhere', clinic, 'law', 'clinic', false],
    ["everybody's, when the operator gives it", { scope: '**', owner: null }, 'law', 'anyone', true],
    ['one name alone', { scope: 'medicine', owner: 'clinic' }, 'medicine/cardiology', 'clinic', false],
  ] as const)('cover %s: %#', (_, grant, name, owner, covers) => {
    expect(grantCovers(grant, { name, owner })).toBe(covers);
  });

  it('open a chain only if grants, scopes and ownership together cover every member', () => {
    const chain = [
      { digest: 'd'.repeat(64), scale: 1, name: 'medicine', owner: 'clinic' },
      { digest: 'e'.repeat(64), scale: 1, name: 'medicine/lab', owner: 'lab' },
      { digest: 'f'.repeat(64), scale: 1, name: 'guest/own', owner: 'guest' },
    ];
    const manifest = { name: 'guest/own', owner: 'guest', chain };
    const guest = { tenant: 'guest', scopes: ['medicine/lab'], grants: [clinic] };
    expect(mayUseChain(guest, manifest)).toBe(true);
    expect(mayUseChain({ ...guest, scopes: [] }, manifest)).toBe(false);
    expect(mayUseChain({ ...guest, grants: [] }, manifest)).toBe(false);
    expect(mayUseChain({ ...guest, tenant: 'other' }, manifest)).toBe(false);
  });

  it('must cover the version’s own name too, not only its members', () => {
    const chain = [{ digest: 'd'.repeat(64), scale: 1, name: 'medicine', owner: 'clinic' }];
    const guest = { tenant: 'guest', scopes: [], grants: [clinic] };
    expect(mayUseChain(guest, { name: 'secret', owner: 'clinic', chain })).toBe(false);
  });

  it('never remove rights: more grants never allow less', () => {
    const owner = fc.constantFrom('me', 'you', 'him');
    const grant = fc.record({ scope, owner: fc.oneof(owner, fc.constant(null)) });
    const rights = fc.record({
      tenant: owner,
      scopes: fc.array(scope, { maxLength: 2 }),
      grants: fc.array(grant, { maxLength: 3 }),
    });
    fc.assert(
      fc.property(rights, grant, name, owner, (held, more, path, by) => {
        const before = mayUse(held, { name: path, owner: by });
        const after = mayUse({ ...held, grants: [...held.grants, more] }, { name: path, owner: by });
        expect(after).toBe(before || grantCovers(more, { name: path, owner: by }));
      }),
    );
  });
});
