/** Keeps prompts and answers of keys that ask for it: copied as they pass, encrypted, written in batches. */
import { type KeptText, MAX_KEPT_TEXT } from '../../protocol/admin-api/prompts.ts';
import { logLine } from '../log.ts';
import { createBatchedWrites } from '../platform/store-calls.ts';
import {
  MAX_UNSENT_PROMPTS,
  PROMPT_BATCH,
  PROMPT_FLUSH_MS,
  PROMPT_TRIES,
  MAX_HEARD_BYTES,
  MAX_HEARD_LINE,
} from './limits.ts';
import type { Keeping, PromptKeeper, PromptRow, PromptPlace } from './ports.ts';
import { z } from 'zod';
import { createTextSealer } from '../platform/sealed-text.ts';

const NO_ANSWER = { answers: null, answers_cut: false };

/** Keeps prompts of keys with `keep_prompts`, during and after the answers; see {@link createBatchedWrites}. */
export function createPromptKeeper(params: {
  /** Resolves once they are on a disk; those that are there already stay as they are. */
  keep: (rows: readonly PromptRow[]) => Promise<void>;
  sealer: PromptSealer;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): PromptKeeper {
  const { sealer } = params;
  let open: PromptRow[] = [];
  const writes = createBatchedWrites<readonly PromptRow[]>({
    ...params,
    close,
    write: params.keep,
    lane: () => 'prompts',
    size: (rows) => rows.length,
    // Never their content.
    onRefused: (rows, reason) => logLine('prompts_not_written', { reason, rows: rows.length }),
    onLost: (rows) => logLine('prompts_lost', { rows: rows.length }),
    maxUnsent: MAX_UNSENT_PROMPTS,
    flushMs: PROMPT_FLUSH_MS,
    tries: PROMPT_TRIES,
  });

  function close(): void {
    if (open.length > 0) writes.add(open);
    open = [];
  }

  return {
    open(request, user, keepAlive): Keeping {
      const prompt = promptTurns(request);
      let gatherer: AnswerGatherer | null = null;
      /** Until a whole answer has passed. */
      let passed: Promise<unknown> | null = null;

      async function keep(place: Omit<PromptRow, 'sealed' | 'user'>): Promise<void> {
        await passed;
        const text: KeptText = { ...prompt, ...(gatherer?.answer() ?? NO_ANSWER) };
        const sealed = await sealer.seal(place, JSON.stringify(text));
        const row = { ...place, user: await user(), sealed };
        if (open.length >= PROMPT_BATCH) close();
        open.push(row);
        writes.flushSoon(keepAlive);
      }

      return {
        listen(body, { ok, stream }) {
          if (body === null || !ok) return body;
          const heard = new AnswerGatherer(stream);
          gatherer = heard;
          const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
            transform(chunk, controller) {
              heard.push(chunk);
              controller.enqueue(chunk);
            },
          });
          // If the client disconnects, or the origin fails, the part until then is kept.
          const piped = body.pipeTo(writable).catch(() => undefined);
          keepAlive(piped);
          passed = piped;
          return readable;
        },
        end({ tenant, at, id, key_id: keyId, name }) {
          keepAlive(keep({ tenant, at, id, keyId, name }));
        },
      };
    },
  };
}

type Turn = KeptText['prompt'][number];
type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * The text of a request, from any API, at most {@link MAX_KEPT_TEXT} characters: the last messages of a long
 * prompt are the answered ones. Of several texts, each with an answer of its own, and of pairs the first are kept.
 * @param request validated by the client API.
 */
export function promptTurns(request: unknown): Pick<KeptText, 'prompt' | 'prompt_cut' | 'raw'> {
  const fields = isFields(request) ? request : {};
  const turns = turnsOf(fields);
  const prompt: Turn[] = [];
  let room = MAX_KEPT_TEXT;
  let cut = false;
  const { input } = fields;
  const fromFirst = isPairs(fields) || (Array.isArray(input) && !isFields(input[0]));
  for (const { role, text } of fromFirst ? turns : turns.reverse()) {
    cut ||= text.length > room;
    if (room === 0) break;
    prompt.push({ role, text: cutText(text, room) });
    room -= Math.min(room, text.length);
  }
  const raw = fields['prompt'] == null ? {} : { raw: true as const };
  return { prompt: fromFirst ? prompt : prompt.reverse(), prompt_cut: cut, ...raw };
}

