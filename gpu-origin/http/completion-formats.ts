/**
 * The form of answers: their constraints, tool calls, and serialization as OpenAI's chat and text completions
 * and as Anthropic's messages.
 */
import { type ApiError, errorBody, ok, type Result } from '../../protocol/api-error.ts';
import type {
  FinishReason,
  Usage,
  ChatFinishReason,
  ChatCompletion,
  ChatCompletionChunk,
  ModelToolCall,
  TextCompletion,
  TextLogprobs,
  PromptLogprobs,
  TokenLogprob,
} from '../../protocol/completion-answers.ts';
import {
  messagesError,
  type MessagesAnswer,
  type MessagesContent,
  type MessagesEvent,
  type MessagesStopReason,
  type MessagesUsage,
} from '../../protocol/messages.ts';
import type { EngineEvent, ScoredToken, TokenScore } from '../engine/engine.ts';
import { type Tokenizer, tokenKey, tokenText } from '../model/tokenizer.ts';
import type { Echo } from '../prompts/prompt.ts';
import { constraintsOf, toolUseOf } from '../../protocol/request-fields.ts';
import type { Grammar } from '../engine/ports.ts';
import type { GenerationRequest } from '../generation/sampler.ts';
import type { AskedTools, CallFormat, GrammarCaller } from '../grammar/ports.ts';
import { CALL_SHAPES } from '../grammar/constraint-grammar.ts';
import type { Services } from './origin-context.ts';

type PieceEvent = Extract<EngineEvent, { kind: 'prompt' | 'tokens' }>;

/** Tokens and text of an engine event. */
export type AnswerTokens = Pick<PieceEvent, 'tokens'> & { readonly text: string };

/** A complete choice. */
export interface WholeAnswer {
  text: string;
  /** Text and tokens again, event by event. */
  parts: readonly AnswerTokens[];
  prompt: readonly ScoredToken[];
  tokens: readonly ScoredToken[];
  finishReason: FinishReason;
  /** The stop string that ended it, if one did. */
  stop?: string | undefined;
}

/** Serializes an answer for one API. One instance serves one request; `choice` counts from 0. */
export interface CompletionFormat {
  /** Whether events have their `type` as the event's name and no `[DONE]` follows, as in Responses. */
  readonly named: boolean;
  /** Before the first token. */
  opening(): unknown[];
  /** Events for an event of the engine; may be empty. */
  piece(choice: number, event: PieceEvent): unknown[];
  /** The API's own event for a quiet stream; default: a comment. */
  readonly heartbeat?: object;
  /**
   * After a choice's last token.
   * @param stop the stop string that ended it, if one did.
   */
  closing(choice: number, finishReason: FinishReason, stop?: string): unknown[];
  /** After the last choice. */
  ending(usage: Usage): unknown[];
  /** Replaces all remaining events. */
  failure(error: ApiError): unknown;
  whole(answers: readonly WholeAnswer[], usage: Usage): unknown;
}

export interface FormatParams {
  /** 32 hex digits, for ids. */
  id: string;
  /** Unix seconds. */
  created: number;
  /** As the client sent it. */
  model: string;
  choices: number;
  includeUsage: boolean;
  tokenizer: Tokenizer;
  /** Whether the client asked for log-probabilities. */
  logprobs: boolean;
  /** Tool calls to look for in the answer; null = none. */
  calls: CallSyntax | null;
  /** … for the prompt: alternatives per position; null = none. */
  promptLogprobs?: number | null;
}

type ChatChoice = ChatCompletionChunk['choices'][number];

