import { withTimeout } from '../platform/store-calls.ts';
import { MAX_ADMIN_BODY_BYTES } from '../../protocol/admin-api/operation.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { badShape } from '../../protocol/parse-body.ts';
import type { z } from 'zod';

const tooLarge = (limit: number): Result<never, ApiError> =>
  err({ code: 'request_too_large', message: `The body is larger than ${limit} bytes.` });

/**
 * Bodies up to this many times too large are read and dropped: many clients see an answer only after they have
 * sent everything.
 */
const DRAIN_FACTOR = 4;

/** @returns the announced length of the body, bytes; null without one. */
export function announcedLength(request: Request): number | null {
  const announced = request.headers.get('content-length');
  return announced !== null && /^\d{1,15}$/.test(announced) ? Number(announced) : null;
}

/** Limits on how a large body may arrive. */
export interface BodyPace {
  /** Longest silence, and longest total time, ms. */
  stallMs: number;
  deadlineMs: number;
  now: () => number;
  /** Called for every chunk. */
  onChunk: () => void;
}

/** A check for bodies that turn out to be large. */
export interface LargeBody {
  /** Bytes. */
  from: number;
  /**
   * @returns a function called with the byte count when the body is complete; a refusal is the answer, and the
   * rest is dropped.
   */
  enter: () => Promise<Result<(bytes: number) => void, ApiError>>;
}

/**
 * Reads a body of at most `limit` bytes, whether or not its length was announced. Holds at most the body, or
 * `limit` if its length is unknown.
 * @param how.pace absent: unlimited.
 */
export async function readBody(
  request: Request,
  limit: number,
  { pace, large }: { pace?: BodyPace; large?: LargeBody } = {},
): Promise<Result<Uint8Array<ArrayBuffer>, ApiError>> {
  const announced = announcedLength(request);
  if ((announced ?? 0) > limit * DRAIN_FACTOR) return tooLarge(limit);
  if (request.body === null) return ok(new Uint8Array(0));
  let body = new Uint8Array(Math.min(announced ?? (pace === undefined ? FIRST_BYTES : limit), limit));
  let size = 0;
  const until = pace === undefined ? Infinity : pace.now() + pace.deadlineMs;
  let entered: Result<(bytes: number) => void, ApiError> | undefined;
  const reader = readerOf(request.body as ReadableStream<Uint8Array<ArrayBuffer>>, pace !== undefined);
  try {
    for (let ended = false; !ended;) {
      const read =
        pace === undefined
          ? await reader.read()
          : await withTimeout(reader.read(), pace.stallMs, () => 'late' as const);
      if (read === 'late' || (pace !== undefined && pace.now() > until)) {
        void reader.cancel().catch(() => undefined);
        return err({ code: 'deadline_exceeded', message: 'The body arrived too slowly.' });
      }
      ended = read.done;
      // The last bytes may come with the end.
      if (read.value === undefined) break;
      pace?.onChunk();
      const start = size;
      size += read.value.length;
      if (size > limit * DRAIN_FACTOR) break;
      if (large !== undefined && size > large.from) entered ??= await large.enter();
      // Bodies that are too large or refused are read on, and dropped.
      if (size > limit || entered?.ok === false) continue;
      if (size > body.length) body = grown(body, start, Math.min(limit, Math.max(size, 2 * body.length)));
      body.set(read.value, start);
    }
  } catch {
    // The client disconnected, or sent invalid chunks: not a bug here, and usually nobody reads this.
    return err({ code: 'invalid_request', message: 'The body was cut off.', param: null });
  } finally {
    if (entered?.ok === true) entered.value(size);
  }
  if (entered?.ok === false) return entered;
  if (size <= limit) return ok(body.subarray(0, size));
  if (size > limit * DRAIN_FACTOR) void reader.cancel().catch(() => undefined);
  return tooLarge(limit);
}

/**
 * Bytes that one read of a large body waits for. workerd returns 4 KiB at a time unless told otherwise, which
 * takes 5 ms of its only thread per MiB instead of one.
 */
const READ_BYTES = 64 * 1024;

interface BodyReader {
  read(): Promise<{ done: boolean; value?: Uint8Array<ArrayBuffer> | undefined }>;
  cancel(): Promise<void>;
}

/** @param inLargePieces in workerd: other platforms' streams have no `readAtLeast`. */
function readerOf(body: ReadableStream<Uint8Array<ArrayBuffer>>, inLargePieces: boolean): BodyReader {
  const bytes = inLargePieces ? byteReaderOf(body) : null;
  if (bytes === null) return body.getReader();
  let room = new Uint8Array(READ_BYTES);
  return {
    async read() {
      const { done, value } = await bytes.readAtLeast(READ_BYTES, room);
      // The read returns its memory.
      if (value !== undefined) room = new Uint8Array(value.buffer);
      return { done, value: value?.length === 0 ? undefined : value };
    },
    cancel: () => bytes.cancel(),
  };
}

/** Workers' own: reads until `minBytes` have arrived, or the body ends. */
interface ByteReader {
  readAtLeast(
    minBytes: number,
    room: Uint8Array<ArrayBuffer>,
  ): Promise<{ done: boolean; value?: Uint8Array<ArrayBuffer> | undefined }>;
  cancel(): Promise<void>;
}

function byteReaderOf(body: ReadableStream): ByteReader | null {
  if (!('readAtLeast' in ReadableStreamBYOBReader.prototype)) return null;
  return body.getReader({ mode: 'byob' }) as unknown as ByteReader;
}

/** Initial buffer for a body of unknown length. */
const FIRST_BYTES = 16 * 1024;

function grown(body: Uint8Array<ArrayBuffer>, filled: number, length: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(length);
  larger.set(body.subarray(0, filled));
  return larger;
}

/** @param how.whenEmpty replacement for a missing body, if it may be omitted. */
export async function readJson(
  request: Request,
  limit: number,
  { whenEmpty, large }: { whenEmpty?: object; large?: LargeBody } = {},
): Promise<Result<unknown, ApiError>> {
  const body = await readBody(request, limit, large === undefined ? {} : { large });
  if (!body.ok) return body;
  if (body.value.length === 0 && whenEmpty !== undefined) return ok(whenEmpty);
  const message = badShape(body.value);
  if (message !== null) return err({ code: 'invalid_request', message, param: null });
  try {
    return ok(
      JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(body.value)) as unknown,
    );
  } catch {
    return err({ code: 'invalid_request', message: 'The body is not valid JSON in UTF-8.', param: null });
  }
}

export function parseInput<T>(schema: z.ZodType<T>, value: unknown): Result<T, ApiError> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const param = [...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])].map(String).join('.');
  return err({
    code: 'invalid_request',
    message:
      param === '' ? `Invalid input: ${issue?.message}.` : `Invalid value for '${param}': ${issue?.message}.`,
    param: param === '' ? null : param,
  });
}

/** JSON body of a request. @param how.mayBeEmpty a missing body stands for an empty object. */
export async function readInput<T>(
  request: Request,
  schema: z.ZodType<T>,
  { maxBytes = MAX_ADMIN_BODY_BYTES, mayBeEmpty = false }: { maxBytes?: number; mayBeEmpty?: boolean } = {},
): Promise<Result<T, ApiError>> {
  const json = await readJson(request, maxBytes, mayBeEmpty ? { whenEmpty: {} } : {});
  return json.ok ? parseInput(schema, json.value) : json;
}
