/** What is told of a request that has ended: a line of the log, and points of the metrics, in Analytics Engine where the edge has it. */
import { isSampled } from '../../protocol/index.ts';
import { logLine } from '../log.ts';
import type { Feedback, Observer } from './request-scope.ts';

/** Answers from here on are logged whatever the sample. */
const FAILED = 500;

/**
 * Writes one log line a request, and one data point a completion and a counted feedback.
 * @param logSample share of the requests that are logged, 0 to 1; failures always are.
 */
export function createObserver(params: {
  dataset: AnalyticsDataset | undefined;
  logSample: number;
}): Observer {
  const points = params.dataset === undefined ? noPoints : createAnalyticsPoints(params.dataset);
  return ({ trace, requestId, method, route, status: answered, at }) => {
    const { facts, ending } = trace;
    const status = ending?.status ?? answered;
    const ms = at - trace.startedAt;
    const phase = trace.phases();
    if (status >= FAILED || isSampled(requestId, params.logSample))
      logLine(
        'request',
        {
          request_id: requestId,
          trace_id: trace.parent?.traceId,
          method,
          route,
          status,
          ms,
          tenant: facts.tenant,
          key_id: facts.keyId,
          name: facts.name,
          version: facts.version,
          chain: facts.chainId,
          origin: facts.origin,
          tried: facts.tried === undefined || facts.tried.length === 0 ? undefined : facts.tried.join(','),
          degraded: facts.degraded,
          experiment: facts.experiment,
          variant: facts.variant,
          stream: facts.stream,
          prompt_tokens: ending?.promptTokens,
          completion_tokens: ending?.completionTokens,
          key_ms: phase.get('key'),
          name_ms: phase.get('name'),
          origin_ms: phase.get('origin'),
        },
        status >= FAILED ? 'error' : 'info',
      );
    const asked = { tenant: facts.tenant ?? '', keyId: facts.keyId ?? '', route, requestId };
    if (facts.feedback !== undefined) points.feedback({ ...asked, ...facts.feedback });
    if (ending === null || facts.name === undefined) return;
    points.completion({
      ...asked,
      name: facts.name,
      version: facts.version ?? 0,
      origin: facts.origin ?? '',
      degraded: facts.degraded ?? '',
      experiment: facts.experiment ?? '',
      variant: facts.variant ?? '',
      stream: facts.stream ?? false,
      status,
      promptTokens: ending.promptTokens,
      completionTokens: ending.completionTokens,
      ms,
      originMs: phase.get('origin') ?? 0,
      failovers: facts.tried?.length ?? 0,
    });
  };
}

/** A data point of the edge's metrics: one a completion … */
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

/** … and one a feedback that was counted. */
export interface FeedbackPoint extends Feedback {
  tenant: string;
  /** Of the key that reported it, and of the report. */
  keyId: string;
  route: string;
  requestId: string;
}

/** Port of the edge's metrics. Never throws and never waits. One contract suite (test/contracts/data-points.ts). */
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