export function chatFormat(params: FormatParams): CompletionFormat {
  const { created, model, includeUsage } = params;
  const id = `chatcmpl-${params.id}`;
  const logprobsOf = (tokens: readonly ScoredToken[]): ChatChoice['logprobs'] =>
    params.logprobs
      ? { content: tokens.map((token) => chatLogprob(params.tokenizer, token)), refusal: null }
      : null;
  const chunk = (choices: ChatChoice[]): ChatCompletionChunk => ({
    id,
    object: 'chat.completion.chunk',
    created,
    model,
    choices,
    ...(includeUsage ? { usage: null } : {}),
  });
  const { calls } = params;
  const readers = Array.from(
    { length: calls === null ? 0 : params.choices },
    () => new ToolCallReader(calls!),
  );
  /** Started calls of each choice. */
  const begun = new Array<number>(params.choices).fill(0);
  /** OpenAI's ids have 24 letters after the prefix. */
  const callId = (choice: number, call: number): string =>
    `call_${params.id.slice(0, 20)}${choice.toString(36)}${call.toString(36).padStart(3, '0')}`;
  const finishOf = (choice: number, reason: FinishReason): ChatFinishReason =>
    reason === 'stop' && readers[choice]?.called === true ? 'tool_calls' : reason;
  const deltaOf = (choice: number, piece: AnswerPiece): ChatChoice['delta'] => {
    if (piece.kind === 'text') return { content: piece.text };
    if (piece.kind === 'arguments')
      return { tool_calls: [{ index: begun[choice]! - 1, function: { arguments: piece.text } }] };
    begun[choice] = begun[choice]! + 1;
    const at = begun[choice] - 1;
    const called = { name: piece.name, arguments: '' };
    return { tool_calls: [{ index: at, id: callId(choice, at), type: 'function', function: called }] };
  };
  const chunksOf = (
    index: number,
    pieces: readonly AnswerPiece[],
    logprobs: ChatChoice['logprobs'],
  ): unknown[] =>
    pieces.map((piece, at) =>
      chunk([
        { index, delta: deltaOf(index, piece), logprobs: at === 0 ? logprobs : null, finish_reason: null },
      ]),
    );
  const messageOf = (index: number, text: string): ChatCompletion['choices'][number]['message'] => {
    const reader = readers[index];
    if (reader === undefined) return { role: 'assistant', content: text, refusal: null };
    let content = '';
    const made: ModelToolCall[] = [];
    for (const piece of [...reader.push(text), ...reader.flush()]) {
      if (piece.kind === 'text') content += piece.text;
      else if (piece.kind === 'arguments') made.at(-1)!.function.arguments += piece.text;
      else
        made.push({
          id: callId(index, made.length),
          type: 'function',
          function: { name: piece.name, arguments: '' },
        });
    }
    return {
      role: 'assistant',
      content: content === '' && made.length > 0 ? null : content,
      refusal: null,
      ...(made.length === 0 ? {} : { tool_calls: made }),
    };
  };
  return {
    named: false,
    opening: () =>
      Array.from({ length: params.choices }, (_, index) =>
        chunk([
          {
            index,
            delta: { role: 'assistant', content: calls === null ? '' : null },
            logprobs: null,
            finish_reason: null,
          },
        ]),
      ),
    piece(index, event) {
      if (event.kind === 'prompt') return [];
      const silent = event.text === '' && !(params.logprobs && event.tokens.length > 0);
      if (silent) return [];
      const logprobs = logprobsOf(event.tokens);
      const reader = readers[index];
      if (reader !== undefined) {
        const chunks = chunksOf(index, reader.push(event.text), logprobs);
        if (chunks.length > 0 || !params.logprobs) return chunks;
        return [chunk([{ index, delta: {}, logprobs, finish_reason: null }])];
      }
      return [chunk([{ index, delta: { content: event.text }, logprobs, finish_reason: null }])];
    },
    closing: (index, finishReason) => [
      ...chunksOf(index, readers[index]?.flush() ?? [], null),
      chunk([{ index, delta: {}, logprobs: null, finish_reason: finishOf(index, finishReason) }]),
    ],
    ending: (usage) => (includeUsage ? [{ ...chunk([]), usage }] : []),
    failure: errorBody,
    whole: (answers, usage): ChatCompletion => ({
      id,
      object: 'chat.completion',
      created,
      model,
      choices: answers.map(({ text, tokens, finishReason }, index) => ({
        index,
        message: messageOf(index, text),
        logprobs: logprobsOf(tokens),
        finish_reason: finishOf(index, finishReason),
      })),
      usage,
      ...(params.promptLogprobs == null
        ? {}
        : {
            prompt_logprobs: promptLogprobs(params.tokenizer, answers[0]!.prompt, params.promptLogprobs),
          }),
    }),
  };
}

