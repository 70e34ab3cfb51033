import { Hono } from 'hono';
import { createMiddleware } from 'hono/factory';
import { z } from 'zod';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { AdapterName, Digest } from '../../protocol/identity.ts';
import {
  DownloadTokenRequest,
  type DownloadChain,
  type DownloadToken,
} from '../../protocol/browser-downloads.ts';
import { enterGate, type Gates } from '../access/rate-limits.ts';
import {
  mayCall,
  otherOrigin,
  presentedGrant,
  presentedKeyHash,
  refusedToken,
} from '../access/page-requests.ts';
import type { KeyRecord } from '../access/ports.ts';
import { requireKey } from '../access/require-admin.ts';
import type { BlobStore } from '../blobs/ports.ts';
import type { BlobLedger } from '../blobs/d1-blob-ledger.ts';
import { adapterUnavailable, modelNotFound, registryUnavailable } from '../errors.ts';
import {
  parseInput,
  readInput,
  fail,
  methodNotAllowed,
  type AppContext,
  type AppEnv,
} from '../http/request.ts';
import type { Index } from '../platform/ports.ts';
import type { Registry, VersionRow } from '../registry/ports.ts';
import type { DownloadTokens } from './download-token.ts';
import { MAX_TOKEN_BODY_BYTES } from './limits.ts';

export interface DownloadDeps {
  keys: Index<KeyRecord>;
  gates: Gates;
  registry: Registry;
  blobLedger: BlobLedger;
  blobs: BlobStore;
  downloadTokens: DownloadTokens;
  /** Pages of other origins that may call this edge; `*` = all. */
  corsOrigins?: readonly string[];
  /** Unix ms. */
  now: () => number;
}

const TOKENS = '/v1/download-tokens';
const CHAIN = '/v1/downloads';
const PART = '/v1/downloads/parts/:index{[0-9]{1,4}}';

const version = z
  .string()
  .regex(/^[1-9]\d{0,8}$/, 'must be a version')
  .transform(Number);
const ChainQuery = z.strictObject({ name: AdapterName });
const PartQuery = z.strictObject({ name: AdapterName, version, digest: Digest });

/**
 * Chains for browsers: an application's server exchanges its API key, if it has the right, for a token of some
 * names and one page origin; the page downloads them with it. Only whole chains of the key's tenant: a grant
 * lets others' adapters be used, never downloaded.
 */
export function downloadRoutes(deps: DownloadDeps): Hono<AppEnv> {
  const { downloadTokens, now } = deps;
  const routes = new Hono<AppEnv>();

  routes.post(TOKENS, requireKey(deps, deps.gates.downloads), async (context) => {
    const input = await readInput(context.req.raw, DownloadTokenRequest, { maxBytes: MAX_TOKEN_BODY_BYTES });
    if (!input.ok) return fail(input.error);
    if (context.get('caller').download !== true) return fail(NO_RIGHT);
    const { names, origin, expires_in: life } = input.value;
    if (!mayCall(deps, context, origin)) return fail(otherOrigin(origin));
    const expiresAt = now() + life;
    const keyHash = await presentedKeyHash(context);
    const token = await downloadTokens.issue({ keyHash, names, origin, expiresAt });
    return context.json(
      { object: 'graft.download_token', token, expires_at: expiresAt, names, origin } satisfies DownloadToken,
      200,
      { 'cache-control': 'no-store' },
    );
  });
  routes.all(TOKENS, methodNotAllowed('POST'));

  const opened = requireToken(deps);
  routes.get(CHAIN, opened, async (context) => {
    const query = parseInput(ChainQuery, context.req.query());
    if (!query.ok) return fail(query.error);
    const found = await downloadable(deps, context, { ...query.value, version: null });
    if (!found.ok) return fail(found.error);
    const { name, version: number, chainId, base, chain } = found.value;
    const members: DownloadChain['chain'] = [];
    for (const { digest, scale, name: of } of chain) {
      const record = await deps.blobLedger.record(digest);
      if (record === null) return fail(lost(of));
      members.push({ digest, scale, bytes: record.bytes, parts: record.parts });
    }
    const answer: DownloadChain = { name, version: number, chain_id: chainId, base, chain: members };
    return context.json(answer, 200, { 'cache-control': 'no-store' });
  });
  routes.all(CHAIN, methodNotAllowed('GET'));

  routes.get(PART, opened, async (context) => {
    const query = parseInput(PartQuery, context.req.query());
    if (!query.ok) return fail(query.error);
    const found = await downloadable(deps, context, query.value);
    if (!found.ok) return fail(found.error);
    const { name, digest } = query.value;
    const isMember = found.value.chain.some((member) => member.digest === digest);
    const record = isMember ? await deps.blobLedger.record(digest) : null;
    const part = record?.parts[Number(context.req.param('index'))];
    if (part === undefined) return fail(modelNotFound(name, []));
    const bytes = await deps.blobs.getPart(digest, part.sha256);
    if (bytes === null) return fail(lost(name));
    return new Response(bytes, {
      headers: {
        'content-type': 'application/octet-stream',
        'content-length': String(part.bytes),
        // The page stores it itself.
        'cache-control': 'no-store',
      },
    });
  });
  routes.all(PART, methodNotAllowed('GET'));
  return routes;
}

