import { expect, it } from 'vitest';
import { parseChatCompletion } from '../../protocol/completion.ts';
import { readIgnored, writeIgnored } from '../../protocol/parse-body.ts';

const ignoredOf = (fields: object): readonly string[] => {
  const parsed = parseChatCompletion({ model: 'm', messages: [{ role: 'user', content: 'a' }], ...fields });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.error));
  return parsed.value.ignored;
};

it('is safe in a header, whatever the field names', () => {
  const hostile = ['a\r\nset-cookie: x', 'a,b', 'é', '💥', '', ' ', 'x'.repeat(10_000), '"'];
  const header = writeIgnored(ignoredOf(Object.fromEntries(hostile.map((name) => [name, 1]))));
  expect(header).toMatch(/^[\w.[\]=?-]*(, [\w.[\]=?-]*)*$/);
  expect(header!.length).toBeLessThan(200);
  expect(() => new Headers({ 'x-graft-ignored': header! })).not.toThrow();
});

it('is short, however many fields there are, and marks omissions', () => {
  const messages = Array.from({ length: 500 }, (_, at) => ({
    role: 'user',
    content: 'a',
    [`k${at}`]: 1,
    same: 1,
  }));
  const header = writeIgnored(ignoredOf({ messages }))!;
  expect(header.split(', ')).toHaveLength(33);
  expect(header.endsWith(', ...')).toBe(true);
  expect(header.match(/same/g)).toHaveLength(1);
});

it('is read back and merged, each path once', () => {
  expect(writeIgnored([])).toBeNull();
  expect(readIgnored(null)).toEqual([]);
  const header = writeIgnored(['a', 'messages[].b', 'max_tokens=5']);
  expect(header).toBe('a, messages[].b, max_tokens=5');
  expect(writeIgnored([...readIgnored(header), 'a', 'c'])).toBe('a, messages[].b, max_tokens=5, c');
});
