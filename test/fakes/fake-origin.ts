import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BlobRecord } from '../../protocol/adapter-manifest.ts';
import { errorBody, errorHeaders, errorStatus, type ApiError } from '../../protocol/api-error.ts';
import {
  DropRequest,
  EvaluateRequest,
  KeepPinsRequest,
  OriginRequest,
  PinRequest,
  PrefetchRequest,
  USAGE_COMMENT,
  USAGE_HEADER,
  VerifyRequest,
  writeUsageNote,
  type BaseInfo,
  ANSWER_PARAMETER,
} from '../../protocol/origin-wire.ts';
import { SIGNATURE_HEADER, verifySignature, type SigningKey } from '../../protocol/signature.ts';
import { fakeScores, fakeVerification } from './fake-trials.ts';

/** What the origin did; tests read it. */
export interface OriginLog {
  completions: OriginRequest[];
  /** `<digest prefix>:<part>` in order of arrival. */
  parts: string[];
  announced: string[];
  /** Digests that it was asked to drop. */
  dropped: string[];
  /** `verify <digest prefix of each member>` and `evaluate …` in order of arrival. */
  trials: string[];
  /** Times that its description was asked for. */
  bases: number;
  /** Headers of the last completion. */
  headers: IncomingMessage['headers'];
  /** Streams whose connection the other side closed. */
  aborted: string[];
}

export interface FakeOrigin {
  readonly url: string;
  readonly log: OriginLog;
  /** Streams stop after their first chunk until `release`. */
  hold(): void;
  release(): void;
  /** Forgets an adapter, as an eviction does. */
  forget(digest: string): void;
  /** The next completions are answered so. */
  answerWith(answer: ((response: ServerResponse) => void) | null): void;
  /** The next trials (verify, evaluate) are answered so. */
  tryWith(answer: ((response: ServerResponse) => void) | null): void;
  /** Refuses all requests, as an origin that shuts down does. */
  drain(): void;
  /** Answers nothing any more; connections stay open. */
  hang(): void;
  /** Its `x-graft-load` from now on. */
  sayLoad(load: string): void;
  /** Closes the connections of all running streams, as a crash does. */
  cut(): void;
  /** Resolves when a stream of this model was cut off. */
  waitForAbort(model: string): Promise<void>;
  stop(): Promise<void>;
}

interface Held {
  record: BlobRecord;
  parts: Map<number, Buffer>;
  ready: boolean;
}

const HEARTBEAT_MS = 10;

