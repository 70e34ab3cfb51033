import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nameProblem } from '../../../protocol/identity.ts';
import { ancestorsOf } from '../../../worker/registry/claims.ts';
import { parseModelReference } from '../../../worker/completions/resolve.ts';

fc.configureGlobal({ seed: 20 });

describe('parseModelReference', () => {
  it.each([
    ['base', { kind: 'base', id: null }],
    ['tiny', { kind: 'base', id: 'tiny' }],
    ['large', { kind: 'base', id: 'large' }],
    ['medicine/cardiology', { kind: 'name', name: 'medicine/cardiology' }],
    ['medicine@3', { kind: 'version', name: 'medicine', version: 3 }],
    ['medicine@0', { kind: 'illegal' }],
    ['medicine@03', { kind: 'illegal' }],
    ['medicine@', { kind: 'illegal' }],
    ['medicine@1e3', { kind: 'illegal' }],
    ['medicine@9999999999', { kind: 'illegal' }],
    ['a@1@2', { kind: 'illegal' }],
    ['base/x', { kind: 'illegal' }],
    ['base@1', { kind: 'illegal' }],
    ['../x', { kind: 'illegal' }],
    ['mEd', { kind: 'illegal' }],
    ['med\u0000', { kind: 'illegal' }],
    ['', { kind: 'illegal' }],
  ])('%j', (model, reference) => {
    expect(parseModelReference(model, ['tiny', 'large'])).toEqual(reference);
  });

  it('never accepts an illegal name', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: 'binary' })), (model) => {
        const reference = parseModelReference(model, []);
        if ('name' in reference) expect(nameProblem(reference.name)).toBeNull();
      }),
    );
  });
});

describe('ancestorsOf', () => {
  it.each([
    ['medicine', []],
    ['medicine/cardiology', ['medicine']],
    ['a/b/c/d', ['a/b/c', 'a/b', 'a']],
  ])('%s', (name, ancestors) => {
    expect(ancestorsOf(name)).toEqual(ancestors);
  });

  it('returns the names above, nearest first, at most seven', () => {
    const segment = fc.string({ unit: fc.constantFrom('a', 'b', '-', '.'), minLength: 1, maxLength: 4 });
    const name = fc.array(segment, { minLength: 1, maxLength: 8 }).map((segments) => segments.join('/'));
    fc.assert(
      fc.property(name, (given) => {
        fc.pre(nameProblem(given) === null);
        const ancestors = ancestorsOf(given);
        expect(ancestors).toHaveLength(given.split('/').length - 1);
        for (const [i, ancestor] of ancestors.entries()) {
          expect(nameProblem(ancestor)).toBeNull();
          expect((ancestors[i - 1] ?? given).startsWith(`${ancestor}/`)).toBe(true);
        }
      }),
    );
  });
});
