import { Hono } from 'hono';
import type { ApiError } from '../../protocol/api-error.ts';
import {
  FILE_PURPOSE,
  FileListQuery,
  MAX_FILE_PAGE,
  type FileDeleted,
  type FileList,
  type FileObject,
} from '../../protocol/files.ts';
import { registryUnavailable } from '../errors.ts';
import { carryThrough, fail, methodNotAllowed, parseInput, type AppEnv } from '../http/request.ts';
import { deleteBytes } from './delete-rows.ts';
import { pageOf } from './ids.ts';
import type { RowFile, RowParts } from './ports.ts';
import { receiveRows, type ReceiveDeps } from './receive-rows.ts';
import { requireTrainer, type TrainerDeps } from './require-trainer.ts';

export interface FileDeps extends ReceiveDeps, TrainerDeps {}

const FILES = '/v1/files';
const FILE = '/v1/files/:id';
const CONTENT = '/v1/files/:id/content';

const shown = ({ id, bytes, createdAt, expiresAt, filename }: RowFile): FileObject => ({
  id,
  object: 'file',
  bytes,
  created_at: Math.floor(createdAt / 1_000),
  expires_at: Math.floor(expiresAt / 1_000),
  filename,
  purpose: FILE_PURPOSE,
  status: 'processed',
});

/** The same for another tenant's: nobody learns that it exists. */
const NO_FILE: ApiError = {
  code: 'not_found',
  message: 'There is no such file. It may have been deleted, or have expired.',
};

/** `/v1/files`: files of rows for fine-tuning jobs, of the caller's tenant. */
export function fileRoutes(deps: FileDeps): Hono<AppEnv> {
  const { rowFiles, now } = deps;
  const routes = new Hono<AppEnv>();
  const known = requireTrainer(deps);

  routes.post(FILES, ...known, async (context) => {
    const caller = context.get('trainer');
    // A client that leaves must not keep what was stored from being deleted.
    const received = await carryThrough(context, () =>
      receiveRows(deps, { request: context.req.raw, caller }),
    );
    return received.ok ? context.json(shown(received.value)) : fail(received.error);
  });

  routes.get(FILES, ...known, async (context) => {
    const query = parseInput(FileListQuery, context.req.query());
    if (!query.ok) return fail(query.error);
    const { after, limit, order, purpose } = query.value;
    const most = Math.min(Number(limit ?? MAX_FILE_PAGE), MAX_FILE_PAGE);
    const found =
      purpose !== undefined && purpose !== FILE_PURPOSE
        ? []
        : await rowFiles.list({
            tenant: context.get('trainer').tenant,
            after: after ?? null,
            newestFirst: order !== 'asc',
            limit: most + 1,
            now: now(),
          });
    return context.json(pageOf(found.map(shown), most) satisfies FileList);
  });
  routes.all(FILES, methodNotAllowed('GET or POST'));

  routes.get(FILE, ...known, async (context) => {
    const { tenant } = context.get('trainer');
    const file = await rowFiles.get({ id: context.req.param('id'), tenant, now: now() });
    return file === null ? fail(NO_FILE) : context.json(shown(file));
  });

  routes.delete(FILE, ...known, async (context) => {
    const { tenant } = context.get('trainer');
    const going = await rowFiles.remove({ id: context.req.param('id'), tenant, at: now() });
    if (going === null) return fail(NO_FILE);
    await carryThrough(context, () => deleteBytes(deps, going));
    return context.json({ id: going.id, object: 'file', deleted: true } satisfies FileDeleted);
  });
  routes.all(FILE, methodNotAllowed('GET or DELETE'));

  routes.get(CONTENT, ...known, async (context) => {
    const { tenant } = context.get('trainer');
    const file = await rowFiles.get({ id: context.req.param('id'), tenant, now: now() });
    if (file === null) return fail(NO_FILE);
    const first = await deps.rowParts.get({ tenant, file: file.id, part: 0 });
    if (first === null) return fail(NOT_READABLE);
    return new Response(contentOf(deps.rowParts, file, first), {
      headers: { 'content-type': 'application/octet-stream', 'content-length': String(file.bytes) },
    });
  });
  routes.all(CONTENT, methodNotAllowed('GET'));
  return routes;
}

const NOT_READABLE = registryUnavailable(
  undefined,
  'The store does not have the file yet. Retry in a minute; if it lasts, send the file again.',
);

/** Part by part, as it is read. */
function contentOf(
  rowParts: RowParts,
  { id: file, tenant, parts }: RowFile,
  first: Uint8Array<ArrayBuffer>,
): ReadableStream<Uint8Array> {
  let part = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const bytes = part === 0 ? first : await rowParts.get({ tenant, file, part });
        if (bytes === null) throw new Error('a part is missing');
        controller.enqueue(bytes);
        part += 1;
        if (part === parts) controller.close();
      },
    },
    // Otherwise a part is read before anybody asks for it.
    { highWaterMark: 0 },
  );
}
