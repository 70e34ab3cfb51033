import { outcomeValues } from '../experiments/outcome.ts';
import type { EventMark, ExperimentSink } from '../experiments/ports.ts';
import type { Part } from '../experiments/take-part.ts';
import { keepAlive, type AppContext } from '../http/request-scope.ts';
import type { CompletionEnding } from '../metering/ports.ts';

interface RecordDeps {
  experimentSink: ExperimentSink;
  /** Unix ms. */
  now: () => number;
}

/** The request's part in an experiment, found out while it is served. */
export interface Taking {
  part: Part | null;
  /** Something else answered in the variant's place. */
  stoodIn: boolean;
  /** It waited for an adapter: the next request by this name will not. */
  cold: boolean;
}

/** What is still under way may be left, stall, or outlive this isolate: its unit counts from now on. */
export const recordBeginning = (deps: RecordDeps, context: AppContext, taking: Taking): void =>
  record(deps, context, taking, { values: {}, marks: [] });

export const recordEnding = (
  deps: RecordDeps,
  context: AppContext,
  taking: Taking,
  ending: CompletionEnding,
): void =>
  record(deps, context, taking, {
    values: valuesOf(context, taking, ending),
    marks: taking.cold ? ['answered', 'cold'] : ['answered'],
  });

function record(
  deps: RecordDeps,
  context: AppContext,
  { part }: Taking,
  { values, marks }: { values: Record<string, number>; marks: readonly EventMark[] },
): void {
  if (part === null || !part.counted) return;
  const { experiment, seed, variant, unit } = part;
  deps.experimentSink.record(
    {
      ...{ experiment, seed, variant, unit, at: deps.now(), values, shadow: false },
      marks: part.nameless ? [...marks, 'nameless'] : marks,
      ...(part.segment === undefined ? {} : { segment: part.segment }),
    },
    (work) => keepAlive(context, work),
  );
}

/** @returns nothing of what says nothing of the variant; its unit is exposed all the same. */
function valuesOf(
  context: AppContext,
  { stoodIn, cold }: Taking,
  ending: CompletionEnding,
): Record<string, number> {
  const { startedAt } = context.get('trace');
  const { firstAt, endedAt } = ending;
  const ttftMs = (firstAt ?? endedAt) - startedAt;
  return outcomeValues({ ...ending, ttftMs, latencyMs: endedAt - startedAt, stoodIn, cold }) ?? {};
}
