/** Port of the edge's metrics: one data point a completion. One contract suite (test/contracts/completion-points.ts). */

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

export interface CompletionPoints {
  /** Never throws and never waits. */
  record(point: CompletionPoint): void;
}

/** Without a place to put them. */
export const noPoints: CompletionPoints = { record: () => undefined };
