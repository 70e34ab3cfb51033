import { STREAM_STALL_MS } from '../../../protocol/limits.ts';
import type { StreamOutcome } from '../../../worker/metering/ports.ts';
import { CONNECTION_BYTES, STREAM_STALL_CHECK_MS, UNREAD_MS } from '../../../worker/origins/limits.ts';
import { passStream } from '../../../worker/origins/connection.ts';

/** An origin's stream as passed on by the edge, with its real limits. */
export function passedStream(
  body: ReadableStream<Uint8Array>,
  options: Partial<Parameters<typeof passStream>[1]> = {},
): { body: ReadableStream<Uint8Array>; ended: Promise<StreamOutcome> } {
  let tell: (outcome: StreamOutcome) => void = () => undefined;
  const ended = new Promise<StreamOutcome>((resolve) => (tell = resolve));
  const passed = passStream(body, {
    path: '/v1/chat/completions',
    gone: new AbortController().signal,
    takesComments: true,
    now: Date.now,
    keepAlive: () => undefined,
    onProgress: () => undefined,
    stallMs: STREAM_STALL_MS,
    checkMs: STREAM_STALL_CHECK_MS,
    unreadMs: UNREAD_MS,
    connectionBytes: CONNECTION_BYTES,
    onEnd: tell,
    ...options,
  });
  return { body: passed, ended };
}
