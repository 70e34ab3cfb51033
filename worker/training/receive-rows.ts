/** Takes in a file of rows as it arrives: in parts, each stored encrypted, so that no more than one is in memory. */
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { FILE_LIFE_S, FILE_PURPOSE } from '../../protocol/files.ts';
import { MAX_FILE_ROWS, MAX_ROWS_FILE_BYTES, ROWS_PART_BYTES } from '../../protocol/training-jobs.ts';
import type { AdminCaller } from '../access/ports.ts';
import { PART_STALL_MS } from '../blobs/limits.ts';
import type { UploadMemoryLimit } from '../blobs/upload-memory-limit.ts';
import { announcedLength } from '../http/request.ts';
import type { Sha256 } from '../platform/ports.ts';
import { withTimeout } from '../platform/store-calls.ts';
import { createFormReader, formBoundary, MalformedForm, type FormPart } from './form-reader.ts';
import { newId } from './ids.ts';
import {
  MAX_FILENAME_CHARACTERS,
  MAX_FORM_BYTES,
  MAX_FORM_FIELD_BYTES,
  UPLOAD_DEADLINE_MS,
  UPLOAD_HELD_BYTES,
} from './limits.ts';
import type { RowFile, RowFiles, RowParts } from './ports.ts';

export interface ReceiveDeps {
  rowFiles: RowFiles;
  rowParts: RowParts;
  uploadMemory: UploadMemoryLimit;
  createSha256: () => Sha256;
  /** Unix ms. */
  now: () => number;
}

/** Why the file is not taken in, from wherever that turns out. */
class Refused extends Error {
  override readonly name = 'Refused';
  readonly error: ApiError;

  constructor(error: ApiError) {
    super(error.message);
    this.error = error;
  }
}

const invalid = (message: string, param: string | null = null): ApiError => ({
  code: 'invalid_request',
  message,
  param,
});

const TOO_LARGE: ApiError = {
  code: 'request_too_large',
  message: `The file is larger than ${MAX_ROWS_FILE_BYTES} bytes.`,
};

const NO_FORM = invalid('Send the file as multipart/form-data, with the fields `file` and `purpose`.');

const NO_ROOM: ApiError = {
  code: 'insufficient_quota',
  message:
    "This tenant's files have no room for this one: together they have at most 1 GiB, and are at most 1,000. " +
    'Delete some of them.',
};

const ENDED: ApiError = {
  code: 'not_found',
  message: 'The file was erased while it arrived.',
};

const FIELDS = ['purpose', 'expires_after[anchor]', 'expires_after[seconds]'];

/** A body that is not taken in is read on up to here: many clients see an answer only after they have sent everything. */
const MOST_READ_BYTES = 4 * MAX_FORM_BYTES;

/** @throws StoreUnavailable */
export async function receiveRows(
  deps: ReceiveDeps,
  { request, caller }: { request: Request; caller: AdminCaller },
): Promise<Result<RowFile, ApiError>> {
  const { tenant } = caller;
  const announced = announcedLength(request);
  if ((announced ?? 0) > MAX_FORM_BYTES) return err(TOO_LARGE);
  const boundary = formBoundary(request.headers.get('content-type'));
  const { body } = request;
  if (boundary === null || body === null) return err(NO_FORM);
  const holding = { tenant, kind: 'part' as const, bytes: UPLOAD_HELD_BYTES, signal: request.signal };
  return deps.uploadMemory.hold(holding, async (alive) => {
    const at = deps.now();
    const id = newId('file', at);
    const bytes = Math.min(announced ?? MAX_ROWS_FILE_BYTES, MAX_ROWS_FILE_BYTES);
    const expiresAt = at + FILE_LIFE_S.most * 1_000;
    const begun = await deps.rowFiles.begin({ id, tenant, keyId: caller.keyId, bytes, at, expiresAt });
    if (!begun) return err(NO_ROOM);
    const incoming = createIncoming(deps, { id, tenant, expiresAt });
    try {
      await readForm({ body, boundary, alive, now: deps.now }, incoming);
      return ok(await incoming.finish(at));
    } catch (error) {
      await discard(deps, { id, tenant, parts: incoming.parts() });
      if (error instanceof Refused) return err(error.error);
      if (error instanceof MalformedForm) return err(invalid(`The form is malformed: ${error.message}.`));
      throw error;
    }
  });
}

/** Also what was stored after it was erased. */
async function discard(
  { rowFiles, rowParts, now }: ReceiveDeps,
  { id, tenant, parts }: { id: string; tenant: string; parts: number },
): Promise<void> {
  await rowFiles.remove({ id, tenant, state: 'receiving', at: now() });
  await rowParts.delete(id, parts);
  await rowFiles.gone([id]);
}

/** @throws Refused, MalformedForm, StoreUnavailable */
async function readForm(
  form: { body: ReadableStream; boundary: string; alive: () => void; now: () => number },
  incoming: ReturnType<typeof createIncoming>,
): Promise<void> {
  const { boundary, alive, now } = form;
  const reader = createFormReader(boundary, incoming);
  const until = now() + UPLOAD_DEADLINE_MS;
  const source = (form.body as ReadableStream<Uint8Array<ArrayBuffer>>).getReader();
  let size = 0;
  let failure: Error | null = null;
  for (;;) {
    const read = await withTimeout(
      source.read().catch(() => 'cut' as const),
      PART_STALL_MS,
      () => 'late' as const,
    );
    if (read === 'cut') throw failure ?? new Refused(invalid('The body was cut off.'));
    if (read === 'late' || now() > until) {
      void source.cancel().catch(() => undefined);
      throw new Refused({ code: 'deadline_exceeded', message: 'The body arrived too slowly.' });
    }
    if (read.done) break;
    alive();
    size += read.value.length;
    if (size > MAX_FORM_BYTES) failure = new Refused(TOO_LARGE);
    if (size > MOST_READ_BYTES) {
      void source.cancel().catch(() => undefined);
      break;
    }
    if (failure !== null) continue;
    try {
      await reader.push(read.value);
    } catch (error) {
      if (!(error instanceof Refused || error instanceof MalformedForm)) {
        void source.cancel().catch(() => undefined);
        throw error;
      }
      failure = error;
    }
  }
  if (failure !== null) throw failure;
  if (!reader.ended) throw new MalformedForm('it has no end');
}