type TextChoice = TextCompletion['choices'][number];

/**
 * @param params.echoes each prompt's text, if the client wants it before the answers (with its
 * log-probabilities).
 * @param params.topLogprobs alternatives per position that the client wants for those.
 * @param params.showSpecial whether answers' texts contain control tokens.
 */
export function textFormat(
  params: FormatParams & { echoes: readonly (Echo | null)[]; topLogprobs: number; showSpecial: boolean },
): CompletionFormat {
  const { created, model, includeUsage, tokenizer } = params;
  const id = `cmpl-${params.id}`;
  /** Characters before each choice's next token, for `text_offset`. */
  const offsets = new Array<number>(params.choices).fill(0);
  /** A character may span several tokens: it counts once, with the last of them. */
  const decoders = offsets.map(() => new TextDecoder('utf-8', { ignoreBOM: true }));
  const logprobsOf = (
    index: number,
    prompt: readonly ScoredToken[],
    answer: readonly ScoredToken[],
  ): TextLogprobs | null => {
    if (!params.logprobs) return null;
    const tokens = [...prompt, ...answer];
    const echo = params.echoes[promptAt(index)];
    const places = tokens.map(({ id }, place) => {
      const at = offsets[index]!;
      const ofAnswer = place >= prompt.length;
      const hidden = ofAnswer ? !params.showSpecial && tokenizer.isSpecial(id) : echo?.leavesOut(id, place);
      const bytes = hidden === true ? undefined : (tokenizer.tokenBytes(id) ?? undefined);
      // The answer starts with a new character, like its text.
      const stream = place !== prompt.length - 1;
      offsets[index] = at + decoders[index]!.decode(bytes, { stream }).length;
      return at;
    });
    return {
      tokens: tokens.map((token) => tokenKey(tokenizer, token.id)),
      token_logprobs: tokens.map(textLogprob),
      top_logprobs: tokens.map((token) => topLogprobs(tokenizer, token)),
      text_offset: places,
    };
  };
  const chunk = (choices: TextChoice[]): TextCompletion => ({
    id,
    object: 'text_completion',
    created,
    model,
    choices,
    ...(includeUsage ? { usage: null } : {}),
  });
  /** The choice's prompt. All prompts have the same number of consecutive choices. */
  const promptAt = (index: number): number => Math.floor((index * params.echoes.length) / params.choices);
  const echoOf = (index: number): string => params.echoes[promptAt(index)]?.text ?? '';
  /**
   * The scores of an echoed prompt, with as many alternatives as the client wants for the answer's tokens.
   */
  const echoed = (index: number, prompt: readonly ScoredToken[]): readonly ScoredToken[] => {
    if (params.echoes[promptAt(index)] === null) return [];
    const most = params.topLogprobs;
    return prompt.map((token) =>
      token.top.length > most ? { ...token, top: token.top.slice(0, most) } : token,
    );
  };
  return {
    named: false,
    opening: () =>
      // With log-probabilities, the prompt's text is sent later, with the event that has its scores.
      Array.from({ length: params.logprobs ? 0 : params.choices }, (_, index) => index)
        .filter((index) => echoOf(index) !== '')
        .map((index) => chunk([{ index, text: echoOf(index), logprobs: null, finish_reason: null }])),
    piece(index, event) {
      const text = event.kind === 'prompt' ? echoOf(index) : event.text;
      if (text === '' && !(params.logprobs && event.tokens.length > 0)) return [];
      const [prompt, answer] = event.kind === 'prompt' ? [event.tokens, []] : [[], event.tokens];
      return [chunk([{ index, text, logprobs: logprobsOf(index, prompt, answer), finish_reason: null }])];
    },
    closing: (index, finishReason) => [
      chunk([{ index, text: '', logprobs: null, finish_reason: finishReason }]),
    ],
    ending: (usage) => (includeUsage ? [{ ...chunk([]), usage }] : []),
    failure: errorBody,
    whole: (answers, usage): TextCompletion => ({
      id,
      object: 'text_completion',
      created,
      model,
      choices: answers.map(({ text, prompt, tokens, finishReason }, index) => ({
        index,
        text: echoOf(index) + text,
        logprobs: logprobsOf(index, echoed(index, prompt), tokens),
        finish_reason: finishReason,
        ...(params.promptLogprobs == null
          ? {}
          : { prompt_logprobs: promptLogprobs(tokenizer, prompt, params.promptLogprobs) }),
      })),
      usage,
    }),
  };
}

