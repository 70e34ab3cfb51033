import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  mayUse,
  mayUseChain,
  scopeCovers,
  scopeProblem,
  scopeWithin,
} from '../../../worker/policy/authorize.ts';
import { manifestOf } from '../../../worker/intake/write-pointer.ts';
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
    'refuses %j as a scope',
    (given) => {
      expect(scopeProblem(given)).not.toBeNull();
    },
  );

  it('accepts names and rooms', () => {
    for (const given of ['**', 'a', 'a/b', 'a/b/**']) expect(scopeProblem(given)).toBeNull();
  });

  it('is within another exactly when it covers no name that the other does not', () => {
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

  it('is allowed only if every member is', () => {
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
