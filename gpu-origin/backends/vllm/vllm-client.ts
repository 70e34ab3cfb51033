/** Requests and answers of vLLM's OpenAI server, version 0.32: `vllm/entrypoints/openai`. Only the used parts. */
import { z } from 'zod';
import { err, ok, type Result, type ApiError } from '../../../protocol/api-error.ts';
import { childOf, traceHeaders, type Traceparent } from '../../../protocol/trace-context.ts';
import type { Clock } from '../../engine/ports.ts';

/** A prompt of 100,000 tokens takes long; a stream that is silent for longer has ended. */
const SILENCE_MS = 120_000;
/** For loading adapters and listing models, which run no prompt. */
const CALL_MS = 60_000;
/** Characters of vLLM's own words that a log or an error repeats. */
const MAX_MESSAGE = 300;

/** `fresh`: over a new connection, which any server behind the address may accept. */
interface Way {
  fresh?: boolean;
}

export type VllmClient = ReturnType<typeof createVllmClient>;

/** @param params.url such as `http://127.0.0.1:8000`. @param params.apiKey as vLLM's `--api-key`. */
export function createVllmClient(params: {
  url: string;
  apiKey?: string | undefined;
  clock: Pick<Clock, 'timer'>;
  fetch?: typeof globalThis.fetch;
  silenceMs?: number;
}) {
  const { url, apiKey, clock, silenceMs = SILENCE_MS } = params;
  const send = params.fetch ?? globalThis.fetch;
  const headers = {
    'content-type': 'application/json',
    ...(apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` }),
  };

  async function call(
    path: string,
    body: object | null,
    {
      signal,
      ms,
      from = null,
      fresh = false,
    }: { signal?: AbortSignal; ms: number; from?: Traceparent | null } & Way,
  ): Promise<Result<Response, VllmFailure>> {
    const late = new AbortController();
    const cancel = clock.timer(ms, () => late.abort());
    try {
      const response = await send(`${url}${path}`, {
        method: body === null ? 'GET' : 'POST',
        headers: {
          ...headers,
          ...(from === null ? {} : traceHeaders(from)),
          ...(fresh ? { connection: 'close' } : {}),
        },
        ...(body === null ? {} : { body: JSON.stringify(body) }),
        signal: signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]),
        redirect: 'error',
      });
      if (response.ok) return ok(response);
      return err({ kind: 'refused', status: response.status, message: messageOf(await response.text()) });
    } catch (error) {
      return err(late.signal.aborted ? { kind: 'silent', ms } : { kind: 'gone', message: reasonOf(error) });
    } finally {
      cancel();
    }
  }

  async function ask<T>(
    schema: z.ZodType<T>,
    ...args: Parameters<typeof call>
  ): Promise<Result<T, VllmFailure>> {
    const answered = await call(...args);
    if (!answered.ok) return answered;
    try {
      const parsed = schema.safeParse(await answered.value.json());
      if (parsed.success) return ok(parsed.data);
      return err({ kind: 'strange', message: parsed.error.issues[0]?.message ?? 'another form' });
    } catch (error) {
      return err({ kind: 'gone', message: reasonOf(error) });
    }
  }

  async function order(path: string, body: object, way: Way = {}): Promise<Result<void, VllmFailure>> {
    const answered = await call(path, body, { ms: CALL_MS, ...way });
    if (!answered.ok) return answered;
    await answered.value.body?.cancel();
    return ok(undefined);
  }

  return {
    async models(way: Way = {}): Promise<Result<z.infer<typeof VllmModels>['data'], VllmFailure>> {
      const listed = await ask(VllmModels, '/v1/models', null, { ms: CALL_MS, ...way });
      return listed.ok ? ok(listed.value.data) : listed;
    },
    /** @param path of a PEFT folder that vLLM can read. */
    loadAdapter: (name: string, path: string) =>
      order('/v1/load_lora_adapter', { lora_name: name, lora_path: path }),
    unloadAdapter: (name: string, way?: Way) => order('/v1/unload_lora_adapter', { lora_name: name }, way),
    /**
     * Tokens as they arrive; ends after the last one, or with a failure. Aborting `signal` also ends the run at
     * vLLM.
     * @param trace its trace, and its span here if that is recorded; the run is a span of its own there.
     */
    async *stream(
      body: VllmCompletion,
      signal: AbortSignal,
      { parent = null, span = null }: { parent?: Traceparent | null; span?: Traceparent | null } = {},
    ): AsyncGenerator<Result<StreamChunk, VllmFailure>, void, undefined> {
      const from = span ?? (parent === null ? null : childOf(parent));
      const answered = await call(
        '/v1/completions',
        { ...body, stream: true },
        { signal, ms: silenceMs, from },
      );
      if (!answered.ok) return yield answered;
      const events = readEvents(answered.value.body, { clock, silenceMs });
      for await (const event of events) {
        if (!event.ok) return yield event;
        if (event.value === '[DONE]') return;
        const chunk = chunkOf(event.value);
        yield chunk;
        if (!chunk.ok) return;
      }
      yield err({ kind: 'gone', message: 'its stream broke off' });
    },
  };
}

function chunkOf(text: string): Result<StreamChunk, VllmFailure> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return err({ kind: 'strange', message: text.slice(0, MAX_MESSAGE) });
  }
  const failed = VllmError.safeParse(json);
  if (failed.success) return err({ kind: 'refused', status: 500, message: messageOf(text) });
  const chunk = StreamChunk.safeParse(json);
  if (chunk.success) return ok(chunk.data);
  return err({ kind: 'strange', message: chunk.error.issues[0]?.message ?? text.slice(0, MAX_MESSAGE) });
}

/** vLLM's own words, from a body in any format. */
function messageOf(text: string): string {
  try {
    const parsed = VllmError.safeParse(JSON.parse(text));
    if (parsed.success) return parsed.data.error.message.slice(0, MAX_MESSAGE);
  } catch {
    // It is no JSON.
  }
  return text.slice(0, MAX_MESSAGE);
}

/** Node says "fetch failed"; the reason is in its cause. */
function reasonOf(error: unknown): string {
  const { cause, message } = error as Error & { cause?: { code?: string; message?: string } };
  return cause?.code ?? cause?.message ?? message;
}

/** Larger events are not vLLM's: the log-probabilities of a step have a few kilobytes. */
const MAX_EVENT_CHARACTERS = 1_048_576;

/** The data of each server-sent event; ends with the stream, or with a failure. */
async function* readEvents(
  body: ReadableStream<Uint8Array> | null,
  { clock, silenceMs }: { clock: Pick<Clock, 'timer'>; silenceMs: number },
): AsyncGenerator<Result<string, VllmFailure>> {
  if (body === null) return yield err({ kind: 'strange', message: 'its stream has no body' });
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let held = '';
  try {
    for (;;) {
      const read = await nextOf(reader, { clock, silenceMs });
      if (!read.ok) return yield read;
      if (read.value === null) return;
      held += decoder.decode(read.value, { stream: true });
      if (held.length > MAX_EVENT_CHARACTERS)
        return yield err({ kind: 'strange', message: 'an event larger than a megabyte' });
      const events = held.split(/\r?\n\r?\n/);
      held = events.pop()!;
      for (const event of events) {
        const data = event
          .split(/\r?\n/)
          .filter((line) => line.startsWith('data:'))
          .map((line) => line.slice(5).trimStart());
        if (data.length > 0) yield ok(data.join('\n'));
      }
    }
  } finally {
    // The run at vLLM ends with its connection.
    await reader.cancel().catch(() => undefined);
  }
}

/** @returns null at the end. */
async function nextOf(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  { clock, silenceMs }: { clock: Pick<Clock, 'timer'>; silenceMs: number },
): Promise<Result<Uint8Array | null, VllmFailure>> {
  let cancel = (): void => undefined;
  const silence = new Promise<Result<never, VllmFailure>>((resolve) => {
    cancel = clock.timer(silenceMs, () => resolve(err({ kind: 'silent', ms: silenceMs })));
  });
  try {
    return await Promise.race([reader.read().then(({ value }) => ok(value ?? null)), silence]);
  } catch (error) {
    const { cause, message } = error as Error & { cause?: { code?: string } };
    return err({ kind: 'gone', message: cause?.code ?? message });
  } finally {
    cancel();
  }
}

/** Tokens as `return_tokens_as_token_ids` writes them. */
const TOKEN = /^token_id:(\d+)$/;

const TokenText = z
  .string()
  .regex(TOKEN)
  .transform((text) => Number(TOKEN.exec(text)![1]));

/** If log-probabilities were requested; lists of the same length. */
const Logprobs = z.object({
  tokens: z.array(TokenText),
  token_logprobs: z.array(z.number().nullable()),
  /** The likeliest, and the chosen token if it is not among them. */
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()).nullish(),
});

export const tokenOf = (text: string): number => TokenText.parse(text);

/** One event of a stream. */
export const StreamChunk = z.object({
  choices: z.array(
    z.object({
      /** With `return_token_ids`; only new ones. */
      token_ids: z.array(z.int().nonnegative()).nullish(),
      logprobs: Logprobs.nullish(),
      finish_reason: z.string().nullish(),
    }),
  ),
});
export type StreamChunk = z.infer<typeof StreamChunk>;

/** `finish_reason` of an incomplete answer: vLLM is being stopped, or has failed. */
export const GIVEN_UP: ReadonlySet<string> = new Set(['abort', 'error']);

/** In an error's body, or in a stream whose status said 200. */
const VllmError = z.object({ error: z.object({ message: z.string(), code: z.unknown().optional() }) });

const VllmModels = z.object({
  data: z.array(
    z.object({
      id: z.string(),
      /** Path of the base or of the adapter. */
      root: z.string().nullish(),
      /** Of an adapter: the base. */
      parent: z.string().nullish(),
      max_model_len: z.int().positive().nullish(),
    }),
  ),
});

/** The body of `POST /v1/completions`. */
export interface VllmCompletion {
  model: string;
  prompt: readonly number[];
  max_tokens: number;
  [field: string]: unknown;
}

/** Why a request to vLLM failed. */
export type VllmFailure =
  /** It returned an error. */
  | { readonly kind: 'refused'; readonly status: number; readonly message: string }
  /** No connection, or it was lost. */
  | { readonly kind: 'gone'; readonly message: string }
  /** It stopped sending. */
  | { readonly kind: 'silent'; readonly ms: number }
  /** Its answer is invalid. */
  | { readonly kind: 'strange'; readonly message: string };

export const failureText = (failure: VllmFailure): string => {
  switch (failure.kind) {
    case 'refused':
      return `vLLM answered ${failure.status}: ${failure.message}`;
    case 'gone':
      return `vLLM does not answer: ${failure.message}`;
    case 'silent':
      return `vLLM has sent nothing for ${Math.round(failure.ms / 1000)} s`;
    case 'strange':
      return `vLLM's answer was not understood: ${failure.message}`;
  }
};

/** Retry time after vLLM was lost or its queue was full, ms. */
export const RETRY_MS = 1_000;

/** As the error of a request. */
export const errorOf = (failure: VllmFailure): ApiError =>
  failure.kind === 'refused' && failure.status === 400
    ? { code: 'invalid_request', message: failureText(failure), param: null }
    : { code: 'origin_unavailable', message: failureText(failure), retryAfterMs: RETRY_MS };
