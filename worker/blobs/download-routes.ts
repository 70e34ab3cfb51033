import { Hono } from 'hono';
import {
  err,
  ok,
  type ApiError,
  type BlobRecord,
  type DownloadView,
  type Result,
} from '../../protocol/index.ts';
import type { AdminCaller } from '../access/ports.ts';
import { adapterNotFound, adapterUnavailable } from '../errors.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request-scope.ts';
import { ownVersion } from '../registry/own-version.ts';
import type { VersionRow } from '../registry/ports.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';

type DownloadDeps = Pick<IntakeDeps, 'registry' | 'blobs' | 'blobLedger'>;

const NO_RIGHT: ApiError = {
  code: 'insufficient_scope',
  message:
    'This key may not fetch the bytes of adapters. The operator gives an admin key that right: graft keys change <id> --download.',
};

/**
 * The bytes of adapters, for admin keys with the right to download and the bootstrap key. A grant opens what others
 * own for use, never its bytes: of a chain only the owner's members are given. 403 without the right, 404 for what is not
 * the tenant's, 503 while a part cannot be read.
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
    const index = Number(params.index);
    const part: BlobRecord['parts'][number] | undefined = record?.parts[index];
    if (part === undefined) return fail(adapterNotFound(`${name}@${version}`));
    const bytes = await deps.blobs.getPart(digest, { index, sha256: part.sha256 });
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
  adapterUnavailable(`The bytes of '${what}' cannot be read at the moment. Please try again.`);
