import fc from 'fast-check';
import { expect, it } from 'vitest';
import { readUsageNote, writeUsageNote, type UsageNote } from '../../protocol/index.ts';

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
])('takes %j for none', (text) => {
  expect(readUsageNote(text)).toBeNull();
});

it('comes back as it was written', () => {
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
