/** Files put into KV by the real `wrangler`, taken in by the real edge. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DropError } from '../../../worker/kv-inbox/take-drops.ts';
import { wranglerKvKey } from '../../e2e/run-wrangler.ts';
import { tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { chainOf, chat, startTestEdge, type TestEdge } from '../edge-harness.ts';

const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });
const eight = ({ digest }: TinyAdapter) => digest.slice(0, 8);

let graft: TestEdge;
let folder: string;
let key: string;
beforeAll(async () => {
  [graft, folder] = await Promise.all([
    startTestEdge({ bindings: { DROPS: 'on', DROP_TENANT: 'dropper' } }),
    mkdtemp(path.join(tmpdir(), 'graft-drops-')),
  ]);
  key = await graft.makeKey({ tenant: 'dropper' });
});
afterAll(async () => {
  await graft.stop();
  await rm(folder, { recursive: true });
});

const kvKey = (...args: string[]) => wranglerKvKey(graft.stateFolder, args);
async function drop(name: string, bytes: Uint8Array): Promise<void> {
  const file = path.join(folder, 'dropped.safetensors');
  await writeFile(file, bytes);
  await kvKey('put', `drop:${name}`, '--path', file);
}
const ask = (model: string) =>
  graft.request('/v1/chat/completions', { method: 'POST', key, body: chat(model) });

describe('wrangler kv key put drop:<name>', () => {
  it('is answered from at once, by name, when there was nothing before', async () => {
    await drop('alice/support', first.bytes);
    const answer = await ask('alice/support');
    expect(answer.headers.get('x-graft-adapter')).toBe('alice/support@1');
    expect(await chainOf(answer)).toEqual([eight(first)]);
  });

  it('is the next version when the schedule has come', async () => {
    await drop('alice/support', second.bytes);
    await graft.edge.runSchedule();
    const answer = await ask('alice/support');
    expect(answer.headers.get('x-graft-adapter')).toBe('alice/support@2');
    expect(await chainOf(answer)).toEqual([eight(second)]);
  });

  it('is read no more by requests once it has been taken in, while KV still says that the name is missing', async () => {
    await drop('alice/late', first.bytes);
    expect((await ask('alice/late')).headers.get('x-graft-adapter')).toBe('alice/late@1');
    // As KV shows it elsewhere, and here for a while.
    await kvKey('delete', 'name:alice/late');
    // Who looks into the box takes this one in.
    await drop('alice/late', second.bytes);
    expect((await ask('alice/late')).headers.get('x-graft-adapter')).toBe('alice/late@1');
  });

  it('says under drop-error what is wrong, and the old version goes on', async () => {
    await drop('alice/support', new TextEncoder().encode('no adapter'));
    await graft.edge.runSchedule();
    const error = JSON.parse(await kvKey('get', 'drop-error:alice/support', '--text')) as DropError;
    expect(error).toMatchObject({ code: 'adapter_invalid', retrying: false });
    expect((await ask('alice/support')).headers.get('x-graft-adapter')).toBe('alice/support@2');
    const rows = await graft.admin('/admin/versions?name=alice/support');
    expect(await rows.json()).toMatchObject({ owner: 'dropper', version: 2, versions: { length: 2 } });
  });
});
