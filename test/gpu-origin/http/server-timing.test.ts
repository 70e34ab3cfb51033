import { describe, expect, it } from 'vitest';
import { startTiming, type Timing } from '../../../gpu-origin/http/run-prompts.ts';

/** @param steps each followed by the time that passes, ms. */
function said(...steps: [does: (timing: Timing) => void, ms: number][]): string {
  let now = 0;
  const timing = startTiming(() => now);
  for (const [does, ms] of steps) {
    does(timing);
    now += ms;
  }
  return timing.headers()['server-timing'];
}
const prompt = (timing: Timing): void => timing.lap('prompt');
const begin = (timing: Timing): void => timing.begin();
const first = (timing: Timing): void => timing.first(true);
const ahead = (timing: Timing): void => timing.first(false);
const wait = (): void => undefined;

describe('the wait for the first token', () => {
  it('is the queue until a row starts, and the total', () => {
    expect(said([wait, 3], [prompt, 20], [begin, 50], [first, 9])).toBe(
      'prompt;dur=3, queue;dur=20, first;dur=70',
    );
  });

  it('counts the first of several rows', () => {
    expect(said([prompt, 20], [begin, 5], [begin, 50], [first, 0])).toBe(
      'prompt;dur=0, queue;dur=20, first;dur=75',
    );
  });

  it('is only queue time if headers are sent before a row starts', () => {
    expect(said([prompt, 3000], [ahead, 0])).toBe('prompt;dur=0, queue;dur=3000');
    expect(said([prompt, 1000], [begin, 2000], [ahead, 0])).toBe(
      'prompt;dur=0, queue;dur=1000, first;dur=3000',
    );
  });

  it('has no queue if nothing had to be run', () => {
    expect(said([prompt, 2], [first, 0])).toBe('prompt;dur=0, first;dur=2');
  });
});