/**
 * An answer in the form of Anthropic's Messages API: one choice, with its text and calls as blocks.
 * @param prompted tokens of the prompt, for the first event.
 */
export function messagesFormat(
  params: Pick<FormatParams, 'id' | 'model' | 'calls'> & { prompted: number },
): CompletionFormat {
  const reader = params.calls === null ? null : new ToolCallReader(params.calls);
  const read = (text: string): AnswerPiece[] =>
    reader?.push(text) ?? (text === '' ? [] : [{ kind: 'text', text }]);
  const callId = (at: number): string => `toolu_${params.id.slice(0, 20)}${at.toString(36).padStart(4, '0')}`;
  const answer = (
    rest: Pick<MessagesAnswer, 'content' | 'usage'> & Partial<MessagesAnswer>,
  ): MessagesAnswer => ({
    id: `msg_${params.id}`,
    type: 'message',
    role: 'assistant',
    model: params.model,
    stop_reason: null,
    stop_sequence: null,
    ...rest,
  });
  const endOf = (
    reason: FinishReason,
    stop?: string,
  ): Pick<MessagesAnswer, 'stop_reason' | 'stop_sequence'> => {
    const stop_reason: MessagesStopReason =
      reason === 'length'
        ? 'max_tokens'
        : stop !== undefined
          ? 'stop_sequence'
          : reader?.called === true
            ? 'tool_use'
            : 'end_turn';
    return { stop_reason, stop_sequence: stop ?? null };
  };
  let ended = endOf('stop');
  /** Started blocks, and the kind of the last one if it is open. */
  let blocks = 0;
  let open: 'text' | 'tool_use' | null = null;

  const close = (): MessagesEvent[] => {
    const events: MessagesEvent[] = open === null ? [] : [{ type: 'content_block_stop', index: blocks - 1 }];
    open = null;
    return events;
  };
  const begin = (content_block: MessagesContent): MessagesEvent[] => {
    const events = close();
    blocks += 1;
    open = content_block.type;
    return [...events, { type: 'content_block_start', index: blocks - 1, content_block }];
  };
  const said = (piece: AnswerPiece): MessagesEvent[] => {
    if (piece.kind === 'call')
      return begin({ type: 'tool_use', id: callId(blocks), name: piece.name, input: {} });
    const before = piece.kind === 'text' && open !== 'text' ? begin({ type: 'text', text: '' }) : [];
    const delta =
      piece.kind === 'text'
        ? { type: 'text_delta' as const, text: piece.text }
        : { type: 'input_json_delta' as const, partial_json: piece.text };
    return [...before, { type: 'content_block_delta', index: blocks - 1, delta }];
  };

  return {
    named: true,
    opening: () => {
      const usage = usageOf({ prompt_tokens: params.prompted, completion_tokens: 0 });
      return [{ type: 'message_start', message: answer({ content: [], usage }) } satisfies MessagesEvent];
    },
    piece: (_choice, event) => (event.kind === 'prompt' ? [] : read(event.text).flatMap(said)),
    heartbeat: { type: 'ping' } satisfies MessagesEvent,
    closing(_choice, finishReason, stop) {
      const rest = reader?.flush() ?? [];
      ended = endOf(finishReason, stop);
      const events = rest.flatMap(said);
      // An answer has at least one block, if only an empty one.
      if (blocks === 0) events.push(...begin({ type: 'text', text: '' }));
      return [...events, ...close()];
    },
    ending: (usage) => [
      { type: 'message_delta', delta: ended, usage: usageOf(usage) } satisfies MessagesEvent,
      { type: 'message_stop' } satisfies MessagesEvent,
    ],
    failure: messagesError,
    whole(answers, usage) {
      const { text, finishReason, stop } = answers[0]!;
      const content = contentOf([...read(text), ...(reader?.flush() ?? [])], callId);
      return answer({ content, usage: usageOf(usage), ...endOf(finishReason, stop) });
    },
  };
}

