import { runCommand } from 'citty';
import { afterEach, expect, it, vi } from 'vitest';
import { editCommand, editedText } from '../../../cli/commands/names.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness } from '../../worker/app-harness.ts';
import { reachApp } from '../reach-app.ts';

afterEach(() => {
  vi.unstubAllEnvs();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const from = { description: null, tags: [] };

it.each([
  [{ description: 'notes', tags: ['a', 'b'], from }, false, 'n\n  description  notes\n  tags         a, b'],
  [
    { description: null, tags: [], from: { ...from, tags: ['a'] } },
    true,
    'dry run: n would be\n  description  -\n  tags         -',
  ],
  [{ ...from, from }, false, 'n is like this already; nothing changed'],
  [{ ...from, from }, true, 'n is like this already; nothing would change'],
])('%j', (answer, dryRun, text) => expect(editedText({ name: 'n', ...answer }, dryRun)).toBe(text));

it('adds and removes tags along with concurrent changes', async () => {
  const graft = await createAppHarness();
  await graft.publish('notes', tinyAdapter({ seed: 1 }));
  vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  reachApp(graft);
  const run = (...flags: string[]) => runCommand(editCommand.default, { rawArgs: ['notes', ...flags] });
  await run('--tag', 'old,kept');
  await Promise.all([run('--tag', 'a'), run('--tag', 'b', '--untag', 'old'), run('--tag', 'c')]);
  expect(await graft.services.registry.name('notes')).toMatchObject({
    about: { tags: ['a', 'b', 'c', 'kept'] },
  });
});