/** A valid token, used by the page that it is for, of a key that still has the right. */
const requireToken = (deps: DownloadDeps) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const grant = await presentedGrant(context, deps, { tokens: deps.downloadTokens, what: 'download' });
    if (!grant.ok) return fail(grant.error);
    const { keyHash } = grant.value;
    const key = await deps.keys.get(keyHash);
    if (key.state === 'trouble') return fail(registryUnavailable(key.retryAfterMs));
    const record = key.state === 'found' ? key.value : null;
    const late = record?.expires_at !== undefined && deps.now() >= record.expires_at;
    if (record === null || late || record.download !== true)
      return fail(refusedToken('The key that made this download token has ended or may no longer download.'));
    const { id: keyId, ...rest } = record;
    context.get('trace').note({ tenant: record.tenant, keyId });
    const entered = enterGate(deps.gates.downloads, record.tenant);
    if (!entered.ok) return fail(entered.error);
    context.set('caller', { keyId, ...rest, stale: false });
    context.set('downloads', grant.value);
    try {
      return await next();
    } finally {
      entered.value();
    }
  });

/** A version of a name that the token covers. Missing names and those of others look alike. */
async function downloadable(
  { registry }: DownloadDeps,
  context: AppContext,
  asked: { name: string; version: number | null },
): Promise<Result<VersionRow, ApiError>> {
  const { tenant } = context.get('caller');
  const { names } = context.get('downloads');
  if (!names.includes(asked.name)) return err(notAmong(asked.name));
  const name = await registry.name(asked.name);
  const number = asked.version ?? name?.version ?? null;
  const mine = name !== null && name.owner === tenant && name.removedAt === null && number !== null;
  const row = mine ? await registry.version(asked.name, number) : null;
  if (row === null) return err(modelNotFound(asked.name, []));
  if (row.retiredAt !== null || row.withdrawnAt !== null)
    return err({
      code: 'model_withdrawn',
      message: `'${asked.name}' was retired, or depends on an adapter that was.`,
    });
  return row.chain.every(({ owner }) => owner === tenant) ? ok(row) : err(othersWithin(asked.name));
}

const NO_RIGHT: ApiError = {
  code: 'insufficient_scope',
  message:
    'This key may not let pages download adapters. Ask an admin whose key may download to give it that ' +
    'right: graft keys change <id> --download.',
};

const notAmong = (name: string): ApiError => ({
  code: 'insufficient_scope',
  message: `The download token does not cover '${name}'.`,
});

const othersWithin = (name: string): ApiError => ({
  code: 'insufficient_scope',
  message: `'${name}' depends on adapters of other owners, which may be used but not downloaded.`,
});

const lost = (name: string): ApiError =>
  adapterUnavailable(`The bytes of '${name}' cannot be read now. Retry in a few seconds.`);
