/** An edge with two names for a page of the rig's, one of them a chain, and the application's own server. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { packAdapter, type PackedAdapter } from '../../adapters/index.ts';
import type { DownloadToken } from '../../protocol/browser-downloads.ts';
import type { PublishToken } from '../../protocol/browser-publications.ts';
import { TINY_ADAPTERS, writeTinyAdapter } from '../fixtures/tiny-base.ts';
import { startTestEdge, type TestEdge } from '../worker/edge-harness.ts';
import type { GraftRig } from './graft-rig.ts';

export const NOTES = 'clinic/notes';
export const DEEP = 'clinic/notes/deep';

export interface Clinic {
  readonly edge: TestEdge;
  /** May download, and let pages publish. */
  readonly key: string;
  /** By their kind of TINY_ADAPTERS: NOTES, what DEEP has on top of it, and one that has no name. */
  readonly packed: Record<'attention' | 'patterned' | 'everything', PackedAdapter>;
  publish(
    name: string,
    adapter: PackedAdapter,
    more?: { parent?: string; partBytes?: number },
  ): Promise<string>;
  /** What the application's own server answers. @param names what the token opens. */
  mint(names: string[]): Promise<string>;
  /** Likewise. @param body of `POST /v1/publish-tokens`, without the origin. */
  mintPublish(body: { name: string; parent?: string }): Promise<string>;
}

/** @returns what stops with `edge.stop()`. */
export async function startClinic(rig: GraftRig): Promise<Clinic> {
  const edge = await startTestEdge({ base: rig.manifest.base, bindings: { CORS_ORIGINS: rig.url } });
  const folder = mkdtempSync(path.join(tmpdir(), 'graft-tiny-adapters-'));
  const pack = async (kind: string, parentChainId: string | null): Promise<PackedAdapter> => {
    const at = path.join(folder, kind);
    writeTinyAdapter(at, TINY_ADAPTERS[kind]!, rig.shape);
    const files = {
      configJson: readFileSync(path.join(at, 'adapter_config.json'), 'utf8'),
      weights: new Uint8Array(readFileSync(path.join(at, 'adapter_model.safetensors'))),
    };
    const made = await packAdapter({ files, baseId: rig.manifest.base.id, parentChainId });
    rig.files.set(made.digest, made.bytes);
    return made;
  };
  const publish: Clinic['publish'] = async (name, { bytes, digest }, more = {}) => {
    const answer = await edge.publish({ name, adapter: { bytes: Buffer.from(bytes), digest }, ...more });
    const text = await answer.text();
    if (answer.status !== 201) throw new Error(text);
    return (JSON.parse(text) as { chain_id: string }).chain_id;
  };
  const attention = await pack('attention', null);
  const patterned = await pack('patterned', await publish(NOTES, attention));
  // Parts of its own, so that there are several.
  await publish(DEEP, patterned, { parent: NOTES, partBytes: 9_000 });
  const packed = { attention, patterned, everything: await pack('everything', null) };
  rmSync(folder, { recursive: true });
  const key = await edge.makeKey({ tenant: 'default', download: true, publish: true });
  const ask = async (path: string, body: object): Promise<unknown> => {
    const headers = { 'content-type': 'application/json' };
    const sent = JSON.stringify({ ...body, origin: rig.url });
    return (await edge.request(path, { method: 'POST', key, headers, body: sent })).json();
  };
  return {
    ...{ edge, key, packed, publish },
    mint: async (names) => ((await ask('/v1/download-tokens', { names })) as DownloadToken).token,
    mintPublish: async (body) => ((await ask('/v1/publish-tokens', body)) as PublishToken).token,
  };
}
