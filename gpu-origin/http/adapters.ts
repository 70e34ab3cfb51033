import type { Context } from 'hono';
import { z } from 'zod';
import { BlobRecord } from '../../protocol/adapter-manifest.ts';
import { type ApiError, errorBody, errorResponse } from '../../protocol/api-error.ts';
import { type ChainEntry, Digest, Tenant } from '../../protocol/identity.ts';
import { MAX_PART_BYTES } from '../../protocol/limits.ts';
import {
  type DropAnswer,
  DropRequest,
  EvaluateRequest,
  KeepPinsRequest,
  type LoadAnswer,
  PinRequest,
  PrefetchRequest,
  type ResidentList,
  VerifyRequest,
} from '../../protocol/origin-wire.ts';
import { evaluateAdapter, verifyAdapter } from '../trials/verify-adapter.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import { OWN_TENANT, parseBody } from './read-request.ts';

/** `GET /adapters` */
export const listAdapters = (services: Services): Response => Response.json(services.engine.residents());

/** `PUT /adapters/<digest>`: 201 if parts are missing (the body lists them), 200 if the file is complete. */
export async function declareAdapter(c: Context<OriginEnv>, services: Services): Promise<Response> {
  const digest = digestOf(c);
  if (digest === null) return errorResponse(BAD_DIGEST);
  const record = parseBody(c, BlobRecord);
  if (!record.ok) return errorResponse(record.error);
  const declared = await services.files.declare(digest, record.value);
  if (!declared.ok) return errorResponse(declared.error);
  const { held, missingParts } = declared.value;
  return Response.json({ digest, held, missing_parts: missingParts }, { status: held ? 200 : 201 });
}

/**
 * `PUT /adapters/<digest>/parts/<i>`: 204 stored, 200 stored before, 202 being received from another request.
 */
export async function receiveAdapterPart(c: Context<OriginEnv>, services: Services): Promise<Response> {
  const digest = digestOf(c);
  if (digest === null) return errorResponse(BAD_DIGEST);
  const index = Number(c.req.param('part'));
  const { files } = services;
  if ((await files.status(digest)) === 'held') return new Response(null, { status: 200 });
  const part = files.part(digest, index);
  if (part === null)
    return errorResponse({ code: 'not_found', message: `Part ${index} of ${digest} was not announced.` });
  if (c.var.bodyHash !== null && c.var.bodyHash !== part.sha256)
    return errorResponse({
      code: 'invalid_signature',
      message: `The signature is not valid for part ${index}.`,
      reason: 'mismatch',
    });
  const announced = c.req.header('content-length');
  if (announced !== undefined && Number(announced) !== part.bytes)
    return errorResponse({
      code: 'adapter_invalid',
      message: `Part ${index} has ${part.bytes} bytes; the request has ${Number(announced)}.`,
      reason: 'part_wrong_length',
      param: String(index),
    });
  const body = (c.req.raw.body ??
    new ReadableStream({ start: (s) => s.close() })) as unknown as AsyncIterable<Uint8Array>;
  const put = await files.putPart(digest, index, body);
  if (!put.ok) return errorResponse(put.error);
  return new Response(null, { status: { stored: 204, held: 200, receiving: 202 }[put.value] });
}

const Offset = z
  .string()
  .regex(/^\d{1,12}$/)
  .transform(Number);
const Slice = z
  .strictObject({ begin: Offset, end: Offset })
  .refine(({ begin, end }) => begin < end && end - begin <= MAX_PART_BYTES);

/**
 * `GET /adapters/<digest>/file?begin=&end=`: at most one part of a stored file, for an edge whose store has
 * lost it, and which verifies the part's hash. 404 if the file is not stored.
 */
export async function giveFile(c: Context<OriginEnv>, services: Services): Promise<Response> {
  const digest = digestOf(c);
  if (digest === null) return errorResponse(BAD_DIGEST);
  const slice = Slice.safeParse(c.req.query());
  if (!slice.success)
    return errorResponse({
      code: 'invalid_request',
      message: `'begin' and 'end' must span at most ${MAX_PART_BYTES} bytes of the file.`,
      param: 'begin',
    });
  const bytes = await services.files.slice(digest, slice.data.begin, slice.data.end);
  if (bytes === null)
    return errorResponse({ code: 'not_found', message: `This origin does not have the file ${digest}.` });
  return new Response(bytes, { headers: { 'content-type': 'application/octet-stream' } });
}

/**
 * `POST /adapters/drop` {@link DropRequest} -> {@link DropAnswer}: deletes files from disk, and jobs' copies of them,
 * and unloads their adapters.
 */
export async function dropAdapters(
  c: Context<OriginEnv>,
  { jobs }: Pick<OriginContext, 'jobs'>,
  { files, engine }: Services,
): Promise<Response> {
  const body = parseBody(c, DropRequest);
  if (!body.ok) return errorResponse(body.error);
  const digests = new Set(body.value.digests);
  let held = 0;
  // Files first, so that a concurrent load cannot find them.
  for (const digest of digests) if (await files.drop(digest)) held += 1;
  await jobs?.dropAdapters(digests);
  const inUse = await engine.drop(digests);
  return Response.json({ files: held, in_use: inUse } satisfies DropAnswer);
}

/**
 * `POST /adapters/<digest>/verify?tenant=<tenant whose share it uses>`, body empty or {@link VerifyRequest}.
 */