/** @param callId of the block at an index. */
function contentOf(pieces: readonly AnswerPiece[], callId: (at: number) => string): MessagesContent[] {
  const blocks: ({ kind: 'text'; text: string } | { kind: 'call'; name: string; json: string })[] = [];
  for (const piece of pieces) {
    const last = blocks.at(-1);
    if (piece.kind === 'call') blocks.push({ kind: 'call', name: piece.name, json: '' });
    else if (piece.kind === 'arguments') {
      if (last?.kind === 'call') last.json += piece.text;
    } else if (last?.kind === 'text') last.text += piece.text;
    else blocks.push({ kind: 'text', text: piece.text });
  }
  if (blocks.length === 0) return [{ type: 'text', text: '' }];
  return blocks.map((block, at) =>
    block.kind === 'text'
      ? { type: 'text', text: block.text }
      : { type: 'tool_use', id: callId(at), name: block.name, input: inputOf(block.json) },
  );
}

/** A truncated answer may have incomplete JSON, and so no object. */
function inputOf(json: string): Record<string, unknown> {
  try {
    return JSON.parse(json) as Record<string, unknown>;
  } catch {
    return {};
  }
}

/** Anthropic does not count cached tokens as input tokens. */
const usageOf = (usage: Omit<Usage, 'total_tokens'>): MessagesUsage => ({
  input_tokens: usage.prompt_tokens - (usage.prompt_tokens_details?.cached_tokens ?? 0),
  output_tokens: usage.completion_tokens,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
});

/** JSON has no infinities; OpenAI's clients understand this value as "never". */
const LOWEST_LOGPROB = -9999;

const finite = (logprob: number): number => (Number.isFinite(logprob) ? logprob : LOWEST_LOGPROB);

/** One token in the form of chat completions. */
export function chatLogprob(tokenizer: Tokenizer, scored: ScoredToken): TokenLogprob {
  const one = ({ id, logprob }: TokenScore) => ({
    token: tokenText(tokenizer, id),
    logprob: finite(logprob),
    bytes: [...(tokenizer.tokenBytes(id) ?? [])],
  });
  return {
    ...one({ id: scored.id, logprob: scored.logprob ?? LOWEST_LOGPROB }),
    top_logprobs: scored.top.map(one),
  };
}

/** The most likely tokens at one position in the form of text completions, including the chosen one. */
function topLogprobs(tokenizer: Tokenizer, scored: ScoredToken): Record<string, number> | null {
  if (scored.logprob === null) return null;
  const entries = [...scored.top, { id: scored.id, logprob: scored.logprob }];
  return Object.fromEntries(entries.map(({ id, logprob }) => [tokenKey(tokenizer, id), finite(logprob)]));
}

const textLogprob = (scored: ScoredToken): number | null =>
  scored.logprob === null ? null : finite(scored.logprob);

/**
 * A prompt's tokens in vLLM's form.
 * @param count maximum alternatives per position.
 */
