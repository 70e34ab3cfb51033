/** What one request says of its variant: the automatic metrics, by their keys. */

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

/** Whether a shadow says what the user was told: the metric `disagreement` of its requests. */

/**
 * Whether two answers to the request differ only where adapters do: it is greedy, or its chance is seeded. Any other
 * answer differs from itself.
 */
export const isRepeatable = (request: {
  temperature?: number | null | undefined;
  seed?: number | null | undefined;
}): boolean => request.temperature === 0 || (request.seed ?? null) !== null;

/** @param told, @param shadow the texts of all choices, in order. @returns 0 when they are the same but for outer space. */
export function disagreement(told: readonly string[], shadow: readonly string[]): 0 | 1 {
  const same = told.length === shadow.length && told.every((text, i) => text.trim() === shadow[i]?.trim());
  return same ? 0 : 1;
}