/** @returns the beginning, without half a character at its end. */
const cutText = (text: string, characters: number): string =>
  text.length <= characters ? text : text.slice(0, characters).replace(/[\uD800-\uDBFF]$/, '');

/** Whether it is a request of `/v1/score` or `/v1/rerank`. */
const isPairs = (fields: Fields): boolean => fields['text_1'] !== undefined || fields['query'] !== undefined;

const Pairs = z.union([
  z.object({ text_1: z.array(z.string()), text_2: z.array(z.string()) }),
  z
    .object({ query: z.string(), documents: z.array(z.string()) })
    .transform(({ query, documents }) => ({ text_1: [query], text_2: documents })),
]);

function turnsOf(fields: Fields): Turn[] {
  const { tools, system, instructions, messages, prompt, input } = fields;
  const pairs = isPairs(fields) ? Pairs.safeParse(fields).data : undefined;
  if (pairs !== undefined)
    return [
      ...pairs.text_1.map((text) => ({ role: 'query', text })),
      ...pairs.text_2.map((text) => ({ role: 'document', text })),
    ];
  const said = messages ?? input ?? prompt;
  return [
    ...(Array.isArray(tools) && tools.length > 0 ? [{ role: 'tools', text: JSON.stringify(tools) }] : []),
    ...(system == null ? [] : [{ role: 'system', text: contentText(system) }]),
    ...(instructions == null ? [] : [{ role: 'system', text: contentText(instructions) }]),
    ...(said == null ? [] : Array.isArray(said) && !isTokens(said) ? said.flatMap(turnOf) : [user(said)]),
  ];
}

const isTokens = (said: readonly unknown[]): boolean => typeof said[0] === 'number';

const user = (said: unknown): Turn => ({ role: 'user', text: contentText(said) });

/** A message, an item of a response's input, one of several prompts, or a token. */
function turnOf(item: unknown): Turn[] {
  if (!isFields(item)) return [user(item)];
  const { role, type, content, name, arguments: given, output, tool_calls: calls } = item;
  if (type === 'function_call') return [{ role: 'assistant', text: `${String(name)} ${String(given)}` }];
  if (type === 'function_call_output') return [{ role: 'tool', text: contentText(output) }];
  const lines = [
    ...(content == null || content === '' ? [] : [contentText(content)]),
    ...(Array.isArray(calls) ? calls.map(callText) : []),
  ];
  return [{ role: typeof role === 'string' ? role : 'user', text: lines.join('\n') }];
}

const callText = (call: unknown): string =>
  isFields(call) && isFields(call['function'])
    ? `${String(call['function']['name'])} ${String(call['function']['arguments'])}`
    : JSON.stringify(call);

/** Non-text parts are JSON. */
function contentText(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content) || isTokens(content)) return JSON.stringify(content) ?? '';
  return content.map(partText).join('\n');
}

function partText(part: unknown): string {
  if (!isFields(part)) return typeof part === 'string' ? part : JSON.stringify(part);
  const { type, text, name, input, content } = part;
  if (typeof text === 'string') return text;
  if (type === 'tool_use') return `${String(name)} ${JSON.stringify(input)}`;
  if (type === 'tool_result' && content != null) return contentText(content);
  return JSON.stringify(part);
}

/** What a choice continues with: text, or the name of a call, whose arguments are the following text. */
type Said = { index: number; text: string } | { index: number; call: string };

