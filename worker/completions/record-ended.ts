/** What is noted of a completion: its part in an experiment when it begins and ends, and its traffic when it has ended. */
import { outcomeValues } from '../experiments/outcome.ts';
import type { EventMark, ExperimentSink } from '../experiments/ports.ts';
import type { Part } from '../experiments/take-part.ts';
import { keepAlive, type AppContext } from '../http/request-scope.ts';
import type { CompletionEnding } from '../metering/ports.ts';
import type { EndedCompletion, TrafficSink } from '../traffic/ports.ts';

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

/**
 * Notes a completion that has ended, for the traffic over time and the list of requests: what it was, never what was said.
 * @param how.kept prompt and answer are kept. @param how.code of the error, where the trace does not know it. @param how.endedAt unix ms; now unless given.
 */
export function recordEnded(
  deps: { trafficSink: TrafficSink; now: () => number },
  context: AppContext,
  how: {
    status: number;
    code?: string;
    promptTokens?: number;
    completionTokens?: number;
    firstAt?: number | null;
    endedAt?: number;
    cold?: boolean;
    kept?: boolean;
  },
): EndedCompletion {
  const trace = context.get('trace');
  const { facts, startedAt } = trace;
  const { endedAt = deps.now(), firstAt = null } = how;
  const since = (at: number): number => Math.max(0, Math.round(at - startedAt));
  const ended: EndedCompletion = {
    id: context.get('requestId'),
    at: endedAt,
    tenant: facts.tenant ?? '',
    key_id: facts.keyId ?? '',
    name: facts.name ?? '',
    version: facts.version ?? 0,
    route: context.req.routePath,
    status: how.status,
    code: how.code ?? facts.code ?? '',
    stream: facts.stream ?? false,
    experiment: facts.experiment ?? '',
    variant: facts.variant ?? '',
    origin: facts.origin ?? '',
    degraded: facts.degraded ?? '',
    cold: how.cold ?? false,
    ...(how.kept === true ? { kept: true } : {}),
    prompt_tokens: how.promptTokens ?? 0,
    completion_tokens: how.completionTokens ?? 0,
    duration_ms: since(endedAt),
    ttft_ms: firstAt === null ? null : since(firstAt),
    phases: [
      ...trace.phases(),
      ...(facts.originPhases ?? []).map(([name, ms]) => [`origin-${name}`, ms] as const),
    ].map(([name, ms]) => ({ name, ms })),
  };
  deps.trafficSink.record(ended, (work) => keepAlive(context, work));
  return ended;
}
