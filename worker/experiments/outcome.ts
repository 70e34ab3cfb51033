/** What one request says of its variant: the automatic metrics, by their keys. */

export interface Outcome {
  /** HTTP status; 499 when the client left, 502 when the stream broke off. */
  status: number;
  promptTokens: number;
  completionTokens: number;
  /** `length`: cut at its length; null when nobody says. */
  finish: 'stop' | 'length' | null;
  /** To the first event of a stream, to the end of anything else. */
  ttftMs: number;
  latencyMs: number;
  /** The variant could not be had, and the key's policy let something else answer. */
  stoodIn: boolean;
}

const FAILED_ADAPTER = 422;

/**
 * @returns null for what says nothing of an adapter: a client that left, its own mistakes (4xx), and refusals for too
 * much (429). Of a failure only that it was one: how fast an adapter fails is not its speed.
 */
export function outcomeValues(outcome: Outcome): Record<string, number> | null {
  const { status, stoodIn, finish } = outcome;
  if (status >= 400 && status < 500 && status !== FAILED_ADAPTER) return null;
  if (status >= 400 || stoodIn) return { error_rate: 1 };
  return {
    ttft_ms: Math.max(0, outcome.ttftMs),
    latency_ms: Math.max(0, outcome.latencyMs),
    output_tokens: outcome.completionTokens,
    error_rate: 0,
    ...(finish === null ? {} : { length_rate: finish === 'length' ? 1 : 0 }),
    cost: outcome.promptTokens + outcome.completionTokens,
  };
}
