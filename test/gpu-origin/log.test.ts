import { describe, expect, it } from 'vitest';
import { both, createLogLine, createRequestLog, watchEventLoop } from '../../gpu-origin/log.ts';

function logOf(share: number) {
  const lines: string[] = [];
  const log = createRequestLog(
    createLogLine((line) => lines.push(line)),
    share,
  );
  return { log, lines: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

const finish = {
  id: 'r-1',
  tenant: 't',
  outcome: 'stop' as const,
  error: null,
  promptTokens: 12,
  completionTokens: 34,
  ms: 56.7,
  queuedMs: 1.2,
};
const error = { code: 'internal_error' as const, message: 'non-finite logits' };

describe('the origin’s request log', () => {
  it('writes one line an answer, under the request’s id', () => {
    const { log, lines } = logOf(1);
    log.onFinish({ ...finish, traceId: 'f00d' });
    expect(lines()).toEqual([
      {
        level: 'info',
        event: 'generation',
        request_id: 'r-1',
        trace_id: 'f00d',
        tenant: 't',
        outcome: 'stop',
        prompt_tokens: 12,
        completion_tokens: 34,
        ms: 57,
        queued_ms: 1,
      },
    ]);
    log.onRefuse({ id: 'r-2', tenant: 't', error });
    expect(lines()[1]).toEqual({
      level: 'info',
      event: 'refused',
      request_id: 'r-2',
      tenant: 't',
      code: 'internal_error',
    });
  });

  it('writes nothing of requests outside the sample, but all that failed', () => {
    const { log, lines } = logOf(0);
    log.onFinish(finish);
    log.onRefuse({ id: 'r-2', tenant: 't', error });
    log.onAdapterLoad({ digest: 'd', ms: 1, bytes: 2, error: null });
    expect(lines()).toEqual([]);
    log.onFinish({ ...finish, outcome: 'failed', error, queuedMs: null });
    log.onAdapterLoad({ digest: 'd', ms: 1, bytes: 2, error });
    expect(lines()).toMatchObject([
      { level: 'error', event: 'generation', code: 'internal_error', reason: 'non-finite logits' },
      { level: 'error', event: 'adapter_load', digest: 'd', code: 'internal_error' },
    ]);
  });

  it('leaves the metrics what they had', () => {
    const { log, lines } = logOf(1);
    const seen: string[] = [];
    const observer = both({ onFinish: ({ id }) => seen.push(id), onToken: () => seen.push('token') }, log);
    observer.onFinish?.(finish);
    observer.onToken?.({ tenant: 't', ms: 1 });
    observer.onRefuse?.({ id: 'r-2', tenant: 't', error });
    expect(seen).toEqual(['r-1', 'token']);
    expect(lines()).toHaveLength(2);
  });
});

describe('the watch over the event loop', () => {
  it('writes a line when it stood for more than a second, and counts those that follow', () => {
    const lines: string[] = [];
    let time = 0;
    let every = 0;
    let look = (): void => undefined;
    watchEventLoop(
      createLogLine((line) => lines.push(line)),
      {
        timer: (ms, callback) => {
          every = ms;
          look = callback;
        },
        now: () => time,
      },
    );
    const pass = (stood: number): void => {
      time += every + stood;
      look();
    };
    for (const stood of [0, 3, 999, 1_000]) pass(stood);
    expect(lines).toEqual([]);
    pass(1_001);
    pass(2_000);
    pass(0);
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { level: 'error', event: 'event_loop_stood', ms: 1_001 },
    ]);
    for (let looks = 0; looks < 20; looks += 1) pass(0);
    pass(20_000);
    expect(JSON.parse(lines[1]!)).toEqual({
      ...{ level: 'error', event: 'event_loop_stood', ms: 20_000, more: 1 },
    });
    expect(lines).toHaveLength(2);
  });
});