const Calls = z.array(
  z.object({ function: z.object({ name: z.string().optional(), arguments: z.string().optional() }) }),
);
const Spoken = z.object({ content: z.string().nullish(), tool_calls: Calls.optional() });
/** Of chat and text completions, whole and in events. */
const Choices = z.object({
  choices: z.array(
    z.object({
      index: z.int(),
      text: z.string().optional(),
      message: Spoken.optional(),
      delta: Spoken.optional(),
    }),
  ),
});
/** Of responses, whole. */
const Output = z.object({
  output: z.array(
    z.union([
      z.object({ content: z.array(z.object({ text: z.string() })) }),
      z.object({ name: z.string(), arguments: z.string() }),
    ]),
  ),
});
const Block = z.union([
  z.object({ type: z.literal('text'), text: z.string() }),
  z.object({ type: z.literal('tool_use'), name: z.string(), input: z.unknown() }),
]);
/** Of messages, whole. */
const Message = z.object({ type: z.literal('message'), content: z.array(Block) });
/** Of responses and messages, in events, except a response's last one, which repeats everything. */
const Event = z.discriminatedUnion('type', [
  z.object({ type: z.literal('response.output_text.delta'), delta: z.string() }),
  z.object({ type: z.literal('response.function_call_arguments.delta'), delta: z.string() }),
  z.object({
    type: z.literal('response.output_item.added'),
    item: z.object({ type: z.string(), name: z.string().optional() }),
  }),
  z.object({
    type: z.literal('content_block_start'),
    content_block: z.object({ type: z.string(), name: z.string().optional() }),
  }),
  z.object({
    type: z.literal('content_block_delta'),
    delta: z.object({ text: z.string().optional(), partial_json: z.string().optional() }),
  }),
]);

const Index = z.int().min(0);
/** Of classification heads. */
const Classified = z.object({
  data: z.array(z.object({ index: Index, label: z.string(), probs: z.array(z.number()) })),
});
const Scored = z.object({
  data: z.array(z.object({ index: Index, object: z.literal('score'), score: z.number() })),
});
const Reranked = z.object({ results: z.array(z.object({ index: Index, relevance_score: z.number() })) });

const DATA = 'data:';

/**
 * The texts of an answer, gathered as its bytes pass, at most {@link MAX_KEPT_TEXT} characters. Of a stream
 * only a line is buffered; an answer that is not a stream is buffered whole, and dropped if it is longer than
 * {@link MAX_HEARD_BYTES}.
 */
export class AnswerGatherer {
  readonly #stream: boolean;
  readonly #decoder = new TextDecoder();
  readonly #texts = new Map<number, string>();
  /** An incomplete line, or the whole answer. */
  #held = '';
  #skipsLine = false;
  #heard = 0;
  #room = MAX_KEPT_TEXT;
  #cut = false;
  #classes = false;

  constructor(stream: boolean) {
    this.#stream = stream;
  }