export async function handleVerify(
  c: Context<OriginEnv>,
  { metrics }: Pick<OriginContext, 'metrics'>,
  services: Services,
): Promise<Response> {
  const digest = digestOf(c);
  if (digest === null) return errorResponse(BAD_DIGEST);
  const body = c.var.body.length === 0 ? { ok: true as const, value: {} } : parseBody(c, VerifyRequest);
  if (!body.ok) return errorResponse(body.error);
  const { chain, expected }: VerifyRequest = body.value;
  const members = chainOf(digest, chain);
  if (members === null) return errorResponse(OTHER_CHAIN);
  const letGo = services.files.keep(members.map((member) => member.digest));
  const verified = await verifyAdapter({
    services,
    requestId: c.var.requestId,
    tenant: tenantOf(c.req.query('tenant')),
    chain: members,
    expected: expected ?? null,
    signal: c.req.raw.signal,
  }).finally(letGo);
  if (verified.ok) metrics.onClipped(verified.value.kv?.clipped ?? 0);
  return verified.ok ? Response.json({ digest, ...verified.value }) : errorResponse(verified.error);
}

/** `POST /adapters/<digest>/evaluate` {@link EvaluateRequest} -> `{rows}`, in the request's order. */
export async function handleEvaluate(
  c: Context<OriginEnv>,
  context: OriginContext,
  services: Services,
): Promise<Response> {
  const digest = digestOf(c);
  if (digest === null) return errorResponse(BAD_DIGEST);
  const body = parseBody(c, EvaluateRequest);
  if (!body.ok) return errorResponse(body.error);
  const { chain, tenant, budget_ms: budgetMs, rows } = body.value;
  const members = chainOf(digest, chain);
  if (members === null) return errorResponse(OTHER_CHAIN);
  const letGo = services.files.keep(members.map((member) => member.digest));
  const scored = await evaluateAdapter({
    services,
    requestId: c.var.requestId,
    tenant: tenant ?? OWN_TENANT,
    chain: members,
    rows,
    budgetMs: budgetMs ?? null,
    now: context.now,
    signal: c.req.raw.signal,
  }).finally(letGo);
  return scored.ok ? Response.json({ rows: scored.value }) : errorResponse(scored.error);
}

const BAD_DIGEST: ApiError = {
  code: 'invalid_request',
  message: 'A digest is 64 lower-case hex digits.',
  param: 'digest',
};

const OTHER_CHAIN: ApiError = {
  code: 'invalid_request',
  message: 'The chain does not end with the adapter in the path.',
  param: 'chain',
};

/** @returns the chain to run; null if it does not end with the adapter. */
function chainOf(digest: string, chain: readonly ChainEntry[] | undefined): readonly ChainEntry[] | null {
  if (chain === undefined) return [{ digest, scale: 1 }];
  return chain.at(-1)?.digest === digest ? chain : null;
}

const tenantOf = (given: string | undefined): string => Tenant.safeParse(given).data ?? OWN_TENANT;

function digestOf(c: Context<OriginEnv>): string | null {
  const parsed = Digest.safeParse(c.req.param('digest'));
  return parsed.success ? parsed.data : null;
}

/**
 * `POST /adapters/pins` {@link PinRequest}: loads adapters and keeps them in memory until a `PUT` omits them.
 * 409 `adapter_missing` or `adapter_loading` before anything happens, so that the edge copies them as for a
 * completion; then 200 `{results: [{digest, ok, error?}]}` when each is ready or has failed.
 */
export async function pinAdapters(c: Context<OriginEnv>, services: Services): Promise<Response> {
  const body = parseBody(c, PinRequest);
  if (!body.ok) return errorResponse(body.error);
  return load(services, body.value.digests, true);
}

/**
 * `POST /adapters/prefetch` {@link PrefetchRequest}: the same without a pin. `{results: []}` if it should
 * replace an adapter that is not in memory.
 */
export async function prefetchAdapters(c: Context<OriginEnv>, services: Services): Promise<Response> {
  const body = parseBody(c, PrefetchRequest);
  if (!body.ok) return errorResponse(body.error);
  const { digests, if_resident: instead } = body.value;
  const isResident = ({ digest, state }: ResidentList['adapters'][number]) =>
    digest === instead && state === 'ready';
  if (instead !== undefined && !services.engine.residents().adapters.some(isResident))
    return Response.json({ results: [] } satisfies LoadAnswer);
  const loaded = await load(services, digests, false);
  if (loaded.ok) c.var.pool?.loaded(digests.map((digest) => ({ digest })));
  return loaded;
}

async function load({ engine }: Services, digests: readonly string[], pinned: boolean): Promise<Response> {
  const refusal = await engine.check(digests);
  if (refusal !== null) return errorResponse(refusal);
  const results = await Promise.all(
    digests.map(async (digest) => {
      const loaded = await engine.prefetch(digest, { pinned });
      return { digest, ok: loaded.ok, ...(loaded.ok ? {} : errorBody(loaded.error)) };
    }),
  );
  return Response.json({ results } satisfies LoadAnswer);
}

/**
 * `PUT /adapters/pins` {@link KeepPinsRequest} -> `{unpinned}`: how many other adapters were unpinned. Loads
 * nothing.
 */
export function keepPins(c: Context<OriginEnv>, services: Services): Response {
  const body = parseBody(c, KeepPinsRequest);
  if (!body.ok) return errorResponse(body.error);
  return Response.json({ unpinned: services.engine.keepPinned(new Set(body.value.digests)) });
}
