import type { EngineEvent, EngineHandle } from '../engine/engine.ts';

export interface ChoiceEvent {
  readonly choice: number;
  readonly event: EngineEvent;
}

/**
 * Events of several answers as they come, each choice's own in order. Reads no further ahead than one event a choice,
 * so that a reader who is too slow is noticed where it always is: in the engine's channel.
 */
export async function* mergeChoices(
  handles: readonly EngineHandle[],
): AsyncGenerator<ChoiceEvent, undefined> {
  const arrived: { choice: number; result: IteratorResult<EngineEvent, undefined> }[] = [];
  let wake = (): void => undefined;
  const ask = handles.map(({ events }, choice) => {
    const iterator = events[Symbol.asyncIterator]() as AsyncIterator<EngineEvent, undefined>;
    return () =>
      void iterator.next().then((result) => {
        arrived.push({ choice, result });
        wake();
      });
  });
  for (const next of ask) next();
  let open = handles.length;
  while (open > 0) {
    const first = arrived.shift();
    if (first === undefined) {
      await new Promise<void>((resolve) => (wake = resolve));
      continue;
    }
    const { choice, result } = first;
    if (result.done === true) {
      open -= 1;
      continue;
    }
    yield { choice, event: result.value };
    ask[choice]!();
  }
}
