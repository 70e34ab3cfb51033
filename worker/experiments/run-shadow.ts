/** Shadows of experiments: requests in parallel to a user's answer, and their counts. */
import type { CompletionCall } from '../origins/send.ts';
import type { AdapterManifest } from '../../protocol/adapter-manifest.ts';
import { BASE_JUDGE } from '../../protocol/experiment.ts';
import { finishOf, readUsageNote, USAGE_HEADER } from '../../protocol/origin-wire.ts';
import { fail } from '../http/request.ts';
import { logLine, reasonOf } from '../log.ts';
import type { CompletionEnding } from '../metering/ports.ts';
import { askChat } from '../origins/ask-chat.ts';
import type { OriginClient } from '../origins/client.ts';
import { disagreement, outcomeValues, type Shadow } from './assign.ts';
import { conversationOf, type PairJudges, type AskJudge } from './pairs/ports.ts';
import type { ExperimentSink, ShadowedAnswer, ShadowRunner } from './ports.ts';
import { z } from 'zod';

/** A shadow's events belong to no variant. */
const SHADOW = 'shadow';

/**
 * Shadows belong to no key: no quota is checked, no usage is recorded, and no answer is kept longer than needed
 * for comparison.
 */
export function createShadowRunner(params: {
  sink: ExperimentSink;
  /** Of the origins of a base. */
  hasRoom: (base: string) => boolean;
  now: () => number;
  maxAtOnce: number;
  budgetMs: number;
  /** Longer answers are not compared. */
  maxComparedBytes: number;
}): ShadowRunner {
  const { sink, hasRoom, now, maxAtOnce, budgetMs, maxComparedBytes } = params;
  /** Unix ms at which each expires: the `finally` of a request that is cut off never runs. */
  const running = new Set<{ until: number }>();

  return {
    run({ event, ask, answer, compare, pair = null, base, keepAlive }) {
      for (const one of running) if (one.until <= now()) running.delete(one);
      if (running.size >= maxAtOnce || !hasRoom(base)) return answer.response.body;
      const place = { until: now() + budgetMs };
      running.add(place);

      const signal = AbortSignal.timeout(budgetMs);
      const over = new AbortController();
      const until = AbortSignal.any([signal, over.signal]);
      const isHeard = compare || pair !== null;
      const told = isHeard
        ? listenIn(answer, { signal: until, maxBytes: maxComparedBytes, keepAlive })
        : null;
      const copy = isHeard ? new AnswerCopy(maxComparedBytes) : null;
      const work = async () => {
        if (pair !== null && !(await pair.begin())) return;
        const startedAt = now();
        const heard = await ask(signal)
          .then(async ({ cold = false, ...own }) => ({ ...(await readToTheEnd(own, copy)), cold }))
          .catch(async (error: unknown) => {
            await pair?.end({ control: null, treatment: null, tokens: 0, signal });
            throw error;
          });
        const { stream, cold, ...ending } = heard;
        const tokens = ending.promptTokens + ending.completionTokens;
        if (signal.aborted) return pair?.end({ control: null, treatment: null, tokens, signal });
        const at = now();
        const outcome = outcomeValues({
          ...ending,
          ttftMs: (ending.firstAt ?? at) - startedAt,
          latencyMs: at - startedAt,
          stoodIn: false,
          cold,
        });
        // Failures are recorded only as such.
        const own = copy === null || ending.status >= 400 ? null : textsOf(copy, stream);
        const others = own === null || told === null ? null : await told.texts;
        if (outcome !== null) {
          // It has no reader who could leave.
          const { left_rate: _left, ...values } = outcome;
          if (compare && own !== null && others !== null) values['disagreement'] = disagreement(others, own);
          sink.record({ ...event, variant: SHADOW, at, values, shadow: true }, keepAlive);
        }
        await pair?.end({ control: others, treatment: own, tokens, signal });
      };
      keepAlive(
        work()
          .catch((error: unknown) =>
            logLine('shadow_failed', { experiment: event.experiment, reason: String(error) }),
          )
          .finally(() => {
            over.abort();
            running.delete(place);
          }),
      );
      return told === null ? answer.response.body : told.body;
    },
  };
}

const BROKE_OFF = 502;

