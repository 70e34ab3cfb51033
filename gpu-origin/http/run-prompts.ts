/**
 * Runs a request's prompts, some at a time, and measures what it uses: tokens for the edge, times for the
 * client.
 */
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { MAX_CHOICES } from '../../protocol/limits.ts';
import type { EngineEvent, EngineHandle } from '../engine/engine.ts';
import type { Prompt } from '../prompts/prompt.ts';
import type { FinishReason, Usage } from '../../protocol/completion-answers.ts';
import type { RequestUsage, UsageNote } from '../../protocol/origin-wire.ts';

const NOTHING_USED = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };

/**
 * Queues the first prompt, or returns why it cannot. The others follow as rows end, so a list of prompts
 * never has more rows, or space in the queue, than a request for the most answers to one prompt. Choice i of
 * prompt p is p * choices + i. An error of a later prompt is an event of its first choice; a later prompt
 * waits for space in the queue.
 */
export async function runPrompts(params: {
  prompts: readonly Prompt[];
  /** Per prompt. */
  choices: number;
  add: (prompt: Prompt, at: number) => Promise<Result<readonly EngineHandle[], ApiError>>;
  /** Called for each prompt that is not run after all. */
  onDrop: (at: number) => void;
  /** Aborts when nobody wants the answer any more. */
  signal: AbortSignal;
}): Promise<Result<AsyncGenerator<ChoiceEvent, undefined>, ApiError>> {
  const { prompts, choices, add, onDrop, signal } = params;
  const first = await add(prompts[0]!, 0);
  if (!first.ok) return err(first.error);
  const waiting = [...prompts.keys()].slice(1);
  const dropped: number[] = [];
  const drop = (): void => {
    dropped.push(...waiting.splice(0));
    dropped.forEach(onDrop);
  };
  if (signal.aborted) drop();
  else signal.addEventListener('abort', drop, { once: true });
  const lanes = Math.min(prompts.length, Math.max(1, Math.floor(MAX_CHOICES / choices)));
  /** Lanes that have not ended. */
  let open = lanes;

  async function* run(handles: readonly EngineHandle[], at: number): AsyncGenerator<ChoiceEvent, undefined> {
    for await (const { choice, event } of mergeChoices(handles))
      yield { choice: at * choices + choice, event };
  }

  /** Runs prompts one after the other. */
  async function* lane(handles: readonly EngineHandle[] | null): AsyncGenerator<ChoiceEvent, undefined> {
    if (handles !== null) yield* run(handles, 0);
    for (let at = waiting.shift(); at !== undefined; at = waiting.shift()) {
      const added = await add(prompts[at]!, at);
      if (added.ok) {
        yield* run(added.value, at);
        continue;
      }
      const { error } = added;
      const full = error.code === 'queue_full' ? error.retryAfterMs : null;
      if (full === null || signal.aborted) {
        open -= 1;
        onDrop(at);
        yield { choice: at * choices, event: { kind: 'error', error, usage: NOTHING_USED } };
        return;
      }
      waiting.unshift(at);
      // Other rows of this request will end, and their lanes continue with this prompt.
      if (open > 1) break;
      await pause(full, signal);
    }
    open -= 1;
    // Where no row runs any more, nobody else says that the request was aborted.
    for (let at = dropped.shift(); at !== undefined; at = dropped.shift())
      yield { choice: at * choices, event: { kind: 'aborted', usage: NOTHING_USED } };
  }

  const sources = Array.from({ length: lanes }, (_, at) => lane(at === 0 ? first.value : null));
  return ok(valuesOf(sources));
}

async function* valuesOf(
  sources: readonly AsyncGenerator<ChoiceEvent, undefined>[],
): AsyncGenerator<ChoiceEvent, undefined> {
  for await (const { value } of merge(sources)) yield value;
}

/** @returns earlier if the signal aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(over, ms);
    function over(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', over);
      resolve();
    }
    signal.addEventListener('abort', over, { once: true });
  });
}

export interface ChoiceEvent {
  readonly choice: number;
  readonly event: EngineEvent;
}

/** Events of several answers as they arrive; each choice's own are in order. */
export async function* mergeChoices(
  handles: readonly EngineHandle[],
): AsyncGenerator<ChoiceEvent, undefined> {
  const iterators = handles.map(
    ({ events }) => events[Symbol.asyncIterator]() as AsyncIterator<EngineEvent, undefined>,
  );
  for await (const { source, value } of merge(iterators)) yield { choice: source, event: value };
}

