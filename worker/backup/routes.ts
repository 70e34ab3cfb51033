import { Hono } from 'hono';
import { z } from 'zod';
import type { BlobRecord } from '../../protocol/adapter-manifest.ts';
import { BACKUP_OPERATIONS, type BackupRow, type BackupRows } from '../../protocol/admin-api/backup.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import { Digest, sha256Hex } from '../../protocol/identity.ts';
import { MAX_PART_BYTES } from '../../protocol/limits.ts';
import { REPAIR_PAGE } from '../limits.ts';
import type { UploadMemoryLimit } from '../blobs/upload-memory-limit.ts';
import { PART_DEADLINE_MS, PART_STALL_MS } from '../blobs/limits.ts';
import type { BlobStore } from '../blobs/ports.ts';
import type { BlobLedger } from '../blobs/d1-blob-ledger.ts';
import type { Gatherers } from '../gathering/ports.ts';
import type { UsageLedger } from '../metering/ports.ts';
import { countUsage } from '../training/count-usage.ts';
import type { TrainingJobs } from '../training/ports.ts';
import { adapterInvalid, adapterUnavailable, conflict } from '../errors.ts';
import { adminRoute } from '../http/admin-route.ts';
import { parseInput, readBody, fail, type AppEnv } from '../http/request.ts';
import { PROOFS, type BackupLedger } from './d1-backup.ts';

interface BackupDeps {
  backups: BackupLedger;
  blobs: BlobStore;
  blobLedger: BlobLedger;
  uploadMemory: UploadMemoryLimit;
  gatherers: Pick<Gatherers, 'writeOut'>;
  trainingJobs: Pick<TrainingJobs, 'uncounted' | 'counted'>;
  usage: Pick<UsageLedger, 'add'>;
  now: () => number;
}

const operatorOnly: ApiError = {
  code: 'insufficient_scope',
  message: 'Only the bootstrap key may make and restore backups: they contain every tenant’s data.',
};
const RESTORED_PART = BACKUP_OPERATIONS['PUT /admin/backup/parts/:digest'].query;
const NOT_BEGUN = conflict(
  'No restore of this backup is in progress. Start one with POST /admin/backup/restore.',
  'id',
);

