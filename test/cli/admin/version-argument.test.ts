import { describe, expect, it } from 'vitest';
import { EXIT } from '../../../cli/cli-error.ts';
import { parseLimit } from '../../../cli/commands/versions.ts';
import { parseExpect, parseReference, parseVersion } from '../../../cli/admin/operation-command.ts';

describe('versions on the command line', () => {
  it.each([
    ['alice/notes', { name: 'alice/notes', version: null }],
    ['alice/notes@12', { name: 'alice/notes', version: 12 }],
  ])('reads %s', (text, expected) => {
    expect(parseReference(text)).toEqual(expected);
  });

  it.each(['', 'Alice', 'a@', 'a@0', 'a@01', 'a@x', 'a@1@2', '@1', 'a@1e3', 'a@9999999999'])(
    'refuses %j',
    (text) => {
      expect(() => parseReference(text)).toThrow(
        expect.objectContaining({ code: 'usage', exitCode: EXIT.usage }),
      );
    },
  );

  it('names the wrong flag', () => {
    expect(() => parseVersion('x', '--to')).toThrow("--to: 'x' is not a version number, such as 3.");
  });

  it.each([
    [undefined, undefined],
    ['0', 0],
    ['7', 7],
  ])('expects %s', (text, expected) => {
    expect(parseExpect(text)).toBe(expected);
  });

  it.each(['-1', '1.5', ''])('does not expect %j', (text) => {
    expect(() => parseExpect(text)).toThrow(/--expect/);
  });

  it.each(['0', '-1', '1.5', 'x', '', '100001'])('takes no limit %j', (text) => {
    expect(() => parseLimit(text)).toThrow(/--limit/);
  });
});