const promptLogprobs = (
  tokenizer: Tokenizer,
  tokens: readonly ScoredToken[],
  count: number,
): PromptLogprobs =>
  tokens.map(({ id, logprob, rank, top }) => {
    if (logprob === null) return null;
    const entry = (token: number, value: number, place: number) =>
      [token, { logprob: finite(value), rank: place, decoded_token: tokenText(tokenizer, token) }] as const;
    const likeliest = top.slice(0, count).map((token, at) => entry(token.id, token.logprob, at + 1));
    return Object.fromEntries([...likeliest, entry(id, logprob, rank ?? 1)]);
  });

/** The functions that answers may call, and the syntax of calls; null if there are none. */
function toolsOf(
  request: GenerationRequest,
  { chatTemplate }: Pick<Services, 'chatTemplate'>,
): AskedTools | null {
  const use = 'prompt' in request ? null : toolUseOf(request);
  if (use === null) return null;
  const within = 'messages' in request ? ['function'] : [];
  return { use, format: chatTemplate?.toolFormat ?? 'hermes', within };
}

/**
 * Compiles the constraints of a request's answers before anything is queued; never in this thread.
 * @returns null if there are none.
 */
export async function prepareGrammar(
  request: GenerationRequest,
  services: Pick<Services, 'grammars' | 'chatTemplate'>,
  caller: GrammarCaller,
): Promise<Result<Grammar | null, ApiError>> {
  const [constraint = null] = constraintsOf(request);
  const tools = toolsOf(request, services);
  if (constraint === null && tools === null) return ok(null);
  return services.grammars.prepare({ asked: { constraint, tools }, caller });
}

export type AnswerPiece =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'call'; readonly name: string }
  /** Of the latest call; JSON. */
  | { readonly kind: 'arguments'; readonly text: string };

/** Syntax of the calls in a request's answers. */
interface CallSyntax {
  readonly format: CallFormat;
  readonly names: readonly string[];
  /** Whether answers consist only of calls. */
  readonly only: boolean;
}

/** The syntax of calls in a request's answers; null if there are none. */
export function callSyntaxOf(
  request: GenerationRequest,
  services: Pick<Services, 'chatTemplate'>,
): CallSyntax | null {
  const tools = toolsOf(request, services);
  if (tools === null) return null;
  const { functions, choice } = tools.use;
  return { format: tools.format, names: functions.map(({ name }) => name), only: choice !== 'auto' };
}

type Place = 'text' | 'arguments' | 'end' | 'plain';

/**
 * Finds calls in an answer that arrives in pieces. The grammar guarantees that whatever starts like a call is
 * one.
 */
export class ToolCallReader {
  readonly #heads: { text: string; name: string }[];
  /** Only calls start with this; an answer may end with a part of it. */
  readonly #mark: string;
  readonly #end: string;
  readonly #longest: number;
  /** A call may start anywhere, not only at the answer's start. */
  readonly #anywhere: boolean;
  readonly #only: boolean;
  /** Complete calls. */
  #whole = 0;
  #place: Place = 'text';
  #held = '';
  #depth = 0;
  #inString = false;
  #escaped = false;

  constructor({ format, names, only }: CallSyntax) {
    this.#only = only;
    const { begin, between, end } = CALL_SHAPES[format];
    this.#heads = names.map((name) => ({ text: begin + name + between, name }));
    this.#longest = Math.max(...this.#heads.map(({ text }) => text.length));
    this.#end = end;
    this.#anywhere = format === 'hermes';
    this.#mark = this.#anywhere ? begin.slice(0, begin.indexOf('>') + 1) : begin.slice(0, 1);
  }

  /** Whether the next characters belong to a call. */
  get inCall(): boolean {
    return this.#place === 'arguments' || this.#place === 'end';
  }

  /**
   * Whether the last call's arguments are incomplete; if the answer has ended, such as at a stop string, they
   * were cut.
   */
  get isCut(): boolean {
    return this.#place === 'arguments';
  }

  /** Whether there are calls, and all of them are complete. */
  get called(): boolean {
    return this.#whole > 0 && !this.isCut;
  }