  push(chunk: Uint8Array): void {
    this.#heard += chunk.length;
    if (this.#cut) return;
    if (!this.#stream && this.#heard > MAX_HEARD_BYTES) {
      this.#cut = true;
      this.#held = '';
      return;
    }
    this.#held += this.#decoder.decode(chunk, { stream: true });
    if (!this.#stream) return;
    for (let end = this.#held.indexOf('\n'); end !== -1; end = this.#held.indexOf('\n')) {
      const line = this.#held.slice(0, end);
      this.#held = this.#held.slice(end + 1);
      if (!this.#skipsLine) this.#hear(line);
      this.#skipsLine = false;
    }
    if (this.#held.length <= MAX_HEARD_LINE && !this.#skipsLine) return;
    this.#skipsLine = true;
    this.#held = '';
  }

  /** @returns its text so far. */
  answer(): Pick<KeptText, 'answers' | 'answers_cut' | 'classes'> {
    if (!this.#stream && !this.#cut) this.#add(this.#held);
    this.#held = '';
    const texts = [...this.#texts].sort(([a], [b]) => a - b).map(([, text]) => text);
    return {
      answers: texts.length === 0 ? null : texts,
      answers_cut: this.#cut,
      ...(this.#classes ? { classes: true as const } : {}),
    };
  }

  #hear(line: string): void {
    if (line.startsWith(DATA) && line.length <= MAX_HEARD_LINE) this.#add(line.slice(DATA.length));
  }

  #add(json: string): void {
    const value = parsed(json);
    const classes = classesIn(value);
    this.#classes ||= classes !== null;
    for (const said of classes ?? saidIn(value)) {
      const before = this.#texts.get(said.index) ?? '';
      const text = 'call' in said ? `${before === '' ? '' : '\n'}${said.call} ` : said.text;
      this.#cut ||= text.length > this.#room;
      this.#texts.set(said.index, before + cutText(text, this.#room));
      this.#room -= Math.min(this.#room, text.length);
    }
  }
}

/** @returns null for answers that are no classification head's. */
function classesIn(value: unknown): Said[] | null {
  const classified = Classified.safeParse(value);
  if (classified.success)
    return classified.data.data.map(({ index, label, probs }) => ({
      index,
      text: `${label} ${shortNumber(Math.max(...probs))}`,
    }));
  const scored = Scored.safeParse(value);
  if (scored.success)
    return scored.data.data.map(({ index, score }) => ({ index, text: shortNumber(score) }));
  const reranked = Reranked.safeParse(value);
  if (!reranked.success) return null;
  return reranked.data.results.map(({ index, relevance_score: score }, rank) => ({
    index: rank,
    text: `document ${index + 1}: ${shortNumber(score)}`,
  }));
}

const shortNumber = (value: number): string => String(Number(value.toPrecision(4)));

function saidIn(value: unknown): Said[] {
  const choices = Choices.safeParse(value);
  if (choices.success)
    return choices.data.choices.flatMap(({ index, text, message, delta }) => [
      ...(text === undefined ? [] : [{ index, text }]),
      ...spoken(index, message),
      ...spoken(index, delta),
    ]);
  const event = Event.safeParse(value);
  if (event.success) return saidByEvent(event.data);
  const message = Message.safeParse(value);
  if (message.success)
    return message.data.content.flatMap((block) =>
      block.type === 'text' ? [words(block.text)] : called(block.name, JSON.stringify(block.input)),
    );
  return (Output.safeParse(value).data?.output ?? []).flatMap((item) =>
    'content' in item ? item.content.map(({ text }) => words(text)) : called(item.name, item.arguments),
  );
}

function saidByEvent(event: z.infer<typeof Event>): Said[] {
  switch (event.type) {
    case 'response.output_text.delta':
    case 'response.function_call_arguments.delta':
      return [words(event.delta)];
    case 'response.output_item.added':
      return event.item.name === undefined ? [] : [{ index: 0, call: event.item.name }];
    case 'content_block_start':
      return event.content_block.name === undefined ? [] : [{ index: 0, call: event.content_block.name }];
    case 'content_block_delta':
      return [words(event.delta.text ?? event.delta.partial_json ?? '')];
  }
}

const words = (text: string): Said => ({ index: 0, text });
const called = (name: string, given: string): Said[] => [{ index: 0, call: name }, words(given)];

const spoken = (index: number, part: z.infer<typeof Spoken> | undefined): Said[] => [
  ...(part?.content == null ? [] : [{ index, text: part.content }]),
  ...(part?.tool_calls ?? []).flatMap(({ function: { name, arguments: given } }): Said[] => [
    ...(name === undefined ? [] : [{ index, call: name }]),
    ...(given === undefined ? [] : [{ index, text: given }]),
  ]),
];

/** @returns undefined for invalid JSON: an error of the parser would quote the text. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return undefined;
  }
}

/** Prompts and answers as they are stored, each for its request. */
type Place = Pick<PromptPlace, 'tenant' | 'at' | 'id'>;

export interface PromptSealer {
  seal(place: Place, text: string): Promise<string>;
  /** @returns null when it was not sealed for this place, or with an unknown secret. */
  open(place: Place, sealed: string): Promise<string | null>;
}

/**
 * @param secret at least 32 random bytes; seals and opens.
 * @param accepted further secrets that open, during a rotation.
 */
export function createPromptSealer(
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): PromptSealer {
  const sealer = createTextSealer('graft-prompt-v1', secret, accepted);
  const placeOf = ({ tenant, at, id }: Place): string => `${tenant}\n${at}\n${id}`;
  return {
    seal: (place, text) => sealer.seal(placeOf(place), text),
    open: (place, sealed) => sealer.open(placeOf(place), sealed),
  };
}
