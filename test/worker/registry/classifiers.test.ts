/** Classification heads at the edge: what a version's chain says of them, and what may lie on what. */
import { beforeEach, expect, it } from 'vitest';
import type { VersionView } from '../../../protocol/admin-api/versions.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

let graft: AppHarness;
let root: VersionView;
beforeEach(async () => {
  graft = await createAppHarness();
  root = (await (await graft.publish('intent', tinyAdapter({ seed: 1, classes: 3 }))).json()) as VersionView;
});

it('are counted in the chain of their version, and of those on top', async () => {
  expect(root.chain).toMatchObject([{ name: 'intent', classes: 3 }]);
  const child = tinyAdapter({ seed: 2, parent: root.chain_id });
  const published = await graft.publish('intent/alice', child, { parent: 'intent' });
  const { chain } = (await published.json()) as VersionView;
  expect(chain).toMatchObject([{ name: 'intent', classes: 3 }, { name: 'intent/alice' }]);
  expect(chain[1]).not.toHaveProperty('classes');
});

it('are one in a chain: a second one is refused by name, and nothing is made of it', async () => {
  const child = tinyAdapter({ seed: 2, parent: root.chain_id, classes: 2 });
  const refused = await graft.publish('intent/alice', child, { parent: 'intent' });
  expect([refused.status, await refused.json()]).toEqual([
    422,
    {
      error: expect.objectContaining({
        code: 'adapter_invalid',
        reason: 'classifier_unsupported',
        message: expect.stringContaining("its parent 'intent'"),
      }),
    },
  ]);
  expect(await graft.services.registry.name('intent/alice')).toBeNull();
});