/**
 * Merges several sources. Reads at most one value ahead per source, so that a slow client is still noticed in
 * one place: the engine's channel.
 */
async function* merge<T>(
  sources: readonly AsyncIterator<T, undefined>[],
): AsyncGenerator<{ source: number; value: T }, undefined> {
  const arrived: { source: number; result: IteratorResult<T, undefined> }[] = [];
  let failure: { error: unknown } | null = null;
  let wake = (): void => undefined;
  const ask = (source: number): void =>
    void sources[source]!.next().then(
      (result) => {
        arrived.push({ source, result });
        wake();
      },
      (error: unknown) => {
        failure = { error };
        wake();
      },
    );
  for (const source of sources.keys()) ask(source);
  let open = sources.length;
  while (open > 0) {
    const first = arrived.shift();
    if (first === undefined) {
      if (failure !== null) throw (failure as { error: unknown }).error;
      await new Promise<void>((resolve) => (wake = resolve));
      continue;
    }
    const { source, result } = first;
    if (result.done === true) {
      open -= 1;
      continue;
    }
    yield { source, value: result.value };
    ask(source);
  }
}

/**
 * The edge cancels within seconds after a client disconnects: its work after a response is limited to 30 s.
 */
const KEPT_MS = 60_000;
/** Remembered requests, about 200 bytes each: far more than end in that time. */
const MAX_ENTRIES = 16_384;
/** A cancelled row ends at the next step, which takes less; the edge waits for 5 s. */
const WAIT_MS = 4_000;

interface Entry {
  /** Running answers. */
  open: number;
  /** Per prompt. */
  readonly promptTokens: Map<number, number>;
  completionTokens: number;
  /** Unix ms; null while it runs. */
  endedAt: number | null;
  /** Ends its answers. */
  cancel: () => void;
  /** Answers that start under this id later are not run. */
  cancelled: boolean;
  waiting: (() => void)[];
}

const nothing = (): void => undefined;

/** One running request. */
export interface TrackedUsage {
  /**
   * One of its answers has ended.
   * @param ran tokens that the model has processed for it.
   * @param prompt index from 0.
   */
  ended(ran: { promptTokens: number; completionTokens: number }, prompt?: number): void;
  /** None of it was run. */
  refused(): void;
}

/** Requests from edges, which can cancel those that clients abandon, and get their usage. */
export class UsageMemory {
  /** By id and signing key: no edge can cancel another's request. Oldest first. */
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;
  readonly #limits: { keptMs: number; entries: number; waitMs: number };

  /** @param now unix ms. */
  constructor(now: () => number, limits = { keptMs: KEPT_MS, entries: MAX_ENTRIES, waitMs: WAIT_MS }) {
    this.#now = now;
    this.#limits = limits;
  }

  /**
   * @param id for cancelling it.
   * @param kid the signing key.
   * @param answers to all of its prompts.
   * @param cancel ends them; called at once if the cancellation arrived before the request.
   */
  begin(id: string, kid: string, answers: number, cancel: () => void): TrackedUsage {
    const cancelled = this.#entries.get(keyOf(id, kid))?.cancelled === true;
    const entry = this.#note(id, kid, { open: answers, cancel, cancelled });
    const close = (): void => {
      entry.endedAt = this.#now();
      // It references everything made for the request.
      entry.cancel = nothing;
      for (const wake of entry.waiting.splice(0)) wake();
    };
    if (cancelled) cancel();
    return {
      ended: ({ promptTokens, completionTokens }, prompt = 0) => {
        entry.open -= 1;
        // A prompt counts once, however many answers it has.
        entry.promptTokens.set(prompt, Math.max(entry.promptTokens.get(prompt) ?? 0, promptTokens));
        entry.completionTokens += completionTokens;
        if (entry.open === 0) close();
      },
      refused: close,
    };
  }

