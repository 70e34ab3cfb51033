import { expect, it } from 'vitest';
import type { CompletionPoint, DataPoints, FeedbackPoint } from '../../worker/http/request.ts';

export const samplePoint = (more: Partial<CompletionPoint> = {}): CompletionPoint => ({
  tenant: 'acme',
  keyId: 'key-1',
  name: 'medicine/cardiology',
  version: 3,
  origin: 'o1',
  route: '/v1/chat/completions',
  requestId: 'r-1',
  weight: 100,
  degraded: '',
  experiment: 'exp_0123456789abcdef',
  variant: 'control',
  stream: true,
  status: 200,
  promptTokens: 12,
  completionTokens: 34,
  ms: 560,
  originMs: 78,
  failovers: 1,
  ...more,
});

export const sampleFeedback = (more: Partial<FeedbackPoint> = {}): FeedbackPoint => ({
  tenant: 'acme',
  keyId: 'key-1',
  name: 'medicine/cardiology',
  route: '/v1/feedback',
  requestId: 'r-2',
  weight: 100,
  experiment: 'exp_0123456789abcdef',
  version: 3,
  variant: 'control',
  metric: 'thumbs',
  value: 0.5,
  unit: 'AAECAwQFBgcICQoLDA0ODw',
  ...more,
});

/** What every place for data points does. */
export function dataPointsContract(make: () => DataPoints): void {
  it('takes any point without a word, at once', () => {
    const points = make();
    for (const point of [
      samplePoint(),
      samplePoint({ tenant: '', keyId: '', origin: '', requestId: '' }),
      samplePoint({ tenant: 't'.repeat(1_000), name: 'n/'.repeat(500), requestId: 'r'.repeat(1_000) }),
    ])
      expect(points.completion(point)).toBeUndefined();
    for (const point of [
      sampleFeedback(),
      sampleFeedback({ tenant: '', name: 'n/'.repeat(500), value: -1e9 }),
    ])
      expect(points.feedback(point)).toBeUndefined();
    expect(points.lostSpans(3)).toBeUndefined();
  });
}
