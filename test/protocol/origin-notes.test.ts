import fc from 'fast-check';
import { expect, it, describe } from 'vitest';
import { isSampled } from '../../protocol/identity.ts';
import {
  readClasses,
  readUsageNote,
  writeClasses,
  writeUsageNote,
  type UsageNote,
  readLoad,
  writeLoad,
} from '../../protocol/origin-wire.ts';

it.each<[UsageNote, string]>([
  [{ promptTokens: 12, completionTokens: null }, 'prompt=12'],
  // As origins before `finish` write it.
  [{ promptTokens: 12, completionTokens: 34 }, 'prompt=12,completion=34'],
  [{ promptTokens: 0, completionTokens: 0, finish: 'stop' }, 'prompt=0,completion=0,finish=stop'],
  [{ promptTokens: 12, completionTokens: 34, finish: 'length' }, 'prompt=12,completion=34,finish=length'],
])('%j is written %j, and read again', (note, text) => {
  expect(writeUsageNote(note)).toBe(text);
  expect(readUsageNote(text)).toStrictEqual(note);
  expect(readUsageNote(` ${text}\r\n`)).toStrictEqual(note);
});

it('counts classes by their labels, whatever those are', () => {
  const counts = writeClasses(['yes', 'a=b, c', 'yes', 'é']);
  expect(counts).toBe('yes=2,a%3Db%2C%20c=1,%C3%A9=1');
  expect(readClasses(counts)).toEqual(
    new Map([
      ['yes', 2],
      ['a=b, c', 1],
      ['é', 1],
    ]),
  );
  expect(writeClasses(Array.from({ length: 1_000 }, (_, at) => `LABEL_${at}`))).toBeNull();
  for (const text of [null, '', 'yes', 'yes=', 'yes=-1', '=1', '%=1', 'x'.repeat(5_000)])
    expect(readClasses(text)).toBeNull();
});

it('has no end before the tokens are known', () => {
  expect(writeUsageNote({ promptTokens: 1, completionTokens: null, finish: 'stop' })).toBe('prompt=1');
});

it.each([
  null,
  '',
  'prompt=',
  'prompt=-1',
  'prompt=1.5',
  'prompt=1234567890',
  'completion=1',
  'prompt=1,finish=stop',
  'prompt=1,completion=2,finish=',
  'prompt=1,completion=2,finish=Stop',
  'prompt=1,completion=2,finish=content_filter',
  'prompt=1,completion=2,finish=stop,finish=stop',
  'prompt=1, completion=2',
  'finish=stop,prompt=1,completion=2',
])('refuses %j', (text) => {
  expect(readUsageNote(text)).toBeNull();
});

it('is read back as it was written', () => {
  const tokens = fc.nat(999_999_999);
  const note = fc.oneof(
    fc.record({ promptTokens: tokens, completionTokens: fc.constant(null) }),
    fc.record(
      {
        promptTokens: tokens,
        completionTokens: tokens,
        finish: fc.constantFrom('stop' as const, 'length' as const),
      },
      { requiredKeys: ['promptTokens', 'completionTokens'] },
    ),
  );
  fc.assert(
    fc.property(note, (one) => {
      expect(readUsageNote(writeUsageNote(one))).toEqual(one);
    }),
  );
});

describe('x-graft-load', () => {
  it.each([
    { rows: 0, slots: 16, draining: false },
    { rows: 300, slots: 64, draining: true },
  ])('is read as it was written: %j', (load) => {
    expect(readLoad(writeLoad(load))).toEqual(load);
  });

  it.each([null, '', '1', '1/0', '-1/3', '1/2;dead', '1e9/3', '9999999/1', '1/2 '])(
    'refuses %j',
    (header) => {
      expect(readLoad(header)).toBeNull();
    },
  );
});

describe('isSampled', () => {
  const ids = Array.from({ length: 10_000 }, (_, i) => `req-${i}`);
  const share = (of: number) => ids.filter((id) => isSampled(id, of)).length / ids.length;

  it('selects about the share, all for 1 and none for 0', () => {
    expect([share(0), share(1)]).toEqual([0, 1]);
    // Four standard deviations of 10,000 draws.
    expect(Math.abs(share(0.1) - 0.1)).toBeLessThan(0.012);
    expect(Math.abs(share(0.5) - 0.5)).toBeLessThan(0.02);
  });

  it('keeps what a smaller share selected', () => {
    for (const id of ids.slice(0, 1_000)) if (isSampled(id, 0.1)) expect(isSampled(id, 0.3)).toBe(true);
  });
});
