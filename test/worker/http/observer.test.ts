import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  createAnalyticsPoints,
  createObserver,
  createRequestTrace,
  type EndedRequest,
  type Feedback,
} from '../../../worker/http/request.ts';

const ENDED: Omit<EndedRequest, 'trace' | 'route' | 'status'> = {
  ...{ requestId: 'r', method: 'POST', at: 1_500 },
  keepAlive: () => undefined,
};

let lines: Record<string, unknown>[];
beforeEach(() => {
  lines = [];
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(
      (line: string) => void lines.push({ by: method, ...(JSON.parse(line) as object) }),
    );
});
afterEach(() => vi.restoreAllMocks());

function observe(options: {
  logSample: number;
  pointSample?: number;
  status?: number;
  completion?: boolean;
  ended?: number;
  ownId?: string;
}) {
  const points: unknown[] = [];
  const observer = createObserver({
    points: createAnalyticsPoints({ writeDataPoint: (point) => void points.push(point) }),
    logSample: options.logSample,
    pointSample: options.pointSample ?? 1,
  });
  const trace = createRequestTrace({
    now: () => 1_000,
    ...(options.ownId === undefined ? {} : { ownId: options.ownId }),
  });
  if (options.completion === true) {
    trace.note({ tenant: 'acme', keyId: 'k', name: 'a/b', version: 2, chainId: 'c', stream: true });
    trace.note({ origin: 'o2', tried: ['o1'], degraded: 'stale' });
    trace.finish({ status: options.ended ?? 200, promptTokens: 3, completionTokens: 4 });
  }
  const route = '/v1/chat/completions';
  observer({ ...ENDED, trace, route, status: options.status ?? 200 });
  return points;
}

describe('createObserver', () => {
  it('writes one line a request, with what is known', () => {
    observe({ logSample: 1, completion: true });
    expect(lines).toEqual([
      {
        by: 'log',
        level: 'info',
        event: 'request',
        request_id: 'r',
        method: 'POST',
        route: '/v1/chat/completions',
        status: 200,
        ms: 500,
        tenant: 'acme',
        key_id: 'k',
        name: 'a/b',
        version: 2,
        chain: 'c',
        origin: 'o2',
        tried: 'o1',
        degraded: 'stale',
        stream: true,
        prompt_tokens: 3,
        completion_tokens: 4,
      },
    ]);
  });

  it('writes of failures alone when nothing is sampled, and points of all completions', () => {
    expect(observe({ logSample: 0, completion: true })).toHaveLength(1);
    expect(observe({ logSample: 0, status: 404 })).toEqual([]);
    expect(lines).toEqual([]);
    // A stream that broke off began with 200.
    expect(observe({ logSample: 0, completion: true, ended: 502 })).toMatchObject([
      { doubles: [3, 4, 500, 0, 502, 2, 1, 0, 0, 1] },
    ]);
    observe({ logSample: 0, status: 503 });
    expect(lines).toMatchObject([
      { by: 'error', level: 'error', status: 502 },
      { by: 'error', level: 'error', status: 503 },
    ]);
  });

  it('writes points of a sample, each with how many it stands for, and of every failure', () => {
    const points = Array.from({ length: 4_000 }, (_, i) =>
      observe({ logSample: 0, pointSample: 0.01, completion: true, ownId: `own-${i}` }),
    ).flat() as { doubles: number[] }[];
    expect(points.length).toBeGreaterThan(20);
    expect(points.length).toBeLessThan(60);
    expect(new Set(points.map(({ doubles }) => doubles[9]))).toEqual(new Set([100]));
    for (const ended of [500, 502, 503])
      expect(observe({ logSample: 0, pointSample: 0, completion: true, ended })).toMatchObject([
        { doubles: [3, 4, 500, 0, ended, 2, 1, 0, 0, 1] },
      ]);
  });

  it('writes a point of feedback, and of nothing else that the route does', () => {
    const rated = (feedback?: Feedback): unknown[] => {
      const points: unknown[] = [];
      const observer = createObserver({
        points: createAnalyticsPoints({ writeDataPoint: (point) => void points.push(point) }),
        logSample: 0,
        pointSample: 1,
      });
      const trace = createRequestTrace({ now: () => 1_000 });
      trace.note({ tenant: 'acme', keyId: 'k', ...(feedback === undefined ? {} : { feedback }) });
      observer({ ...ENDED, trace, route: '/v1/feedback', status: 200 });
      return points;
    };
    expect(rated()).toEqual([]);
    const said = { name: 'a/b', experiment: 'e', version: 2, variant: 'x', metric: 'm', value: 1, unit: 'u' };
    expect(rated(said)).toEqual([
      {
        indexes: ['acme'],
        blobs: ['k', 'a/b', '', '/v1/feedback', '', '', 'r', 'e', 'x', 'feedback', 'm', 'u'],
        doubles: [0, 0, 0, 0, 0, 0, 0, 1, 2, 1],
      },
    ]);
  });
});
