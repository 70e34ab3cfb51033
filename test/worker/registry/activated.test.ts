/** Activated adapters at the edge: what a version's chain says of them, and what may lie on what. */
import { beforeEach, expect, it } from 'vitest';
import type { VersionView } from '../../../protocol/admin-api/versions.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

let graft: AppHarness;
let root: VersionView;
beforeEach(async () => {
  graft = await createAppHarness();
  const adapter = tinyAdapter({ seed: 1, invocation: [1, 5] });
  root = (await (await graft.publish('notes', adapter)).json()) as VersionView;
});

it('is marked in the chain of its version, and of those on top', async () => {
  expect(root.chain).toMatchObject([{ name: 'notes', activated: true }]);
  const child = tinyAdapter({ seed: 2, parent: root.chain_id, invocation: [7] });
  const published = await graft.publish('notes/alice', child, { parent: 'notes' });
  expect(((await published.json()) as VersionView).chain).toMatchObject([
    { name: 'notes', activated: true },
    { name: 'notes/alice', activated: true },
  ]);
  const plain = await graft.publish('plain', tinyAdapter({ seed: 3 }));
  expect(((await plain.json()) as VersionView).chain[0]).not.toHaveProperty('activated');
});

it('takes no child that acts on every token, and makes nothing of it', async () => {
  const child = tinyAdapter({ seed: 2, parent: root.chain_id });
  const refused = await graft.publish('notes/alice', child, { parent: 'notes' });
  expect([refused.status, await refused.json()]).toEqual([
    422,
    {
      error: expect.objectContaining({
        code: 'adapter_invalid',
        reason: 'parent_mismatch',
        message: expect.stringContaining("its parent 'notes' only from its alora_invocation_tokens"),
      }),
    },
  ]);
  expect(await graft.services.registry.name('notes/alice')).toBeNull();
});