  /** @returns what is certain so far. */
  push(text: string): AnswerPiece[] {
    this.#held += text;
    const pieces: AnswerPiece[] = [];
    for (let more = true; more;) more = this.#step(pieces);
    return pieces;
  }

  /**
   * Call when the answer has ended.
   * @returns the text that was held back, without a call that has no name yet.
   */
  flush(): AnswerPiece[] {
    const begun = this.#held.trimStart();
    // After a call this is another one, cut within its mark.
    const isCall = begun.startsWith(this.#mark) || (this.#whole > 0 && this.#isBegun(begun));
    const rest = this.#place === 'text' && !isCall && !this.#only ? this.#held : '';
    this.#held = '';
    // Whitespace between calls is not text.
    return rest === '' || (this.#whole > 0 && rest.trim() === '') ? [] : [{ kind: 'text', text: rest }];
  }

  /** @returns whether the held text may contain more. */
  #step(pieces: AnswerPiece[]): boolean {
    switch (this.#place) {
      case 'plain':
        if (this.#held !== '') pieces.push({ kind: 'text', text: this.#held });
        this.#held = '';
        return false;
      case 'text':
        return this.#text(pieces);
      case 'arguments':
        return this.#arguments(pieces);
      case 'end':
        if (this.#held.length < this.#end.length) return false;
        this.#held = this.#held.slice(this.#end.length);
        this.#place = 'text';
        return this.#held !== '';
    }
  }

  #text(pieces: AnswerPiece[]): boolean {
    const call = this.#firstCall();
    if (call !== null) {
      const before = this.#held.slice(0, call.at).trimEnd();
      if (before !== '') pieces.push({ kind: 'text', text: before });
      pieces.push({ kind: 'call', name: call.name });
      this.#held = this.#held.slice(call.at + call.text.length);
      this.#place = 'arguments';
      return true;
    }
    if (!this.#anywhere) {
      if (!this.#isBegun(this.#held)) this.#place = 'plain';
      return this.#place === 'plain';
    }
    const certain = this.#certain();
    if (certain > 0) pieces.push({ kind: 'text', text: this.#held.slice(0, certain) });
    this.#held = this.#held.slice(certain);
    return false;
  }

  /** Among the calls that start in the held text: a whole answer may arrive in one piece. */
  #firstCall(): { at: number; text: string; name: string } | null {
    let first: { at: number; text: string; name: string } | null = null;
    for (const head of this.#heads) {
      const at = this.#anywhere ? this.#held.indexOf(head.text) : this.#held.startsWith(head.text) ? 0 : -1;
      if (at >= 0 && (first === null || at < first.at)) first = { ...head, at };
    }
    return first;
  }

  /** Length of the held text before any possible start of a call, without trailing whitespace. */
  #certain(): number {
    const held = this.#held;
    let length = Math.min(this.#longest - 1, held.length);
    while (length > 0 && !this.#isBegun(held.slice(held.length - length))) length -= 1;
    return held.slice(0, held.length - length).trimEnd().length;
  }

  /** Whether it may become a call. */
  #isBegun(text: string): boolean {
    return text !== '' && this.#heads.some((head) => head.text.startsWith(text));
  }

  #arguments(pieces: AnswerPiece[]): boolean {
    let at = 0;
    let ended = false;
    for (; at < this.#held.length && !ended; at += 1) ended = this.#ends(this.#held[at]!);
    if (at > 0) pieces.push({ kind: 'arguments', text: this.#held.slice(0, at) });
    this.#held = this.#held.slice(at);
    if (!ended) return false;
    this.#whole += 1;
    this.#place = 'end';
    return true;
  }

  /**
   * Consumes one character of the arguments.
   * @returns whether it closes the object.
   */
  #ends(character: string): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === '\\') this.#escaped = true;
      else if (character === '"') this.#inString = false;
      return false;
    }
    if (character === '"') this.#inString = true;
    if (character === '{' || character === '[') this.#depth += 1;
    if (character === '}' || character === ']') this.#depth -= 1;
    return this.#depth === 0;
  }
}
