import { describe, expect, it } from 'vitest';
import { EventChannel } from '../../../gpu-origin/engine/sequence.ts';
import type { EngineHandle } from '../../../gpu-origin/engine/engine.ts';
import { mergeChoices, runPrompts } from '../../../gpu-origin/http/run-prompts.ts';
import { err, ok } from '../../../protocol/api-error.ts';
import { MAX_CHOICES } from '../../../protocol/limits.ts';

const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
const piece = (text: string) => ({ kind: 'tokens', text, tokens: [] }) as const;
const end = { kind: 'end', finishReason: 'stop', usage, tokenIds: [] } as const;

function handles(count: number): { channels: EventChannel[]; handles: EngineHandle[] } {
  const channels = Array.from({ length: count }, () => new EventChannel(() => undefined));
  return {
    channels,
    handles: channels.map((events) => ({
      id: 'r',
      promptTokens: 1,
      maxTokens: 1,
      events,
      abort: () => undefined,
    })),
  };
}

describe('mergeChoices', () => {
  it('returns events as they arrive, one of each choice in turn when all are there', async () => {
    const { channels, handles: all } = handles(3);
    for (const [choice, channel] of channels.entries()) {
      channel.push(piece(`${choice}a`));
      channel.push(piece(`${choice}b`));
      channel.push(end);
    }
    const seen: string[] = [];
    for await (const { choice, event } of mergeChoices(all))
      seen.push(event.kind === 'tokens' ? event.text : `${choice} ${event.kind}`);
    expect(seen).toEqual(['0a', '1a', '2a', '0b', '1b', '2b', '0 end', '1 end', '2 end']);
  });

  it('does not wait for a silent choice', async () => {
    const { channels, handles: all } = handles(2);
    const merged = mergeChoices(all);
    channels[1]!.push(piece('x'));
    expect(await merged.next()).toMatchObject({ value: { choice: 1 } });
    const next = merged.next();
    channels[1]!.push(end);
    expect(await next).toMatchObject({ value: { choice: 1, event: { kind: 'end' } } });
    const last = merged.next();
    channels[0]!.push(end);
    expect(await last).toMatchObject({ value: { choice: 0, event: { kind: 'end' } } });
    expect((await merged.next()).done).toBe(true);
  });

  it('reads no further ahead than one event', async () => {
    const { channels, handles: all } = handles(1);
    const merged = mergeChoices(all);
    const first = merged.next();
    channels[0]!.push(piece('0'));
    await first;
    // Nobody reads: the channel detects a reader that is too slow.
    let accepted = 0;
    while (channels[0]!.push(piece('x'))) accepted += 1;
    expect(accepted).toBeGreaterThan(1_000);
  });
});

it('says that a request was aborted whose last prompt was waiting for room, alone', async () => {
  const gone = new AbortController();
  const { channels, handles: all } = handles(1);
  channels[0]!.push(end);
  const dropped: number[] = [];
  const running = await runPrompts({
    prompts: [0, 1].map(() => ({ ids: [1], echo: null })),
    // So many that they do not run beside each other.
    choices: MAX_CHOICES,
    signal: gone.signal,
    async add(_, at) {
      if (at === 0) return ok(all);
      setImmediate(() => gone.abort());
      return err({ code: 'queue_full', message: 'full', retryAfterMs: 3_600_000 });
    },
    onDrop: (at) => dropped.push(at),
  });
  if (!running.ok) throw new Error(running.error.code);
  const seen: string[] = [];
  for await (const { choice, event } of running.value) seen.push(`${choice} ${event.kind}`);
  expect(seen).toEqual(['0 end', `${MAX_CHOICES} aborted`]);
  expect(dropped).toEqual([1]);
});
