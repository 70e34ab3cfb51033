import { Hono } from 'hono';
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';
import type {
  BlobLimits,
  BlobPart,
  BlobState,
  FinishedBlob,
  DownloadView,
} from '../../protocol/admin-api/blobs.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { Digest } from '../../protocol/identity.ts';
import { MAX_PART_BYTES, MAX_PARTS } from '../../protocol/limits.ts';
import { receiveUpload } from './receive-upload.ts';
import { finishBlob, isThere } from './stored-file.ts';
import type { IntakeDeps, VersionRow } from '../registry/ports.ts';
import { MAX_CHECKED_HEADER_BYTES, PART_DEADLINE_MS } from './limits.ts';
import { parseInput, fail, query, type AppEnv } from '../http/request.ts';
import { adminRoute } from '../http/admin-route.ts';
import type { AdminCaller } from '../access/ports.ts';
import { adapterNotFound, adapterUnavailable } from '../errors.ts';
import { ownVersion } from '../registry/own-name.ts';

const LIMITS: BlobLimits = {
  file_bytes: MAX_PARTS * MAX_PART_BYTES,
  part_bytes: MAX_PART_BYTES,
  parts: MAX_PARTS,
  header_bytes: MAX_CHECKED_HEADER_BYTES,
};

/** Uploads: files, sent in parts and completed. */
export function adminBlobRoutes(deps: IntakeDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  adminRoute(
    routes,
    'GET /admin/blobs/:digest',
    async ({ context, caller: { tenant }, params: { digest } }) => {
      const sent = await deps.blobLedger.sent(digest, tenant);
      // A tenant that finds a whole file will not send it again, so it must stay. Single parts stay a day after
      // each upload.
      const complete = await deps.blobLedger.rely({ digest, tenant, at: deps.now() });
      // Of a whole file they may be another tenant's, which must not show.
      const parts = complete ? [] : sent.filter(isThere(deps.now()));
      return context.json({
        digest,
        complete,
        parts: parts.map(({ index, bytes, sha256 }) => ({ index, bytes, sha256 })),
        limits: LIMITS,
      } satisfies BlobState);
    },
  );

  adminRoute(
    routes,
    'POST /admin/blobs/:digest',
    async ({ context, caller: { tenant }, params: { digest }, request }) => {
      const done = await finishBlob(deps, { digest, record: request, tenant });
      if (!done.ok) return fail(done.error);
      const { bytes, parts } = request;
      const finished: FinishedBlob = { digest, bytes, parts };
      return context.json(finished, done.value.held ? 200 : 201);
    },
  );

  adminRoute(
    routes,
    'PUT /admin/blobs/:digest/parts/:index',
    async ({ context, caller: { tenant }, params: { digest, index } }) => {
      const declared = query(context, 'sha256');
      const sha256 = declared === null ? null : parseInput(Digest, declared);
      if (sha256?.ok === false) return fail(sha256.error);
      const part = await receiveUpload(deps, {
        request: context.req.raw,
        digest,
        index: Number(index),
        sha256: sha256?.value ?? null,
        tenant,
        maxBytes: MAX_PART_BYTES,
        deadlineMs: PART_DEADLINE_MS,
      });
      return part.ok ? context.json(part.value satisfies BlobPart) : fail(part.error);
    },
    { ownQuery: true },
  );
  return routes;
}

type DownloadDeps = Pick<IntakeDeps, 'registry' | 'blobs' | 'blobLedger'>;

const NO_RIGHT: ApiError = {
  code: 'insufficient_scope',
  message:
    'This key may not download adapters. Ask the operator to give an admin key that right: graft keys ' +
    'change <id> --download.',
};

/**
 * Downloads of adapters, for admin keys with the right to download and the bootstrap key. A grant lets others'
 * adapters be used, never downloaded: of a chain only the owner's members are returned. 403 without the right,
 * 404 for other tenants' data, 503 while a part cannot be read.
 */
export function adminDownloadRoutes(deps: DownloadDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'GET /admin/downloads', async ({ context, caller, query }) => {
    const row = await downloadable(deps, caller, query);
    if (!row.ok) return fail(row.error);
    const { name, version, digest, base, chain } = row.value;
    const members: DownloadView['chain'] = [];
    for (const member of chain) {
      const file = mayFetch(caller, member) ? await deps.blobLedger.record(member.digest) : null;
      if (file === null && mayFetch(caller, member)) return fail(lost(member.name));
      members.push({ name: member.name, digest: member.digest, scale: member.scale, file });
    }
    return context.json({ name, version, digest, base: base.id, chain: members } satisfies DownloadView);
  });

  adminRoute(routes, 'GET /admin/downloads/parts/:index', async ({ caller, query, params }) => {
    const row = await downloadable(deps, caller, query);
    if (!row.ok) return fail(row.error);
    const { digest, name, version } = query;
    const member = row.value.chain.find((one) => one.digest === digest);
    const record =
      member !== undefined && mayFetch(caller, member) ? await deps.blobLedger.record(digest) : null;
    const part: BlobRecord['parts'][number] | undefined = record?.parts[Number(params.index)];
    if (part === undefined) return fail(adapterNotFound(`${name}@${version}`));
    const bytes = await deps.blobs.getPart(digest, part.sha256);
    if (bytes === null) return fail(lost(`${name}@${version}`));
    return new Response(bytes, {
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(part.bytes) },
    });
  });
  return routes;
}

async function downloadable(
  { registry }: Pick<DownloadDeps, 'registry'>,
  caller: AdminCaller,
  request: { name: string; version?: number | undefined },
): Promise<Result<VersionRow, ApiError>> {
  if (caller.download !== true) return err(NO_RIGHT);
  const row = await ownVersion(registry, { request, caller });
  return row.ok ? ok(row.value) : row;
}

const mayFetch = (caller: AdminCaller, member: { owner: string }): boolean =>
  caller.root || member.owner === caller.tenant;

const lost = (what: string): ApiError =>
  adapterUnavailable(`The bytes of '${what}' cannot be read now. Retry in a few seconds.`);
