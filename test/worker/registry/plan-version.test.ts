/** `graft publish --dry-run` and the edge: the prediction equals what then happens, and changes nothing. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createApiClient } from '../../../cli/api-client.ts';
import { createOutput } from '../../../cli/output.ts';
import { planPublish } from '../../../cli/commands/publish.ts';
import { publishAdapter } from '../../../cli/publish/publish-adapter.ts';
import { TINY_BASE, tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const LATER_MS = 61_000;
const first = tinyAdapter({ seed: 1 });

let folder: string;
let graft: AppHarness;
beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  folder = mkdtempSync(path.join(tmpdir(), 'graft-plan-'));
  graft = await createAppHarness();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const clientOf = (key: string) =>
  createApiClient({
    url: '',
    key,
    fetchFn: (input, init) =>
      graft.request(input as string, {
        method: init?.method ?? 'GET',
        key,
        ...(init?.body == null
          ? {}
          : { body: typeof init.body === 'string' ? (JSON.parse(init.body) as unknown) : init.body }),
      }),
  });
/** A name and what is published under it, as given on the command line. */
const wish = (
  name: string,
  adapter: TinyAdapter,
  more: { parent?: string; stage?: boolean; key?: string } = {},
) => {
  const given = path.join(folder, `${adapter.digest}.safetensors`);
  writeFileSync(given, adapter.bytes);
  const { parent = null, stage = false, key = graft.adminKey } = more;
  return { given, name, parent, stage, client: clientOf(key), output: createOutput({ json: true }) };
};
/** Names and files in D1 and KV. */
const state = async () => [
  await (await graft.request('/admin/names')).json(),
  await (await graft.request('/admin/history')).json(),
  (await graft.kv.list({ prefix: '', cursor: null })).keys,
];

describe('a dry run', () => {
  it('predicts what publishing then does', async () => {
    await graft.publish('team', first);
    graft.clock.advance(LATER_MS);
    const parent = (await graft.services.registry.live('team'))!.chainId;
    const child = tinyAdapter({ seed: 2, parent });
    const before = await state();
    // Publishing continues with the pins after its response.
    await graft.settled();
    const asked = graft.asked.length;
    const plan = await planPublish(wish('team/alice', child, { parent: 'team' }));
    expect(plan).toMatchObject({
      version: 1,
      exists: false,
      from: null,
      parent: 'team@1',
      instead_of: 'team',
      trial: true,
      base: TINY_BASE.id,
      digest: child.digest,
      rank: 2,
      bytes_to_send: child.bytes.length,
    });
    expect(await state()).toEqual(before);
    expect(graft.asked.slice(asked).filter((call) => !call.startsWith('GET '))).toEqual([]);

    const { version, sent } = await publishAdapter(wish('team/alice', child, { parent: 'team' }));
    expect([version.version, version.parent, version.digest, sent]).toEqual([
      plan.version,
      plan.parent,
      plan.digest,
      plan.bytes_to_send,
    ]);
    graft.clock.advance(LATER_MS);
    expect(await planPublish(wish('team/alice', child, { parent: 'team' }))).toMatchObject({
      version: 1,
      exists: true,
      from: 1,
      instead_of: null,
      trial: false,
      bytes_to_send: 0,
    });
    expect(await planPublish(wish('team', tinyAdapter({ seed: 3 }), { stage: true }))).toMatchObject({
      version: 2,
      exists: false,
      from: 1,
      stage: true,
    });
  });

  it('is refused as publishing would be', async () => {
    await graft.publish('team', first);
    const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant: 'bob' } });
    const { key } = (await made.json()) as { key: string };
    const alone = tinyAdapter({ seed: 4 });
    const attempts: [ReturnType<typeof wish>, RegExp][] = [
      [wish('team/bob', alone, { key }), /name is not available/],
      [wish(TINY_BASE.id, alone), /base model's own name/],
      [wish('other', tinyAdapter({ seed: 5, parent: 'a'.repeat(64) })), /packed for the parent chain/],
    ];
    await graft.request('/admin/alias', { body: { name: 'latest', target: 'team' } });
    attempts.push([wish('latest', alone), /is an alias of 'team'/]);
    for (const [one, message] of attempts) {
      await expect(planPublish(one)).rejects.toThrow(message);
      await expect(publishAdapter(one)).rejects.toThrow(message);
    }
  });

  it('counts uploaded parts, but only this tenant’s', async () => {
    const wide = tinyAdapter({ seed: 6, wide: true });
    await graft.request(`/admin/blobs/${wide.digest}/parts/0`, {
      method: 'PUT',
      body: new Uint8Array(wide.bytes),
    });
    expect((await planPublish(wish('wide', wide))).bytes_to_send).toBe(0);
    const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant: 'bob' } });
    const { key } = (await made.json()) as { key: string };
    expect((await planPublish(wish('wide', wide, { key }))).bytes_to_send).toBe(wide.bytes.length);
  });
});
