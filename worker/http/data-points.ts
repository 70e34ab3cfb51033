import { logLine } from '../log.ts';

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

/** A Workers Analytics Engine dataset (binding `ANALYTICS`). */
export interface AnalyticsDataset {
  writeDataPoint(point: Columns): void;
}

interface Columns {
  indexes: string[];
  blobs: string[];
  doubles: number[];
}

/** An index ends at 96 bytes. */
const MAX_INDEX_CHARACTERS = 96;
/** All blobs together end at 16 KB. */
const MAX_BLOB_CHARACTERS = 256;

/** @returns at most so many characters; tenants, ids and names are ASCII. */
const cut = (text: string, length: number): string => text.slice(0, length);

/**
 * The tenant is the index, by which Analytics Engine samples: a busy tenant does not hide the others.
 * docs/operations.md lists the columns; they are only ever added to. The two kinds share those that mean the same.
 */
const columns = (tenant: string, blobs: readonly string[], doubles: number[]): Columns => ({
  indexes: [cut(tenant, MAX_INDEX_CHARACTERS)],
  blobs: blobs.map((text) => cut(text, MAX_BLOB_CHARACTERS)),
  doubles,
});

const completionColumns = (point: CompletionPoint): Columns =>
  columns(
    point.tenant,
    [
      point.keyId,
      point.name,
      point.origin,
      point.route,
      point.stream ? 'stream' : 'whole',
      point.degraded,
      point.requestId,
      point.experiment,
      point.variant,
      'completion',
    ],
    [
      point.promptTokens,
      point.completionTokens,
      point.ms,
      point.originMs,
      point.status,
      point.version,
      point.failovers,
    ],
  );

const feedbackColumns = (point: FeedbackPoint): Columns =>
  columns(
    point.tenant,
    [
      ...[point.keyId, point.name, '', point.route, '', '', point.requestId],
      ...[point.experiment, point.variant, 'feedback', point.metric, point.unit],
    ],
    [0, 0, 0, 0, 0, 0, 0, point.value, point.version],
  );

/** Writes points as rows of the dataset. */
export function createAnalyticsPoints(dataset: AnalyticsDataset): DataPoints {
  const write = (row: Columns): void => {
    try {
      dataset.writeDataPoint(row);
    } catch (error) {
      logLine('analytics_refused', { reason: error instanceof Error ? error.message : 'unknown error' });
    }
  };
  return {
    completion: (point) => write(completionColumns(point)),
    feedback: (point) => write(feedbackColumns(point)),
  };
}
