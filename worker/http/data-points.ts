/**
 * Port of the edge's metrics: one data point a completion, and one a feedback that was counted. One contract suite
 * (test/contracts/data-points.ts).
 */

export interface CompletionPoint {
  tenant: string;
  keyId: string;
  name: string;
  version: number;
  origin: string;
  route: string;
  requestId: string;
  degraded: string;
  /** Id, and the variant's key; empty without one. */
  experiment: string;
  variant: string;
  stream: boolean;
  /** HTTP status; 499 when the client left, 502 when the stream broke off. */
  status: number;
  promptTokens: number;
  completionTokens: number;
  /** To the last byte, ms. */
  ms: number;
  /** To the origin's headers, ms. */
  originMs: number;
  /** Origins that could not serve. */
  failovers: number;
}

/** What an application said of an answer, and of which. Of the user only the hash that the tallies have, too. */
export interface Feedback {
  /** The name that has the experiment. */
  name: string;
  experiment: string;
  /** Version of its document when the answer was given. */
  version: number;
  variant: string;
  metric: string;
  value: number;
  /** Hash of the unit; another one under another seed. */
  unit: string;
}

export interface FeedbackPoint extends Feedback {
  tenant: string;
  /** Of the key that reported it, and of the report. */
  keyId: string;
  route: string;
  requestId: string;
}

/** Never throws and never waits. */
export interface DataPoints {
  completion(point: CompletionPoint): void;
  feedback(point: FeedbackPoint): void;
}

/** Without a place to put them. */
export const noPoints: DataPoints = { completion: () => undefined, feedback: () => undefined };
