import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mayUse, usableRanges } from '../../../worker/access/authenticate.ts';

const segment = fc.constantFrom('a', 'a-b', 'a.b', 'a0', 'b');
const name = fc.array(segment, { minLength: 1, maxLength: 3 }).map((segments) => segments.join('/'));
const scope = fc.oneof(
  name,
  name.map((path) => `${path}/**`),
  fc.constant('**'),
);
const owner = fc.constantFrom('me', 'x', 'y', 'z');
const grant = fc.record({ scope, owner: fc.option(owner, { nil: null, freq: 4 }) });
const rights = fc.record({
  tenant: fc.constant('me'),
  scopes: fc.array(scope, { maxLength: 3 }),
  scope_owners: fc.array(fc.option(owner, { nil: null }), { maxLength: 3 }),
  grants: fc.array(grant, { maxLength: 8 }),
});

describe('usableRanges', () => {
  it('cover exactly what may be used and is not the tenant’s own', () =>
    fc.assert(
      fc.property(rights, name, owner, (given, asked, whose) => {
        const covered = usableRanges(given, 9)
          .flat()
          .some(
            (range) =>
              asked >= range.from && asked < range.to && (range.owner === null || range.owner === whose),
          );
        expect(covered || whose === 'me').toBe(mayUse(given, { name: asked, owner: whose }));
      }),
    ));

  it('form layers that can be read in the order of names', () =>
    fc.assert(
      fc.property(rights, (given) => {
        const layers = usableRanges(given, 2);
        expect(layers.filter((layer) => layer[0]?.owner !== null).length).toBeLessThanOrEqual(2);
        for (const layer of layers) {
          expect(new Set(layer.map((range) => range.owner === null)).size).toBe(1);
          for (const [i, range] of layer.entries())
            expect(range.from < range.to && (i === 0 || (layer[i - 1]?.to ?? '') <= range.from)).toBe(true);
        }
      }),
    ));

  it('omit what a wider one covers', () => {
    const scopes = ['a/b', 'a/**', 'a/b/**', 'a', 'a-b'];
    expect(usableRanges({ tenant: 'me', scopes }, 1)).toEqual([
      [
        { from: 'a', to: 'a ', owner: null },
        { from: 'a-b', to: 'a-b ', owner: null },
        { from: 'a/', to: 'a/\u007f', owner: null },
      ],
    ]);
    expect(usableRanges({ tenant: 'me', scopes: [...scopes, '**'] }, 1)).toEqual([
      [{ from: '', to: '\u007f', owner: null }],
    ]);
  });
});