/** Backups, page by page, and restores into an empty registry. For the bootstrap key only. */
export function adminBackupRoutes(deps: BackupDeps): Hono<AppEnv> {
  const { backups, blobs, blobLedger } = deps;
  const routes = new Hono<AppEnv>();
  const partOf = async (digest: string, index: string): Promise<BlobRecord['parts'][number] | undefined> =>
    (await blobLedger.record(digest))?.parts[Number(index)];

  adminRoute(
    routes,
    'GET /admin/backup',
    async ({ context }) => {
      await deps.gatherers.writeOut();
      await countUsage(deps, null);
      return context.json(await backups.plan());
    },
    { operatorOnly },
  );

  adminRoute(
    routes,
    'GET /admin/backup/rows',
    async ({ context, query: { table, cursor = null } }) => {
      const page = table === PROOFS ? await proofsAfter(deps, cursor) : await backups.rows({ table, cursor });
      if (page === null)
        return fail({
          code: 'invalid_request',
          message: `Table '${table}' does not exist, or the cursor is invalid.`,
          param: 'table',
        });
      return context.json(page);
    },
    { operatorOnly },
  );

  adminRoute(
    routes,
    'POST /admin/backup/rows',
    async ({ context, request: { id, table, columns, rows } }) => {
      if (!(await backups.isBegun(id))) return fail(NOT_BEGUN);
      const problem =
        table === PROOFS ? await writeProofs(deps, rows) : await backups.write({ table, columns, rows });
      if (problem !== null) return fail({ code: 'invalid_request', message: problem, param: 'table' });
      return context.json({ rows: rows.length });
    },
    { operatorOnly },
  );

  adminRoute(
    routes,
    'POST /admin/backup/restore',
    async ({ context, request }) => {
      const begun = await backups.begin({ id: request.id, dryRun: request.dry_run === true });
      if (begun === 'full')
        return fail(conflict('This registry is not empty. Restore a backup into an empty registry.'));
      if (begun === 'used')
        return fail(
          conflict(
            'The database of usage (DB_USAGE) is not empty, and a restore would write over what it has counted. ' +
              'Bind an empty database as DB_USAGE.',
          ),
        );
      if (begun === 'other')
        return fail(conflict('Another backup is being restored here. Finish that restore first.'));
      return context.json({ resumed: begun === 'resumed' });
    },
    { operatorOnly },
  );

  adminRoute(
    routes,
    'POST /admin/backup/files',
    async ({ context, request: { id, digests } }) => {
      if (!(await backups.isBegun(id))) return fail(NOT_BEGUN);
      // The record is written last, because it implies that the parts exist. Bypasses the negative cache.
      const found = await Promise.all(digests.map((digest) => blobs.getRecord(digest, { fresh: true })));
      return context.json({ missing: digests.filter((_, at) => found[at] === null) });
    },
    { operatorOnly },
  );

  adminRoute(
    routes,
    'POST /admin/backup/end',
    async ({ context, request: { id } }) => {
      if (!(await backups.isBegun(id))) return fail(NOT_BEGUN);
      const tables = await backups.counts();
      await backups.end(id);
      // The row with that information was in upkeep.
      const rowsOf = (name: string, rows: number) => (name === 'upkeep' ? rows - 1 : rows);
      return context.json({ tables: tables.map(({ name, rows }) => ({ name, rows: rowsOf(name, rows) })) });
    },
    { operatorOnly },
  );

  adminRoute(
    routes,
    'GET /admin/backup/parts/:digest',
    async ({ params: { digest }, query: { index } }) => {
      const part = await partOf(digest, index);
      const bytes = part === undefined ? null : await blobs.getPart(digest, part.sha256);
      if (part === undefined || bytes === null)
        return fail(adapterUnavailable(`Part ${index} of ${digest} cannot be read.`));
      return new Response(bytes, {
        headers: { 'content-type': 'application/octet-stream', 'content-length': String(part.bytes) },
      });
    },
    { operatorOnly },
  );

  adminRoute(
    routes,
    'PUT /admin/backup/parts/:digest',
    async ({ context, caller: { tenant }, params: { digest } }) => {
      const request = context.req.raw;
      const holding = { tenant, kind: 'part' as const, bytes: MAX_PART_BYTES, signal: request.signal };
      const stored = await deps.uploadMemory.hold(holding, async (alive) => {
        const pace = { stallMs: PART_STALL_MS, deadlineMs: PART_DEADLINE_MS, now: deps.now, onChunk: alive };
        const body = await readBody(request, MAX_PART_BYTES, { pace });
        if (!body.ok) return body;
        const query = parseInput(RESTORED_PART, context.req.query());
        if (!query.ok) return query;
        const { index, restore } = query.value;
        if (!(await backups.isBegun(restore))) return { ok: false as const, error: NOT_BEGUN };
        const record = await blobLedger.record(digest);
        const part = record?.parts[Number(index)];
        if (record === null || part?.sha256 !== (await sha256Hex(body.value)))
          return {
            ok: false as const,
            error: adapterInvalid('part_mismatch', `This is not part ${index} of ${digest}.`),
          };
        await blobs.putPart(digest, part.sha256, body.value);
        if (Number(index) === record.parts.length - 1) await blobs.putRecord(digest, record);
        return { ok: true as const, value: null };
      });
      return stored.ok ? new Response(null, { status: 204 }) : fail(stored.error);
    },
    // Report an oversized body first, whatever the query is.
    { operatorOnly, ownQuery: true },
  );
  return routes;
}

const PROOF_COLUMNS = ['digest', 'sha256', 'proof'];
const ProofRows = z.array(z.tuple([Digest, Digest, z.string()]));

/** A read each. What is lost is left out. @returns null when the cursor is invalid. */
async function proofsAfter(
  { backups, blobs }: BackupDeps,
  cursor: string | null,
): Promise<BackupRows | null> {
  const page = await backups.proofs({ cursor, limit: REPAIR_PAGE });
  if (page === null) return null;
  const read = page.items.map(async ({ digest, proof }) => {
    const stream = await blobs.getPart(digest, proof);
    return stream === null ? [] : [[digest, proof, await new Response(stream).text()]];
  });
  return { columns: PROOF_COLUMNS, rows: (await Promise.all(read)).flat(), cursor: page.cursor };
}

/** @returns why not, when one is no version's. */
async function writeProofs(
  { blobs, blobLedger }: BackupDeps,
  given: readonly BackupRow[],
): Promise<string | null> {
  const rows = ProofRows.safeParse(given);
  if (!rows.success) return 'A row of proofs is invalid.';
  for (const [digest, sha256, text] of rows.data) {
    const bytes = new Uint8Array(new TextEncoder().encode(text));
    if ((await sha256Hex(bytes)) !== sha256 || !(await blobLedger.isProof(digest, sha256)))
      return `Proof ${sha256} belongs to no version that was restored.`;
    await blobs.putPart(digest, sha256, bytes);
  }
  return null;
}