/** Reads an answer that no user gets. @param params.copy gets its bytes. */
async function readToTheEnd(
  { response, note: header, ended = null }: ShadowedAnswer,
  copy: AnswerCopy | null,
): Promise<Omit<CompletionEnding, 'endedAt'> & { stream: boolean }> {
  let { status } = response;
  try {
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      copy?.push(chunk);
    }
  } catch {
    status = BROKE_OFF;
  }
  const begun = readUsageNote(header);
  const outcome = await ended;
  const note = outcome === null ? begun : outcome.note;
  // An origin that reports usage does so before the end of every complete stream.
  if (outcome !== null && header !== null && (note === null || note.finish === 'left')) status = BROKE_OFF;
  return {
    stream: outcome !== null,
    status,
    promptTokens: (note ?? begun)?.promptTokens ?? 0,
    completionTokens: note?.completionTokens ?? outcome?.events ?? 0,
    finish: finishOf(note),
    firstAt: outcome?.firstAt ?? null,
    stalled: false,
  };
}

/**
 * Copies an answer while it passes through to the user; the copy is read after the end, so that nothing is
 * delayed.
 * @param params.signal ends the copy, not the answer.
 * @returns the body to pass on, and its text: null when it was refused, cut off, longer than `maxBytes`,
 * abandoned by its client, or not complete in time.
 */
export function listenIn(
  { response, note, ended = null }: ShadowedAnswer,
  params: { signal: AbortSignal; maxBytes: number; keepAlive: (work: Promise<unknown>) => void },
): { body: ReadableStream<Uint8Array> | null; texts: Promise<string[] | null> } {
  const { signal, maxBytes, keepAlive } = params;
  const body = response.body as ReadableStream<Uint8Array> | null;
  if (body === null || !response.ok || signal.aborted) return { body, texts: Promise.resolve(null) };
  const copy = new AnswerCopy(maxBytes);
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      copy.push(chunk);
      controller.enqueue(chunk);
    },
  });
  const passed = body.pipeTo(writable).then(
    async () => {
      const outcome = await ended;
      // An origin that reports usage does so before the end of every complete stream.
      return outcome !== null && note !== null && outcome.note === null
        ? null
        : textsOf(copy, outcome !== null);
    },
    () => null,
  );
  keepAlive(passed);
  const late = new Promise<null>((resolve) =>
    signal.addEventListener(
      'abort',
      () => {
        copy.forget();
        resolve(null);
      },
      { once: true },
    ),
  );
  return { body: readable, texts: Promise.race([passed, late]) };
}

export interface ShadowDeps {
  origins: OriginClient;
  shadows: ShadowRunner;
  pairJudges: PairJudges;
}

/**
 * Its work counts for the experiment's tenant: at the origin too, a shadow takes nothing from the caller's
 * share.
 */
export function runShadow(
  deps: ShadowDeps,
  common: Pick<CompletionCall, 'path' | 'request' | 'model' | 'requestId' | 'keepAlive'>,
  shadow: Shadow & { answer: ShadowedAnswer },
): Response['body'] {
  const { manifest, owner, compare, answer, judged, ...event } = shadow;
  const pair =
    judged === null
      ? null
      : deps.pairJudges.open({
          ...{ ...event, ...judged, prompt: conversationOf(common.request) },
          ask: askOrigin(deps.origins, { ...common, manifest: judged.manifest, tenant: owner }),
        });
  return deps.shadows.run({
    ...{ event, answer, compare, pair, base: manifest.base.id },
    keepAlive: common.keepAlive,
    async ask(signal) {
      let cold = false;
      const onCold = () => void (cold = true);
      const own = await deps.origins.complete({ ...common, manifest, tenant: owner, signal, onCold });
      if (!own.ok) return { response: fail(own.error), note: null };
      const { response, ended } = own.value;
      return { response, ended, note: response.headers.get(USAGE_HEADER), cold };
    },
  });
}

/**
 * Asks a judging model like a shadow: for the tenant that runs the experiment, and only if there is room.
 * @param call.manifest null = the default base.
 */
function askOrigin(
  origins: Pick<OriginClient, 'complete' | 'hasRoom'>,
  call: Pick<CompletionCall, 'tenant' | 'requestId' | 'keepAlive'> & { manifest: AdapterManifest | null },
): AskJudge {
  const nothing = { text: null, tokens: 0 };
  return async (request, signal) => {
    if (!origins.hasRoom(call.manifest?.base.id ?? null)) return nothing;
    const model = call.manifest?.name ?? BASE_JUDGE;
    try {
      const { text, tokens } = await askChat(origins, { ...call, request, model, signal });
      return { text: text.ok ? text.value : null, tokens };
    } catch (error) {
      logLine('judge_failed', { reason: reasonOf(error) });
      return nothing;
    }
  };
}

