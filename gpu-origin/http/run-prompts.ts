/**
 * Runs the prompts of a request, some at a time, and counts what it uses: tokens, which the edge is told, and time, which
 * the client is.
 */
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { MAX_CHOICES } from '../../protocol/limits.ts';
import type { EngineEvent, EngineHandle } from '../engine/engine.ts';
import type { Prompt } from '../prompts/prompt.ts';
import type { FinishReason, Usage } from '../../protocol/completion-answers.ts';
import type { RequestUsage, UsageNote } from '../../protocol/origin-wire.ts';

const NOTHING_USED = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };

/**
 * Queues the first prompt, or says why not. The others follow as rows end: a list of prompts never has more rows than a
 * request for the most answers to one prompt, and so no more of the queue. Choice i of prompt p is p * choices + i.
 * Whatever is in the way of a later prompt is an event of its first choice; it waits for room in the queue.
 */
export async function runPrompts(params: {
  prompts: readonly Prompt[];
  /** Of each prompt. */
  choices: number;
  add: (prompt: Prompt, at: number) => Promise<Result<readonly EngineHandle[], ApiError>>;
  /** Hears of each prompt that is not run after all. */
  onDrop: (at: number) => void;
  /** Aborts when nobody wants the answer any more. */
  signal: AbortSignal;
}): Promise<Result<AsyncGenerator<ChoiceEvent, undefined>, ApiError>> {
  const { prompts, choices, add, onDrop, signal } = params;
  const first = await add(prompts[0]!, 0);
  if (!first.ok) return err(first.error);
  const waiting = [...prompts.keys()].slice(1);
  const drop = (): void => waiting.splice(0).forEach(onDrop);
  if (signal.aborted) drop();
  else signal.addEventListener('abort', drop, { once: true });
  const lanes = Math.min(prompts.length, Math.max(1, Math.floor(MAX_CHOICES / choices)));
  /** Lanes that have not ended. */
  let open = lanes;

  async function* run(handles: readonly EngineHandle[], at: number): AsyncGenerator<ChoiceEvent, undefined> {
    for await (const { choice, event } of mergeChoices(handles))
      yield { choice: at * choices + choice, event };
  }

  /** One prompt after the other. */
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
      // Its other rows will end, and go on with this one.
      if (open > 1) break;
      await pause(full, signal);
    }
    open -= 1;
  }

  const sources = Array.from({ length: lanes }, (_, at) => lane(at === 0 ? first.value : null));
  return ok(valuesOf(sources));
}

async function* valuesOf(
  sources: readonly AsyncGenerator<ChoiceEvent, undefined>[],
): AsyncGenerator<ChoiceEvent, undefined> {
  for await (const { value } of merge(sources)) yield value;
}

/** @returns earlier when it is called off. */
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

/** Events of several answers as they come, each choice's own in order. */
export async function* mergeChoices(
  handles: readonly EngineHandle[],
): AsyncGenerator<ChoiceEvent, undefined> {
  const iterators = handles.map(
    ({ events }) => events[Symbol.asyncIterator]() as AsyncIterator<EngineEvent, undefined>,
  );
  for await (const { source, value } of merge(iterators)) yield { choice: source, event: value };
}

/**
 * What several sources give, as it comes. Reads no further ahead than one value a source, so that a reader who is too
 * slow is noticed where it always is: in the engine's channel.
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

/** The edge cancels within seconds of a client's leaving; work after a response has 30 s there. */
const KEPT_MS = 60_000;
/** Requests that are remembered, each about 200 bytes: far more than end in that time. */
const MAX_ENTRIES = 16_384;
/** A row ends at the step after its cancellation, and a step takes less; the edge waits for 5 s. */
const WAIT_MS = 4_000;

