import type { CompletionPoint, CompletionPoints } from './completion-points.ts';
import { logLine } from './log-line.ts';

/** A Workers Analytics Engine dataset (binding `ANALYTICS`). */
export interface AnalyticsDataset {
  writeDataPoint(point: { indexes: string[]; blobs: string[]; doubles: number[] }): void;
}

/** An index ends at 96 bytes. */
const MAX_INDEX_CHARACTERS = 96;

/** @returns at most so many characters; tenants, ids and names are ASCII. */
const cut = (text: string, length: number): string => text.slice(0, length);

/**
 * One point a completion. The tenant is the index, by which Analytics Engine samples: a busy tenant does not hide the
 * others. docs/operations.md lists the columns; they are only ever added to.
 */
export function createAnalyticsPoints(dataset: AnalyticsDataset): CompletionPoints {
  const columns = (point: CompletionPoint) => ({
    indexes: [cut(point.tenant, MAX_INDEX_CHARACTERS)],
    blobs: [
      point.keyId,
      point.name,
      point.origin,
      point.route,
      point.stream ? 'stream' : 'whole',
      point.degraded,
      point.requestId,
      point.experiment,
      point.variant,
    ].map((text) => cut(text, 256)),
    doubles: [
      point.promptTokens,
      point.completionTokens,
      point.ms,
      point.originMs,
      point.status,
      point.version,
      point.failovers,
    ],
  });
  return {
    record(point) {
      try {
        dataset.writeDataPoint(columns(point));
      } catch (error) {
        logLine('analytics_refused', { reason: error instanceof Error ? error.message : 'unknown error' });
      }
    },
  };
}