const sha256 = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** An origin without a model: the HTTP contract, checked strictly, and an answer that says which chain was asked. */
export async function startFakeOrigin(params: {
  id: string;
  keys: SigningKey[];
  base: BaseInfo;
  port?: number;
}): Promise<FakeOrigin> {
  const adapters = new Map<string, Held>();
  const log: OriginLog = {
    completions: [],
    parts: [],
    announced: [],
    dropped: [],
    trials: [],
    bases: 0,
    headers: {},
    aborted: [],
  };
  const nonces = new Set<string>();
  const startedAt = Date.now();
  let gate: { promise: Promise<void>; open: () => void } | null = null;
  let answer: ((response: ServerResponse) => void) | null = null;
  let trial: ((response: ServerResponse) => void) | null = null;
  let draining = false;
  let hanging = false;
  let load: string | null = null;
  const pinned = new Set<string>();
  const streams = new Set<ServerResponse>();
  const abortWaiters = new Map<string, () => void>();

  const fail = (response: ServerResponse, error: ApiError) => {
    response.writeHead(errorStatus(error), { 'content-type': 'application/json', ...errorHeaders(error) });
    response.end(JSON.stringify(errorBody(error)));
  };
  const json = (response: ServerResponse, status: number, value: unknown) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  };

  const missingOf = (chain: readonly { digest: string }[]) =>
    chain.map(({ digest }) => digest).filter((digest) => !adapters.get(digest)?.ready);

  function tryAdapter(response: ServerResponse, digest: string, what: string, body: Buffer) {
    const value = JSON.parse(body.toString()) as unknown;
    const call = what === 'verify' ? VerifyRequest.parse(value) : EvaluateRequest.parse(value);
    const chain = call.chain ?? [{ digest, scale: 1 }];
    log.trials.push(`${what} ${chain.map((member) => member.digest.slice(0, 8)).join(' ')}`);
    if (chain.at(-1)?.digest !== digest)
      return fail(response, { code: 'invalid_request', message: 'another chain', param: 'chain' });
    if (trial !== null) return trial(response);
    const missing = missingOf(chain);
    if (missing.length > 0) return fail(response, { code: 'adapter_missing', message: 'missing', missing });
    if ('rows' in call) return json(response, 200, { rows: fakeScores(call.rows) });
    return json(response, 200, fakeVerification({ base: params.base, chain, expected: call.expected }));
  }

  async function complete(request: IncomingMessage, response: ServerResponse, body: Buffer) {
    const call = OriginRequest.parse(JSON.parse(body.toString()));
    log.completions.push(call);
    log.headers = request.headers;
    if (answer !== null) return answer(response);
    const missing = missingOf(call.graft.chain);
    if (missing.length > 0) return fail(response, { code: 'adapter_missing', message: 'missing', missing });
    const { model } = call.graft;
    const wanted = new URL(request.url ?? '', 'http://origin').searchParams.get(ANSWER_PARAMETER);
    const id = `chatcmpl-${wanted ?? '1'}`;
    const text = JSON.stringify(call.graft.chain.map(({ digest }) => digest.slice(0, 8)));
    const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
    const streaming = call.request['stream'] === true;
    const note = { promptTokens: 1, completionTokens: 1, finish: 'stop' as const };
    response.setHeader(USAGE_HEADER, writeUsageNote(streaming ? { ...note, completionTokens: null } : note));
    if (!streaming)
      return json(response, 200, {
        id,
        object: 'chat.completion',
        created: 1,
        model,
        choices: [
          {
            index: 0,
            message: { role: 'assistant', content: text, refusal: null },
            logprobs: null,
            finish_reason: 'stop',
          },
        ],
        usage,
      });
    streams.add(response);
    response.on('close', () => {
      streams.delete(response);
      if (response.writableEnded) return;
      log.aborted.push(model);
      abortWaiters.get(model)?.();
    });
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    const chunk = (delta: object, finish: string | null) =>
      response.write(
        `data: ${JSON.stringify({
          id,
          object: 'chat.completion.chunk',
          created: 1,
          model,
          choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
        })}\n\n`,
      );
    chunk({ role: 'assistant', content: '' }, null);
    // As a real origin does while a row waits; workerd notices that its client has gone when it next writes.
    const beat = setInterval(() => response.write(': ping\n\n'), HEARTBEAT_MS);
    await gate?.promise;
    clearInterval(beat);
    chunk({ content: text }, null);
    chunk({}, 'stop');
    response.write(`${USAGE_COMMENT}${writeUsageNote(note)}\n\n`);
    response.end('data: [DONE]\n\n');
  }

  function pinAdapters(request: IncomingMessage, response: ServerResponse, body: Buffer) {
    const value = JSON.parse(body.toString()) as unknown;
    if (request.method === 'PUT') {
      const kept = new Set(KeepPinsRequest.parse(value).digests);
      const others = [...pinned].filter((digest) => !kept.has(digest));
      for (const digest of others) pinned.delete(digest);
      return json(response, 200, { unpinned: others.length });
    }
    const { digests } = PinRequest.parse(value);
    const missing = missingOf(digests.map((digest) => ({ digest })));
    if (missing.length > 0) return fail(response, { code: 'adapter_missing', message: 'missing', missing });
    for (const digest of digests) pinned.add(digest);
    return json(response, 200, { results: digests.map((digest) => ({ digest, ok: true })) });
  }

  function prefetch(response: ServerResponse, body: Buffer) {
    const { digests, if_resident: instead } = PrefetchRequest.parse(JSON.parse(body.toString()));
    if (instead !== undefined && adapters.get(instead)?.ready !== true)
      return json(response, 200, { results: [] });
    const missing = missingOf(digests.map((digest) => ({ digest })));
    if (missing.length > 0) return fail(response, { code: 'adapter_missing', message: 'missing', missing });
    return json(response, 200, { results: digests.map((digest) => ({ digest, ok: true })) });
  }

  function receivePart(response: ServerResponse, digest: string, index: number, body: Buffer) {
    const held = adapters.get(digest);
    const part = held?.record.parts[index];
    if (held === undefined || part === undefined)
      return fail(response, { code: 'not_found', message: 'no such part' });
    if (sha256(body) !== part.sha256)
      return fail(response, { code: 'adapter_invalid', message: `part ${index} has another sha256` });
    held.parts.set(index, body);
    log.parts.push(`${digest.slice(0, 8)}:${index}`);
    if (held.parts.size === held.record.parts.length) {
      const whole = Buffer.concat(held.record.parts.map((_, i) => held.parts.get(i) as Buffer));
      if (sha256(whole) !== digest)
        return fail(response, { code: 'adapter_invalid', message: 'another digest' });
      held.ready = true;
      held.parts.clear();
    }
    response.writeHead(204).end();
  }

  async function handle(request: IncomingMessage, response: ServerResponse) {
    const body = await readAll(request);
    if (hanging) return;
    if (load !== null) response.setHeader('x-graft-load', load);
    if (draining)
      return fail(response, { code: 'origin_unavailable', message: 'shutting down', retryAfterMs: 10 });
    const target = request.url ?? '';
    const [path = ''] = target.split('?');
    const verified = await verifySignature({
      header: request.headers[SIGNATURE_HEADER] as string | undefined,
      keys: params.keys,
      originId: params.id,
      method: request.method ?? '',
      pathAndQuery: target,
      now: Date.now(),
      startedAt: startedAt - 1,
      rememberNonce: (nonce) => (nonces.has(nonce) ? 'seen' : nonces.add(nonce) && 'new'),
    });
    if (!verified.ok)
      return fail(response, {
        code: 'invalid_signature',
        message: verified.error.kind,
        reason: verified.error.kind,
      });
    if (verified.value.h !== sha256(body))
      return fail(response, { code: 'invalid_signature', message: 'body' });
    if (path === '/base') {
      log.bases += 1;
      return json(response, 200, params.base);
    }
    if (path === '/adapters')
      return json(response, 200, {
        budget_bytes: 1_000,
        used_bytes: 0,
        adapters: [...adapters].map(([digest, { record, ready }]) => ({
          digest,
          state: ready ? 'ready' : 'loading',
          bytes: record.bytes,
          rank: 1,
          references: 0,
          pinned: pinned.has(digest),
        })),
      });
    if (path === '/adapters/prefetch') return prefetch(response, body);
    if (path === '/adapters/pins') return pinAdapters(request, response, body);
    if (path === '/adapters/drop') {
      const { digests } = DropRequest.parse(JSON.parse(body.toString()));
      log.dropped.push(...digests);
      return json(response, 200, { files: digests.filter((one) => adapters.delete(one)).length, in_use: 0 });
    }
    if (path.startsWith('/cancel/'))
      return json(response, 200, { state: 'unknown', prompt_tokens: 0, completion_tokens: 0 });
    const [, , digest = '', what = '', index] = path.split('/');
    if (what === 'file') return fail(response, { code: 'not_found', message: 'not held' });
    if (what === 'verify' || what === 'evaluate') return tryAdapter(response, digest, what, body);
    if (request.method === 'POST') return complete(request, response, body);
    if (index !== undefined) return receivePart(response, digest, Number(index), body);
    log.announced.push(digest);
    if (!adapters.has(digest))
      adapters.set(digest, {
        record: BlobRecord.parse(JSON.parse(body.toString())),
        parts: new Map(),
        ready: false,
      });
    const held = adapters.get(digest) as Held;
    const missing = held.ready ? [] : held.record.parts.map((_, i) => i).filter((i) => !held.parts.has(i));
    return json(response, held.ready ? 200 : 201, { digest, held: held.ready, missing_parts: missing });
  }

  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (!response.headersSent) fail(response, { code: 'internal_error', message: String(error) });
      else response.destroy();
    });
  });
  server.listen(params.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return {
    url: `http://127.0.0.1:${port}`,
    log,
    hold() {
      let open: () => void = () => undefined;
      const promise = new Promise<void>((resolve) => (open = resolve));
      gate = { promise, open };
    },
    release() {
      gate?.open();
      gate = null;
    },
    forget: (digest) => void adapters.delete(digest),
    answerWith: (next) => void (answer = next),
    tryWith: (next) => void (trial = next),
    drain: () => void (draining = true),
    hang: () => void (hanging = true),
    sayLoad: (said) => void (load = said),
    cut: () => streams.forEach((response) => response.destroy()),
    waitForAbort: (model) =>
      log.aborted.includes(model)
        ? Promise.resolve()
        : new Promise((resolve) => abortWaiters.set(model, () => resolve())),
    async stop() {
      if (!server.listening) return;
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