/** What has arrived of a form. */
function createIncoming(
  { rowFiles, rowParts, createSha256, now }: ReceiveDeps,
  { id, tenant, expiresAt }: { id: string; tenant: string; expiresAt: number },
) {
  const fields = new Map<string, string>();
  const hash = createSha256();
  const decoder = new TextDecoder();
  let current: FormPart | null = null;
  let filename: string | null = null;
  const part = new Uint8Array(ROWS_PART_BYTES);
  /** Of `part` that is not stored. */
  let filled = 0;
  let parts = 0;
  let bytes = 0;
  let lines = 0;
  let isBlank = true;

  async function store(): Promise<void> {
    const place = { tenant, file: id, part: parts };
    parts += 1;
    if (!(await rowFiles.grow({ id, parts, at: now() }))) throw new Refused(ENDED);
    await rowParts.put(place, part.subarray(0, filled), expiresAt);
    filled = 0;
  }

  function countLines(chunk: Uint8Array): void {
    for (const byte of chunk) {
      if (byte === LF) isBlank = true;
      else if (isBlank && byte !== SPACE && byte !== TAB && byte !== CR) {
        isBlank = false;
        lines += 1;
      }
    }
    if (lines > MAX_FILE_ROWS)
      throw new Refused(invalid(`The file has more than ${MAX_FILE_ROWS} rows.`, 'file'));
  }

  async function addRows(chunk: Uint8Array<ArrayBuffer>): Promise<void> {
    bytes += chunk.length;
    if (bytes > MAX_ROWS_FILE_BYTES) throw new Refused(TOO_LARGE);
    countLines(chunk);
    await hash.update(chunk);
    for (let at = 0; at < chunk.length;) {
      const taken = Math.min(chunk.length - at, ROWS_PART_BYTES - filled);
      part.set(chunk.subarray(at, at + taken), filled);
      filled += taken;
      at += taken;
      if (filled === ROWS_PART_BYTES) await store();
    }
  }

  return {
    /** That may be stored. */
    parts: () => parts,

    part(next: FormPart): void {
      current = next;
      const { name } = next;
      if (name === 'file') {
        if (filename !== null) throw new Refused(invalid("The form has two fields 'file'.", 'file'));
        if (next.filename === null)
          throw new Refused(invalid("The field 'file' must be a file, with a file name.", 'file'));
        filename = shownName(next.filename);
      } else if (!FIELDS.includes(name))
        throw new Refused({
          code: 'unsupported_parameter',
          message: `Unknown field '${shownName(name)}'. Send file, purpose and expires_after.`,
          param: shownName(name),
        });
      else if (fields.has(name)) throw new Refused(invalid(`The form has two fields '${name}'.`, name));
      else fields.set(name, '');
    },

    async data(chunk: Uint8Array<ArrayBuffer>): Promise<void> {
      const name = current?.name ?? '';
      if (name === 'file') return addRows(chunk);
      const value = (fields.get(name) ?? '') + decoder.decode(chunk);
      if (value.length > MAX_FORM_FIELD_BYTES)
        throw new Refused(invalid(`The field '${name}' is too long.`, name));
      fields.set(name, value);
    },

    /** @param createdAt unix ms. @throws Refused */
    async finish(createdAt: number): Promise<RowFile> {
      if (filename === null) throw new Refused(invalid("The field 'file' is missing.", 'file'));
      const purpose = fields.get('purpose');
      if (purpose !== FILE_PURPOSE)
        throw new Refused(
          invalid(`'purpose' must be '${FILE_PURPOSE}', the only purpose of files here.`, 'purpose'),
        );
      const ends = createdAt + lifeOf(fields) * 1_000;
      if (lines === 0) throw new Refused(invalid('The file has no rows.', 'file'));
      if (filled > 0) await store();
      const file = { id, tenant, filename, bytes, lines, parts, sha256: await hash.digest() };
      if (!(await rowFiles.finish({ ...file, expiresAt: ends }))) throw new Refused(ENDED);
      return { ...file, createdAt, expiresAt: ends };
    },
  };
}

const LF = 10;
const CR = 13;
const TAB = 9;
const SPACE = 32;

/** Printable, without what would break out of a line, and not too long. */
const shownName = (text: string): string =>
  text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '').slice(0, MAX_FILENAME_CHARACTERS);

/** @returns seconds. @throws Refused */
function lifeOf(fields: ReadonlyMap<string, string>): number {
  const anchor = fields.get('expires_after[anchor]');
  const wanted = fields.get('expires_after[seconds]');
  const { least, most } = FILE_LIFE_S;
  if (anchor === undefined && wanted === undefined) return most;
  if (anchor !== 'created_at')
    throw new Refused(invalid("'expires_after[anchor]' must be 'created_at'.", 'expires_after[anchor]'));
  const seconds = /^\d{1,9}$/.test(wanted ?? '') ? Number(wanted) : 0;
  if (seconds < least || seconds > most)
    throw new Refused(
      invalid(`'expires_after[seconds]' must be from ${least} to ${most}.`, 'expires_after[seconds]'),
    );
  return seconds;
}
