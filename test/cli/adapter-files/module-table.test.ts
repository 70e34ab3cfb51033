import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import {
  byLayer,
  byTarget,
  facts,
  fileSize,
  numberTable,
  range,
  significant,
} from '../../../cli/adapter-files/module-table.ts';

const named = (...names: string[]) => names.map((name) => ({ name }));
const Q = (layer: number): string => `model.layers.${layer}.self_attn.q_proj`;

describe('modules', () => {
  it('modules are listed in the order of the network', () => {
    expect(byLayer(named(Q(10), Q(2), Q(0)))).toEqual(named(Q(0), Q(2), Q(10)));
  });
  it('modules are grouped by target', () => {
    const groups = byTarget(named(Q(0), 'model.layers.0.mlp.up_proj', Q(1), 'lm_head'));
    expect([...groups].map(([target, of]) => [target, of.length])).toEqual([
      ['self_attn.q_proj', 2],
      ['mlp.up_proj', 1],
      ['lm_head', 1],
    ]);
  });
});

it.each([
  [2, '2'],
  [45.254833995939045, '45.25'],
  [0.000123456, '0.0001235'],
  [1e-9, '1e-9'],
  [-0.5, '-0.5'],
  [NaN, 'NaN'],
  [Infinity, 'Infinity'],
])('%d is shown as %s', (value, text) => {
  expect(significant(value)).toBe(text);
});

it.each([
  [[], '-'],
  [[8, 8], '8'],
  [[16, 8, 12], '8 to 16'],
  [[1.00001, 1.00002], '1'],
])('the range of %j is %s', (values, text) => {
  expect(range(values)).toBe(text);
});

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [71_400, '71 kB'],
  [9_827_104, '9.8 MB'],
])('%d bytes are %s', (bytes, text) => {
  expect(fileSize(bytes)).toBe(text);
});

it('a table aligns its numbers to the right', () => {
  const table = numberTable(
    ['NAME', 'RANK'],
    [
      ['a', '8'],
      ['bcdef', '1024'],
    ],
  );
  expect(stripVTControlCharacters(table)).toBe('NAME   RANK\na         8\nbcdef  1024');
});

it('facts leave out unknown values', () => {
  expect(
    facts([
      ['base', 'x'],
      ['digest', null],
      ['parent', 'y'],
    ]),
  ).toBe('base    x\nparent  y');
});
