/** Fine-tuning jobs over HTTP: what edges ask of an origin that trains, and the answers of one that does not. */
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import type { Context } from 'hono';
import { z } from 'zod';
import { type ApiError, errorResponse, type Result } from '../../protocol/api-error.ts';
import { sha256Hex } from '../../protocol/identity.ts';
import { JobDeclaration, type JobList, type JobReport, TrainingJobId } from '../../protocol/training-jobs.ts';
import type { Jobs } from '../jobs/jobs.ts';
import type { OriginContext, OriginEnv } from './origin-context.ts';
import { parseBody, readBody } from './read-request.ts';

/** Parts of a job's rows: this route reads the body itself, which is larger than others'. */
export const ROWS_PART_ROUTE = /^\/jobs\/[^/]+\/parts\/[^/]+$/;

type JobHandler = (c: Context<OriginEnv>, jobs: Jobs, id: TrainingJobId) => Response | Promise<Response>;

/** `GET /jobs` -> {@link JobList} */
export const listJobs = ({ jobs }: OriginContext): Response =>
  Response.json(jobs?.list() ?? ({ trains: false, jobs: [] } satisfies JobList));

/** @param absent answer of an origin that does not train; default: 404. */
const ofJob =
  (handler: JobHandler, absent?: () => Response) =>
  (c: Context<OriginEnv>, { jobs }: OriginContext): Response | Promise<Response> => {
    const id = TrainingJobId.safeParse(c.req.param('id'));
    if (!id.success) return errorResponse(BAD_ID);
    if (jobs != null) return handler(c, jobs, id.data);
    return absent?.() ?? errorResponse(DOES_NOT_TRAIN);
  };

const BAD_ID: ApiError = {
  code: 'invalid_request',
  message: "A job's id is ftjob- and 24 lower-case letters or digits.",
  param: 'id',
};
const DOES_NOT_TRAIN: ApiError = {
  code: 'not_found',
  message: 'This origin does not train. Start it with --train, or ask another.',
};

const reported = (report: Result<JobReport, ApiError>): Response =>
  report.ok ? Response.json(report.value) : errorResponse(report.error);

/** `PUT /jobs/<id>` {@link JobDeclaration} -> {@link JobReport} */
export const declareJob = ofJob(async (c, jobs, id) => {
  const body = parseBody(c, JobDeclaration);
  return body.ok ? reported(await jobs.declare(id, body.value)) : errorResponse(body.error);
});

/** `PUT /jobs/<id>/parts/<n>`, bytes -> {@link JobReport} */
export const receiveRows = ofJob(async (c, jobs, id) => {
  const part = Number(c.req.param('part'));
  const wanted = jobs.partBytes(id, part);
  if (wanted === null)
    return errorResponse({ code: 'not_found', message: `Part ${part} of ${id} was not announced.` });
  const body = await readBody(c.req.raw, wanted);
  if (!body.ok) return errorResponse(body.error);
  const { bodyHash } = c.var;
  if (bodyHash !== null && (await sha256Hex(body.value)) !== bodyHash)
    return errorResponse({
      code: 'invalid_signature',
      message: 'The body is not the one that was signed.',
      reason: 'mismatch',
    });
  return reported(await jobs.putPart(id, part, body.value));
});

const EventNumber = z
  .string()
  .regex(/^\d{1,9}$/)
  .transform(Number);

/** `GET /jobs/<id>?after=<number>` -> {@link JobReport} */
export const reportJob = ofJob(async (c, jobs, id) => {
  const after = EventNumber.safeParse(c.req.query('after') ?? '0');
  if (after.success) return reported(await jobs.report(id, after.data));
  return errorResponse({
    code: 'invalid_request',
    message: "'after' is the number of an event.",
    param: 'after',
  });
});

/** `POST /jobs/<id>/pause` -> {@link JobReport}; a running training saves a checkpoint and ends soon afterwards. */
export const pauseJob = ofJob(async (_c, jobs, id) => reported(await jobs.pause(id)));

/** `POST /jobs/<id>/resume` -> {@link JobReport} */
export const resumeJob = ofJob(async (_c, jobs, id) => reported(await jobs.resume(id)));

/** `DELETE /jobs/<id>` -> `JobDeletion`, when nothing of it is left. */
export const deleteJob = ofJob(
  async (_c, jobs, id) => Response.json({ deleted: await jobs.remove(id) }),
  // It has removed what an earlier start left.
  () => Response.json({ deleted: false }),
);

const Offset = z
  .string()
  .regex(/^\d{1,12}$/)
  .transform(Number);
const Slice = z.strictObject({ begin: Offset, end: Offset }).refine(({ begin, end }) => begin < end);

/** `GET /jobs/<id>/result`, with `?begin=&end=` a part of it: the packed adapter; with `?step=` that of a checkpoint. */
export const giveResult = ofJob((c, jobs, id) => {
  const step = Offset.optional().safeParse(c.req.query('step'));
  const result = step.success ? jobs.result(id, step.data) : null;
  if (result === null)
    return errorResponse({ code: 'not_found', message: 'This origin has no result of such a job.' });
  const { begin, end } = c.req.query();
  const slice = Slice.safeParse({ begin: begin ?? '0', end: end ?? String(result.bytes) });
  if (!slice.success || slice.data.end > result.bytes)
    return errorResponse({
      code: 'invalid_request',
      message: `'begin' and 'end' must lie within the ${result.bytes} bytes of the result.`,
      param: 'begin',
    });
  const { begin: first, end: after } = slice.data;
  const file = createReadStream(result.path, { start: first, end: after - 1 });
  return new Response(Readable.toWeb(file) as ReadableStream<Uint8Array<ArrayBuffer>>, {
    headers: { 'content-type': 'application/octet-stream', 'content-length': String(after - first) },
  });
});
