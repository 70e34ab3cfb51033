import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startEdge, type Edge } from '../../cli/local/edge.ts';
import { generateApiKey } from '../../protocol/identity.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { parseSigningKeys } from '../../protocol/signature.ts';
import { startFakeOrigin, type FakeOrigin } from '../fakes/fake-origin.ts';
import { TINY_BASE, type TinyAdapter } from '../fakes/tiny-adapters.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import { splitDatabases } from './platform/split-databases.ts';

const SECRET = Buffer.alloc(32, 7).toString('base64');
export const ORIGIN_KEYS = `k1:${SECRET}`;
export const MAC_KEY = Buffer.alloc(32, 9).toString('base64');

export interface TestEdge {
  edge: Edge;
  /** For `wrangler --persist-to`. */
  stateFolder: string;
  origin: FakeOrigin;
  adminKey: string;
  logs: string[];
  /** Binding of the database with usage and traffic. */
  usageBinding: 'DB' | 'DB_USAGE';
  request(path: string, init?: RequestInit & { key?: string | null }): Promise<Response>;
  admin(path: string, init?: RequestInit & { key?: string }): Promise<Response>;
  makeKey(params: {
    tenant: string;
    scopes?: string[];
    download?: boolean;
    publish?: boolean;
    train?: boolean;
  }): Promise<string>;
  makeAdminKey(tenant: string): Promise<string>;
  /** Uploads in parts of `partBytes` and publishes. */
  publish(params: PublishParams): Promise<Response>;
  upload(adapter: TinyAdapter, options?: { partBytes?: number; key?: string }): Promise<Response>;
  stop(): Promise<void>;
}

export interface PublishParams {
  name: string;
  adapter: TinyAdapter;
  parent?: string;
  expect?: number;
  owner?: string;
  stage?: boolean;
  partBytes?: number;
  key?: string;
  evaluation?: object;
}

const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');
const JSON_TYPE = { 'content-type': 'application/json' };

/**
 * The real worker in workerd with Miniflare's KV and D1, in front of a fake origin.
 * @param overrides.moreOrigins as `ORIGINS` has them, beside the fake one.
 * @param overrides.bindings further variables of the worker.
 * @param overrides.r2Bucket bound as BLOBS.
 * @param overrides.usageDatabase bound as DB_USAGE; each database then has its own tables alone.
 * @param overrides.adminKey a new one unless given.
 * @param overrides.base of the fake origin; the tiny one unless given.
 * @param overrides.page folder of the files that the edge serves.
 * @param overrides.fill puts state into the folder before the edge starts.
 */
export async function startTestEdge(
  overrides: {
    origins?: string;
    moreOrigins?: { id: string; url: string }[];
    bindings?: Record<string, string>;
    r2Bucket?: string;
    usageDatabase?: string;
    adminKey?: string;
    base?: BaseInfo;
    page?: string;
    fill?: (stateFolder: string) => Promise<void>;
  } = {},
): Promise<TestEdge> {
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-edge-'));
  const base = overrides.base ?? TINY_BASE;
  const origin = await startFakeOrigin({ id: 'o1', keys: parseSigningKeys(ORIGIN_KEYS), base });
  const adminKey = overrides.adminKey ?? generateApiKey('ga');
  await overrides.fill?.(folder);
  const logs: string[] = [];
  const edge = await startEdge({
    port: 0,
    stateFolder: folder,
    bindings: {
      ORIGINS:
        overrides.origins ??
        JSON.stringify([{ id: 'o1', url: origin.url }, ...(overrides.moreOrigins ?? [])]),
      GRAFT_ORIGIN_KEYS: ORIGIN_KEYS,
      GRAFT_MAC_KEY: MAC_KEY,
      FLUSH_MS: '50',
      GRAFT_ADMIN_KEY_SHA256: sha256(adminKey),
      ...overrides.bindings,
    },
    ...(overrides.page === undefined ? {} : { page: overrides.page }),
    ...(overrides.r2Bucket === undefined ? {} : { r2Bucket: overrides.r2Bucket }),
    ...(overrides.usageDatabase === undefined ? {} : { usageDatabase: overrides.usageDatabase }),
    onLog: (line) => logs.push(line),
  });
  const usageBinding = overrides.usageDatabase === undefined ? 'DB' : 'DB_USAGE';
  if (usageBinding === 'DB_USAGE') {
    const databases = (['DB', usageBinding] as const).map((binding) => edge.miniflare.getD1Database(binding));
    const [db, usageDb] = (await Promise.all(databases)) as unknown as [SqlDatabase, SqlDatabase];
    await splitDatabases(db, usageDb);
  }

  const send = (pathAndQuery: string, init: RequestInit & { key?: string | null }) => {
    const { key, ...rest } = init;
    const headers = new Headers(rest.headers);
    if (key !== null && key !== undefined) headers.set('authorization', `Bearer ${key}`);
    return fetch(edge.url + pathAndQuery, { ...rest, headers });
  };
  const admin: TestEdge['admin'] = (pathAndQuery, init = {}) =>
    send(pathAndQuery, { key: adminKey, ...init });
  const createKey = async (body: object) => {
    const response = await admin('/admin/keys', {
      method: 'POST',
      headers: JSON_TYPE,
      body: JSON.stringify(body),
    });
    if (response.status !== 201) throw new Error(await response.text());
    return ((await response.json()) as { key: string }).key;
  };
  const upload: TestEdge['upload'] = async (adapter, options = {}) => {
    const key = options.key ?? adminKey;
    const partBytes = options.partBytes ?? 24 * 1024 * 1024;
    const parts = [];
    for (let offset = 0; offset < adapter.bytes.length; offset += partBytes) {
      const part = adapter.bytes.subarray(offset, offset + partBytes);
      const sent = await admin(`/admin/blobs/${adapter.digest}/parts/${parts.length}`, {
        method: 'PUT',
        body: new Uint8Array(part),
        key,
      });
      if (!sent.ok) return sent;
      parts.push({ bytes: part.length, sha256: sha256(part) });
    }
    return admin(`/admin/blobs/${adapter.digest}`, {
      method: 'POST',
      headers: JSON_TYPE,
      body: JSON.stringify({ bytes: adapter.bytes.length, parts }),
      key,
    });
  };

  return {
    edge,
    stateFolder: folder,
    origin,
    adminKey,
    logs,
    usageBinding,
    request: (pathAndQuery, init = {}) => send(pathAndQuery, init),
    admin,
    makeKey: (params) => createKey(params),
    makeAdminKey: (tenant) => createKey({ kind: 'admin', tenant }),
    upload,
    async publish({ name, adapter, parent, expect, owner, stage, partBytes, evaluation, key = adminKey }) {
      const uploaded = await upload(adapter, { key, ...(partBytes === undefined ? {} : { partBytes }) });
      if (!uploaded.ok) return uploaded;
      const body = { name, digest: adapter.digest, parent, expect, owner, stage, evaluation };
      return admin('/admin/versions', {
        method: 'POST',
        headers: JSON_TYPE,
        body: JSON.stringify(body),
        key,
      });
    },
    async stop() {
      await edge.stop();
      await origin.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Body of the simplest chat request. */
export const chat = (model: string, more: object = {}): string =>
  JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }], ...more });

/** First eight digits of each digest of the chain that the fake origin was asked for. */
export async function chainOf(response: Response): Promise<string[]> {
  const body = (await response.json()) as { choices: { message: { content: string } }[] };
  return JSON.parse(body.choices[0]?.message.content ?? 'null') as string[];
}