/** A copy of an answer's bytes. Nothing is kept of one that is too long: a partial one cannot be compared. */
export class AnswerCopy {
  readonly #maxBytes: number;
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #kept = true;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  push(chunk: Uint8Array): void {
    if (!this.#kept) return;
    this.#bytes += chunk.length;
    // A copy: the next consumer may transfer the chunk's memory.
    if (this.#bytes <= this.#maxBytes) this.#pieces.push(chunk.slice());
    else this.forget();
  }

  /** From now on nothing is kept. */
  forget(): void {
    this.#kept = false;
    this.#pieces = [];
  }

  /** @returns null when it was too long, or forgotten. */
  bytes(): Uint8Array | null {
    if (!this.#kept) return null;
    const all = new Uint8Array(this.#bytes);
    let at = 0;
    for (const piece of this.#pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }
}

/** Tool calls, with name and arguments, are part of an answer's text. */
const Calls = z.array(
  z.object({ function: z.object({ name: z.string().optional(), arguments: z.string().optional() }) }),
);

/** Of chat and text completions, whole and in events. */
const Choices = z.object({
  choices: z.array(
    z.object({
      index: z.int(),
      text: z.string().optional(),
      message: z.object({ content: z.string().nullish(), tool_calls: Calls.optional() }).optional(),
      delta: z.object({ content: z.string().nullish(), tool_calls: Calls.optional() }).optional(),
    }),
  ),
});
/** Of responses: whole, or in the last of their events. */
const Output = z.object({
  output: z.array(
    z.union([
      z.object({ content: z.array(z.object({ text: z.string() })) }),
      z.object({ name: z.string(), arguments: z.string() }),
    ]),
  ),
});
const LastEvent = z.object({
  type: z.enum(['response.completed', 'response.incomplete']),
  response: Output,
});

/** Of messages: whole, and in events. */
const Block = z.object({ text: z.string().optional() });
const Message = z.object({ type: z.literal('message'), content: z.array(Block) });
const BlockDelta = z.object({ type: z.literal('content_block_delta'), delta: Block });

/** @returns what {@link answerTexts} finds in the copy; null when there is none. */
function textsOf(copy: AnswerCopy, isStream: boolean): string[] | null {
  const bytes = copy.bytes();
  return bytes === null ? null : answerTexts(new TextDecoder().decode(bytes), isStream);
}

/**
 * The text of each of an answer's choices, ordered by index.
 * @param body JSON, or server-sent events of it.
 * @returns null for anything else. Never throws: an error of the parser would quote the text.
 */
export function answerTexts(body: string, isStream: boolean): string[] | null {
  const texts = new Map<number, string>();
  for (const json of isStream ? dataOf(body) : [body]) {
    const value = parsed(json);
    if (value === undefined) return null;
    for (const [index, text] of textsIn(value)) texts.set(index, (texts.get(index) ?? '') + text);
  }
  return texts.size === 0 ? null : [...texts].sort(([a], [b]) => a - b).map(([, text]) => text);
}

/** Of `/v1/classify`: a class says in one word what the text says elsewhere. */
const Classified = z.object({ data: z.array(z.object({ index: z.int(), label: z.string() })) });

/** What an answer or an event adds to each choice. */
function textsIn(value: unknown): [index: number, text: string][] {
  const choices = Choices.safeParse(value);
  if (choices.success)
    return choices.data.choices.map(({ index, text, message, delta }) => [
      index,
      text ?? spoken(message) + spoken(delta),
    ]);
  const classified = Classified.safeParse(value);
  if (classified.success) return classified.data.data.map(({ index, label }) => [index, label]);
  const message = Message.safeParse(value);
  if (message.success) return [[0, message.data.content.map(({ text }) => text ?? '').join('')]];
  const block = BlockDelta.safeParse(value);
  if (block.success) return [[0, block.data.delta.text ?? '']];
  const whole = Output.safeParse(value);
  const output = whole.success ? whole.data : LastEvent.safeParse(value).data?.response;
  if (output === undefined) return [];
  const said = output.output.map((item) =>
    'content' in item ? item.content.map(({ text }) => text).join('') : item.name + item.arguments,
  );
  return [[0, said.join('')]];
}

const spoken = (
  part: { content?: string | null | undefined; tool_calls?: z.infer<typeof Calls> | undefined } | undefined,
): string =>
  (part?.content ?? '') +
  (part?.tool_calls ?? [])
    .map(({ function: called }) => (called.name ?? '') + (called.arguments ?? ''))
    .join('');

const DATA = 'data:';
const DONE = '[DONE]';

/** JSON has no bare newline, so that an event's data is one line. */
const dataOf = (events: string): string[] =>
  events
    .split('\n')
    .filter((line) => line.startsWith(DATA))
    .map((line) => line.slice(DATA.length).trim())
    .filter((data) => data !== DONE);

/** @returns undefined for invalid JSON. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}
