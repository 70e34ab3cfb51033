/** What one request says of its variant, the automatic metrics by their keys, and how its part is noted when it begins and ends. */
import { keepAlive, type AppContext } from '../http/request-scope.ts';
import type { CompletionEnding } from '../metering/ports.ts';
import type { EventMark, ExperimentSink } from './ports.ts';
import type { Part } from './take-part.ts';

export interface Outcome {
  /** HTTP status; 499 when the client left, 502 when the stream broke off. */
  status: number;
  /** The stream fell silent. */
  stalled: boolean;
  promptTokens: number;
  completionTokens: number;
  /** `length`: cut at its length; null when nobody says. */
  finish: 'stop' | 'length' | null;
  /** To the first token of a stream, to the end of anything else, and of what was left before either to then. */
  ttftMs: number;
  /** To the end, or until the client left. */
  latencyMs: number;
  /** It waited for an adapter to be brought to the origin or read into memory. */
  cold: boolean;
  /** The variant could not be had, and the key's policy let something else answer. */
  stoodIn: boolean;
}

const FAILED_ADAPTER = 422;
const CLIENT_LEFT = 499;

/**
 * @returns null for what says nothing of an adapter: the client's own mistakes (4xx), and refusals for too much (429). Of
 * a failure only that it was one, and whether it kept its reader waiting: how fast an adapter fails is not its speed. Of
 * an answer that was left how long it took until then: to leave it out would make a slow adapter look fast. Of a cold
 * start no times: they are those of the load.
 */
export function outcomeValues(outcome: Outcome): Record<string, number> | null {
  const { status, stoodIn, finish } = outcome;
  const left = status === CLIENT_LEFT;
  if (stoodIn || status === FAILED_ADAPTER || status >= 500)
    return { error_rate: 1, left_rate: left || outcome.stalled ? 1 : 0 };
  if (status >= 400 && !left) return null;
  const times = { ttft_ms: Math.max(0, outcome.ttftMs), latency_ms: Math.max(0, outcome.latencyMs) };
  const waited = outcome.cold ? {} : times;
  if (left) return { ...waited, error_rate: 0, left_rate: 1 };
  return {
    ...waited,
    output_tokens: outcome.completionTokens,
    error_rate: 0,
    left_rate: 0,
    ...(finish === null ? {} : { length_rate: finish === 'length' ? 1 : 0 }),
    cost: outcome.promptTokens + outcome.completionTokens,
  };
}

/** Whether a shadow says what the user was told: the metric `disagreement` of its requests. @param told, @param shadow the texts of all choices, in order. @returns 0 when they are the same but for outer space. */
export function disagreement(told: readonly string[], shadow: readonly string[]): 0 | 1 {
  const same = told.length === shadow.length && told.every((text, i) => text.trim() === shadow[i]?.trim());
  return same ? 0 : 1;
}

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
