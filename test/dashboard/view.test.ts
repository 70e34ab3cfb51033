import fc from 'fast-check';
import { expect, it } from 'vitest';
import { hashOf, viewOf, type View } from '../../dashboard/model/view.ts';

it.each<[string, View]>([
  ['', { at: 'overview' }],
  ['#', { at: 'overview' }],
  ['#/', { at: 'overview' }],
  ['#/adapters', { at: 'adapters', name: null }],
  ['#/adapters/medicine/cardiology', { at: 'adapters', name: 'medicine/cardiology' }],
  ['#/playground', { at: 'playground' }],
  ['#/origins', { at: 'origins' }],
  ['#/experiments', { at: 'experiments', id: null }],
  ['#/experiments/exp_1', { at: 'experiments', id: 'exp_1' }],
  ['#/new-experiment/a/b', { at: 'new-experiment', name: 'a/b' }],
  ['#/new-experiment', { at: 'new-experiment', name: '' }],
  ['#/nowhere/else', { at: 'overview' }],
  ['#/adapters/100%', { at: 'adapters', name: '100%' }],
  ['#/constructor', { at: 'overview' }],
  ['#/usage', { at: 'usage' }],
  ['#/requests', { at: 'requests' }],
])('%j is %j', (hash, view) => {
  expect(viewOf(hash)).toEqual(view);
});

it('comes back from its address, which says nothing that is not encoded', () => {
  const text = fc.string({ unit: 'grapheme', minLength: 1 });
  const views = fc.oneof(
    text.map((name): View => ({ at: 'adapters', name })),
    text.map((id): View => ({ at: 'experiments', id })),
    text.map((name): View => ({ at: 'new-experiment', name })),
    fc.constantFrom<View>({ at: 'playground' }, { at: 'origins' }, { at: 'adapters', name: null }),
  );
  fc.assert(
    fc.property(views, (view) => {
      const hash = hashOf(view);
      expect(hash).toMatch(/^#\/[\w%.~!*'()/-]+$/);
      expect(viewOf(hash)).toEqual(view);
    }),
  );
});
