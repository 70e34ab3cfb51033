import { expect, it } from 'vitest';
import { retiredText } from '../../../cli/commands/versions.ts';

it('describes what others lose', () => {
  const answer = { name: 'a', version: 2, retired_at: 1, stops: { versions: 0, experiments: 0 } };
  expect(retiredText(answer, false)).toBe('a@2 is retired');
  expect(retiredText({ ...answer, stops: { versions: 1, experiments: 0 } }, false)).toBe(
    'a@2 is retired\n1 version of other tenants is no longer served',
  );
  expect(retiredText({ ...answer, stops: { versions: 3, experiments: 1 } }, true)).toBe(
    'dry run: a@2 would be retired\n3 versions and 1 experiment of other tenants would no longer be served',
  );
});
