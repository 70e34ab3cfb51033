import fc from 'fast-check';
import { expect, it } from 'vitest';
import { hashOf, viewOf, type View } from '../../dashboard/model/view.ts';

const view = (at: string, about: string | null = null, query = ''): View => ({ at, about, query });

it.each<[string, View]>([
  ['', view('')],
  ['#', view('')],
  ['#/', view('')],
  ['#/adapters', view('adapters')],
  ['#/adapters/', view('adapters')],
  ['#/adapters/medicine/cardiology', view('adapters', 'medicine/cardiology')],
  ['#/playground', view('playground')],
  ['#/playground?left=a%2Fb&t=0.5', view('playground', null, 'left=a%2Fb&t=0.5')],
  ['#/experiments/exp_1', view('experiments', 'exp_1')],
  ['#/new-experiment/a/b', view('new-experiment', 'a/b')],
  ['#/adapters/100%', view('adapters', '100%')],
  ['#/constructor', view('constructor')],
])('%j is %j', (hash, expected) => {
  expect(viewOf(hash)).toEqual(expected);
});

it('is restored from its address, which is fully encoded', () => {
  const text = fc.string({ unit: 'grapheme', minLength: 1 });
  const views = fc.record({ at: text, about: fc.option(text), query: fc.dictionary(text, text) });
  fc.assert(
    fc.property(views, ({ at, about, query: pairs }) => {
      const query = new URLSearchParams(pairs);
      const hash = hashOf({ at, name: about, query });
      expect(hash).toMatch(/^#\/[\w%.~!*'()/-]+(\?[\w%.*+&=-]+)?$/);
      expect(viewOf(hash)).toEqual({ at, about, query: query.toString() });
    }),
  );
});
