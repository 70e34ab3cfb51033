import { Hono } from 'hono';
import {
  BlobRecord,
  Digest,
  MAX_PART_BYTES,
  MAX_PARTS,
  type BlobPart,
  type BlobState,
  type FinishedBlob,
} from '../../protocol/index.ts';
import type { Holding } from './byte-gate.ts';
import { finishBlob, isThere } from './finish-blob.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';
import { receivePart } from './receive-part.ts';
import { MAX_CHECKED_BYTES, PART_DEADLINE_MS, PART_STALL_MS } from './limits.ts';
import { announcedLength, readBody } from '../http/read-body.ts';
import { fail, methodNotAllowed, query, type AppEnv } from '../http/request-scope.ts';
import { parseInput, readInput } from '../http/parse-input.ts';

/**
 * `GET /admin/blobs/<digest>` -> {@link BlobState}: what this tenant has sent;
 * `PUT /admin/blobs/<digest>/parts/<i>[?sha256=]` -> {@link BlobPart};
 * `POST /admin/blobs/<digest>` {@link BlobRecord} -> 201 {@link FinishedBlob}, or 200 when it was complete before.
 */
export function adminBlobRoutes(deps: IntakeDeps): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get('/admin/blobs/:digest', async (context) => {
    const digest = parseInput(Digest, context.req.param('digest'));
    if (!digest.ok) return fail(digest.error);
    const { tenant } = context.get('admin');
    const [holds, sent] = await Promise.all([
      deps.blobLedger.holds(digest.value, tenant),
      deps.blobLedger.sent(digest.value, tenant),
    ]);
    // Who finds a whole file there will not send it again, so it has to stay. Single parts stay a day after each sending.
    const complete = holds && (await deps.blobLedger.touch({ digest: digest.value, at: deps.now() }));
    const parts = complete ? sent : holds ? [] : sent.filter(isThere(deps.now()));
    return context.json({
      digest: digest.value,
      complete,
      parts: parts.map(({ index, bytes, sha256 }) => ({ index, bytes, sha256 })),
      limits: { file_bytes: MAX_CHECKED_BYTES, part_bytes: MAX_PART_BYTES, parts: MAX_PARTS },
    } satisfies BlobState);
  });

  routes.post('/admin/blobs/:digest', async (context) => {
    const digest = parseInput(Digest, context.req.param('digest'));
    if (!digest.ok) return fail(digest.error);
    const record = await readInput(context.req.raw, BlobRecord);
    if (!record.ok) return fail(record.error);
    const { tenant } = context.get('admin');
    const done = await finishBlob(deps, { digest: digest.value, record: record.value, tenant });
    if (!done.ok) return fail(done.error);
    const { bytes, parts } = record.value;
    const finished: FinishedBlob = { digest: digest.value, bytes, parts };
    return context.json(finished, done.value.held ? 200 : 201);
  });
  routes.all('/admin/blobs/:digest', methodNotAllowed('GET, POST'));

  routes.put('/admin/blobs/:digest/parts/:index{[0-9]{1,4}}', async (context) => {
    const digest = parseInput(Digest, context.req.param('digest'));
    if (!digest.ok) return fail(digest.error);
    const declared = query(context, 'sha256');
    const sha256 = declared === null ? null : parseInput(Digest, declared);
    if (sha256?.ok === false) return fail(sha256.error);
    const request = context.req.raw;
    const { tenant } = context.get('admin');
    const held = Math.min(announcedLength(request) ?? MAX_PART_BYTES, MAX_PART_BYTES);
    const holding: Holding = { tenant, kind: 'part', bytes: held, signal: request.signal };
    const part = await deps.gate.hold(holding, async (alive) => {
      const pace = { stallMs: PART_STALL_MS, deadlineMs: PART_DEADLINE_MS, now: deps.now, onChunk: alive };
      const bytes = await readBody(request, MAX_PART_BYTES, { pace });
      if (!bytes.ok) return bytes;
      return receivePart(deps, {
        digest: digest.value,
        index: Number(context.req.param('index')),
        bytes: bytes.value,
        sha256: sha256?.value ?? null,
        tenant,
      });
    });
    return part.ok ? context.json(part.value satisfies BlobPart) : fail(part.error);
  });
  routes.all('/admin/blobs/:digest/parts/:index{[0-9]{1,4}}', methodNotAllowed('PUT'));
  return routes;
}
