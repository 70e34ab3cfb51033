import type { EngineEvent, EngineHandle } from '../engine/engine.ts';

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
export async function* merge<T>(
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