interface Entry {
  /** Answers that have not ended. */
  open: number;
  /** Of each of its prompts. */
  readonly promptTokens: Map<number, number>;
  completionTokens: number;
  /** Unix ms; null while it runs. */
  endedAt: number | null;
  /** Ends its answers. */
  cancel: () => void;
  /** What comes under its id from now on is not run. */
  cancelled: boolean;
  waiting: (() => void)[];
}

const nothing = (): void => undefined;

/** One request's entry, while it runs. */
export interface TrackedUsage {
  /** One of its answers has ended. @param ran tokens that the model has run for it. @param prompt which, from 0. */
  ended(ran: { promptTokens: number; completionTokens: number }, prompt?: number): void;
  /** Nothing of it was run. */
  refused(): void;
}

/** The requests of edges, which cancel those that their clients leave, and are told what they used. */
export class UsageMemory {
  /** By id and signing key: nobody cancels another edge's. Those that began first come first. */
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;
  readonly #limits: { keptMs: number; entries: number; waitMs: number };

  /** @param now unix ms. */
  constructor(now: () => number, limits = { keptMs: KEPT_MS, entries: MAX_ENTRIES, waitMs: WAIT_MS }) {
    this.#now = now;
    this.#limits = limits;
  }

  /**
   * @param id under which it may be cancelled. @param kid whose signature it has. @param answers to all of its prompts.
   * @param cancel ends them; called at once when the cancellation has overtaken the request.
   */
  begin(id: string, kid: string, answers: number, cancel: () => void): TrackedUsage {
    const cancelled = this.#entries.get(keyOf(id, kid))?.cancelled === true;
    const entry = this.#note(id, kid, { open: answers, cancel, cancelled });
    const close = (): void => {
      entry.endedAt = this.#now();
      // It leads to all that was made for the request.
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

  /** Ends a request, or sees to it that it never begins. @returns what it used, at its end or after a moment. */
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

  /** What ended long ago, and the oldest of too many. Running ones are bounded by the engine's queue. */
  #forget(): void {
    const until = this.#now() - this.#limits.keptMs;
    for (const [key, { endedAt }] of this.#entries) {
      const old = endedAt !== null && endedAt <= until;
      if (!old && this.#entries.size < this.#limits.entries) break;
      if (endedAt !== null) this.#entries.delete(key);
    }
  }
}

/** Ids are UUIDs, all of one length. */
const keyOf = (id: string, kid: string): string => `${id} ${kid}`;

/**
 * What a request used: a prompt counts once, what was generated for every choice.
 * @param prompted tokens of the prompts. @param perPrompt choices of each.
 */
export function usageCounter(prompted: number, perPrompt: number) {
  let generated = 0;
  let shown = 0;
  let ended = 0;
  /** By prompt, of the choice that found least of it kept: the first one, which then keeps it for the others. */
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
    /** Tokens of an answer that has not ended. */
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

/** `Server-Timing` of one answer: what followed what, in ms; see docs/run/alerts.md. @param now ms. */
export function startTiming(now: () => number) {
  const laps: string[] = [];
  let last = now();
  let begunAt: number | null = null;
  const say = (name: string, until: number): void => {
    laps.push(`${name};dur=${Math.max(0, Math.round(until - last))}`);
  };
  /** The time since the last lap, or the beginning, went into this. @param name lower-case letters. */
  const lap = (name: string): void => {
    const at = now();
    say(name, at);
    last = at;
  };
  return {
    lap,
    /** A row begins to read the prompt. Of several the first one counts. */
    begin: (): void => void (begunAt ??= now()),
    /**
     * The lap `first`, to the first event, and before it `queue`: the part of it until a row began. No `queue` where an
     * answer needed none.
     * @param isOver false: there is no event yet, but headers go now. While no row has begun there is `queue` alone, so far.
     */
    first(isOver: boolean): void {
      if (begunAt === null && !isOver) return lap('queue');
      if (begunAt !== null) say('queue', begunAt);
      lap('first');
    },
    headers: () => ({ 'server-timing': laps.join(', ') }),
  };
}