  /**
   * Cancels a request, or keeps it from starting.
   * @returns its usage, at its end or after a moment.
   */
  async cancel(id: string, kid: string): Promise<RequestUsage> {
    const entry = this.#entries.get(keyOf(id, kid));
    if (entry === undefined) {
      this.#note(id, kid, { open: 0, cancel: nothing, cancelled: true }).endedAt = this.#now();
      return { state: 'unknown', prompt_tokens: 0, completion_tokens: 0 };
    }
    entry.cancelled = true;
    entry.cancel();
    if (entry.endedAt === null) await this.#endOf(entry);
    return {
      state: entry.endedAt === null ? 'running' : 'ended',
      prompt_tokens: [...entry.promptTokens.values()].reduce((sum, tokens) => sum + tokens, 0),
      completion_tokens: entry.completionTokens,
    };
  }

  #endOf(entry: Entry): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#limits.waitMs);
      entry.waiting.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #note(id: string, kid: string, begun: Pick<Entry, 'open' | 'cancel' | 'cancelled'>): Entry {
    this.#forget();
    const entry: Entry = {
      ...begun,
      promptTokens: new Map(),
      completionTokens: 0,
      endedAt: null,
      waiting: [],
    };
    const key = keyOf(id, kid);
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  /**
   * Removes entries that ended long ago, and the oldest if there are too many. The engine's queue bounds
   * running ones.
   */
  #forget(): void {
    const until = this.#now() - this.#limits.keptMs;
    for (const [key, { endedAt }] of this.#entries) {
      const old = endedAt !== null && endedAt <= until;
      if (!old && this.#entries.size < this.#limits.entries) break;
      if (endedAt !== null) this.#entries.delete(key);
    }
  }
}

/** Ids are UUIDs, all of the same length. */
const keyOf = (id: string, kid: string): string => `${id} ${kid}`;

/**
 * Usage of a request: each prompt counts once, and the generated tokens of every choice.
 * @param prompted tokens of the prompts.
 * @param perPrompt choices per prompt.
 */
export function usageCounter(prompted: number, perPrompt: number) {
  let generated = 0;
  let shown = 0;
  let ended = 0;
  /**
   * Cached tokens of each prompt, from the choice with the fewest: the first one, which then caches it for
   * the others.
   */
  const cached: number[] = [];
  let finish: NonNullable<UsageNote['finish']> = 'stop';
  return {
    get ended() {
      return ended;
    },
    add(choice: number, { usage, finishReason }: { usage: Usage; finishReason: FinishReason }) {
      ended += 1;
      generated += usage.completion_tokens;
      const prompt = Math.floor(choice / perPrompt);
      cached[prompt] = Math.min(cached[prompt] ?? Infinity, usage.prompt_tokens_details?.cached_tokens ?? 0);
      if (finishReason === 'length') finish = 'length';
    },
    /** Generated tokens of a running answer. */
    shown(tokens: number) {
      shown += tokens;
    },
    note: (): UsageNote => ({
      promptTokens: prompted,
      completionTokens: Math.max(generated, shown),
      finish,
    }),
    total: (): Usage => {
      const kept = cached.reduce((sum, tokens) => sum + tokens, 0);
      return {
        prompt_tokens: prompted,
        completion_tokens: generated,
        total_tokens: prompted + generated,
        ...(kept > 0 ? { prompt_tokens_details: { cached_tokens: kept } } : {}),
      };
    },
  };
}

export type Timing = ReturnType<typeof startTiming>;

/**
 * `Server-Timing` of one answer: consecutive phases, ms; see docs/run/alerts.md.
 * @param now ms.
 */
export function startTiming(now: () => number) {
  const laps: string[] = [];
  let last = now();
  let begunAt: number | null = null;
  const say = (name: string, until: number): void => {
    laps.push(`${name};dur=${Math.max(0, Math.round(until - last))}`);
  };
  /**
   * Ends a phase that began with the previous lap, or the start.
   * @param name lower-case letters.
   */
  const lap = (name: string): void => {
    const at = now();
    say(name, at);
    last = at;
  };
  return {
    lap,
    /** A row starts to read the prompt. With several, the first one counts. */
    begin: (): void => void (begunAt ??= now()),
    /**
     * Ends the lap `first`, at the first event; `queue` is its part before a row started, if an answer needs
     * a row.
     * @param isOver false: there is no event yet, but headers are sent now. If no row has started, there is
     * only `queue` so far.
     */
    first(isOver: boolean): void {
      if (begunAt === null && !isOver) return lap('queue');
      if (begunAt !== null) say('queue', begunAt);
      lap('first');
    },
    headers: () => ({ 'server-timing': laps.join(', ') }),
  };
}
