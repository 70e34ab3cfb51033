import { afterEach, describe, expect, it, vi } from 'vitest';
import { createAnalyticsPoints, type AnalyticsDataset, noPoints } from '../../../worker/http/request.ts';
import { dataPointsContract, sampleFeedback, samplePoint } from '../../contracts/data-points.ts';

type Written = Parameters<AnalyticsDataset['writeDataPoint']>[0];

/** Analytics Engine's own limits: a point beyond them is refused. */
function strictDataset(written: Written[] = []): AnalyticsDataset {
  const bytes = (text: string) => new TextEncoder().encode(text).length;
  return {
    writeDataPoint(point) {
      const { indexes, blobs, doubles } = point;
      if (indexes.length !== 1 || bytes(indexes[0] ?? '') > 96) throw new Error('index');
      if (blobs.length > 20 || blobs.reduce((sum, blob) => sum + bytes(blob), 0) > 16_384)
        throw new Error('blobs');
      if (doubles.length > 20 || !doubles.every(Number.isFinite)) throw new Error('doubles');
      written.push(point);
    },
  };
}

afterEach(() => vi.restoreAllMocks());

describe('no place for points', () => dataPointsContract(() => noPoints));

describe('Analytics Engine', () => {
  dataPointsContract(() => createAnalyticsPoints(strictDataset()));

  it('writes lost spans as a kind of their own, whose sum is that of double8', () => {
    const written: Written[] = [];
    createAnalyticsPoints(strictDataset(written)).lostSpans(7);
    const [point] = written;
    expect(point?.blobs[9]).toBe('lost-spans');
    expect([point?.doubles[7], point?.doubles[9]]).toEqual([7, 1]);
    expect(point?.indexes).toEqual(['']);
  });

  it('writes the columns in the order that docs/run/alerts.md lists', () => {
    const written: Written[] = [];
    createAnalyticsPoints(strictDataset(written)).completion(samplePoint());
    expect(written).toEqual([
      {
        indexes: ['acme'],
        blobs: [
          'key-1',
          'medicine/cardiology',
          'o1',
          '/v1/chat/completions',
          'stream',
          '',
          'r-1',
          'exp_0123456789abcdef',
          'control',
          'completion',
        ],
        doubles: [12, 34, 560, 78, 200, 3, 1, 0, 0, 100],
      },
    ]);
  });

  it('writes what applications say in columns of its own, beside what both kinds have', () => {
    const written: Written[] = [];
    createAnalyticsPoints(strictDataset(written)).feedback(sampleFeedback());
    const shared = ['exp_0123456789abcdef', 'control'];
    expect(written).toEqual([
      {
        indexes: ['acme'],
        blobs: [
          ...['key-1', 'medicine/cardiology', '', '/v1/feedback', '', '', 'r-2', ...shared],
          ...['feedback', 'thumbs', 'AAECAwQFBgcICQoLDA0ODw'],
        ],
        doubles: [0, 0, 0, 0, 0, 0, 0, 0.5, 3, 100],
      },
    ]);
  });

  it('keeps within the limits', () => {
    const written: Written[] = [];
    const points = createAnalyticsPoints(strictDataset(written));
    points.completion(samplePoint({ tenant: 't'.repeat(1_000), name: 'n'.repeat(1_000) }));
    points.feedback(sampleFeedback({ tenant: 't'.repeat(1_000), name: 'n'.repeat(1_000) }));
    expect(written).toHaveLength(2);
  });

  it('says so when a point is refused, and goes on', () => {
    const said = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const points = createAnalyticsPoints({
      writeDataPoint: () => {
        throw new Error('250 points');
      },
    });
    points.completion(samplePoint());
    expect(JSON.parse(said.mock.calls[0]?.[0] as string)).toEqual({
      level: 'error',
      event: 'analytics_refused',
      reason: '250 points',
    });
  });
});
