/** Runs the prompts of a request, some at a time. */
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { MAX_CHOICES } from '../../protocol/limits.ts';
import type { EngineEvent, EngineHandle } from '../engine/engine.ts';
import type { Prompt } from '../prompts/prompt.ts';

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
