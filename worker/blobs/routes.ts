import { Hono } from 'hono';
import {
  Digest,
  MAX_PART_BYTES,
  MAX_PARTS,
  type BlobLimits,
  type BlobPart,
  type BlobState,
  type FinishedBlob,
} from '../../protocol/index.ts';
import type { Holding } from './byte-gate.ts';
import { finishBlob, isThere } from './finish-blob.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';
import { receivePart } from './receive-part.ts';
import { MAX_CHECKED_HEADER_BYTES, PART_DEADLINE_MS, PART_STALL_MS } from './limits.ts';
import { announcedLength, readBody } from '../http/read-body.ts';
import { adminRoute } from '../http/admin-route.ts';
import { parseInput } from '../http/parse-input.ts';
import { fail, query, type AppEnv } from '../http/request-scope.ts';

const LIMITS: BlobLimits = {
  file_bytes: MAX_PARTS * MAX_PART_BYTES,
  part_bytes: MAX_PART_BYTES,
  parts: MAX_PARTS,
  header_bytes: MAX_CHECKED_HEADER_BYTES,
};

/** Files, sent in parts and closed. */
export function adminBlobRoutes(deps: IntakeDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  adminRoute(
    routes,
    'GET /admin/blobs/:digest',
    async ({ context, caller: { tenant }, params: { digest } }) => {
      const [holds, sent] = await Promise.all([
        deps.blobLedger.holds(digest, tenant),
        deps.blobLedger.sent(digest, tenant),
      ]);
      // Who finds a whole file there will not send it again, so it has to stay. Single parts stay a day after each sending.
      const complete = holds && (await deps.blobLedger.touch({ digest, at: deps.now() }));
      const parts = complete ? sent : holds ? [] : sent.filter(isThere(deps.now()));
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
      const request = context.req.raw;
      const held = Math.min(announcedLength(request) ?? MAX_PART_BYTES, MAX_PART_BYTES);
      const holding: Holding = { tenant, kind: 'part', bytes: held, signal: request.signal };
      const part = await deps.gate.hold(holding, async (alive) => {
        const pace = { stallMs: PART_STALL_MS, deadlineMs: PART_DEADLINE_MS, now: deps.now, onChunk: alive };
        const bytes = await readBody(request, MAX_PART_BYTES, { pace });
        if (!bytes.ok) return bytes;
        return receivePart(deps, {
          digest,
          index: Number(index),
          bytes: bytes.value,
          sha256: sha256?.value ?? null,
          tenant,
        });
      });
      return part.ok ? context.json(part.value satisfies BlobPart) : fail(part.error);
    },
    { ownQuery: true },
  );
  return routes;
}
