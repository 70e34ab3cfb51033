import { describe, expect, it } from 'vitest';
import { parseVersioned } from '../../../cli/commands/verify.ts';

describe('parseVersioned', () => {
  it.each([
    ['alice/notes', { name: 'alice/notes' }],
    ['alice/notes@2', { name: 'alice/notes', version: 2 }],
  ])('%s', (what, expected) => {
    expect(parseVersioned(what)).toEqual(expected);
  });

  it.each(['', 'Alice', 'a@0', 'a@x', 'a@01', 'a@1@2', '@1', './notes'])('refuses %j', (what) => {
    expect(() => parseVersioned(what)).toThrow(/neither a local file nor a name/);
  });
});
