import { runCommand } from 'citty';
import { afterEach, expect, it, vi } from 'vitest';
import { editCommand, editedText } from '../../../cli/commands/names.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness } from '../../worker/app-harness.ts';

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
  for (const [name, value] of [
    ['GRAFT_URL', 'http://edge.test'],
    ['GRAFT_KEY', 'x'],
    ['GRAFT_ADMIN_KEY', graft.adminKey],
  ] as const)
    vi.stubEnv(name, value);
  vi.stubGlobal('fetch', (input: string, init: RequestInit = {}) =>
    graft.request(input.replace('http://edge.test', ''), {
      method: init.method ?? 'GET',
      ...(typeof init.body === 'string' ? { body: JSON.parse(init.body) as unknown } : {}),
    }),
  );
  const run = (...flags: string[]) => runCommand(editCommand.default, { rawArgs: ['notes', ...flags] });
  await run('--tag', 'old,kept');
  await Promise.all([run('--tag', 'a'), run('--tag', 'b', '--untag', 'old'), run('--tag', 'c')]);
  expect(await graft.services.registry.name('notes')).toMatchObject({
    about: { tags: ['a', 'b', 'c', 'kept'] },
  });
});
