import { describe, expect, it } from 'vitest';
import { watchStatus } from '../../../cli/experiment/status-text.ts';

/** Looks three times and is then interrupted, as by Ctrl-C. */
async function watched(params: { isTTY: boolean; look?: (at: number) => Promise<string> }) {
  const ending = new AbortController();
  const written: string[] = [];
  const slept: number[] = [];
  let looks = 0;
  const look = params.look ?? (async (at) => `look ${at}`);
  await watchStatus({
    look: () => look(++looks),
    screen: { isTTY: params.isTTY, write: (text: string) => written.push(text) },
    signal: ending.signal,
    sleep: async (ms) => {
      slept.push(ms);
      if (slept.length === 3) ending.abort();
    },
  });
  return { written, slept };
}

describe('watchStatus', () => {
  it('polls every five seconds until it is interrupted', async () => {
    expect(await watched({ isTTY: false })).toEqual({
      written: ['look 1\n\n', 'look 2\n\n', 'look 3\n\n'],
      slept: [5_000, 5_000, 5_000],
    });
  });

  it('redraws in place on a terminal', async () => {
    const { written } = await watched({ isTTY: true });
    expect(written[1]).toBe('\u001b[H\u001b[2Jlook 2\n');
  });

  it('does not wait for a pending request when it is interrupted', async () => {
    const ending = new AbortController();
    const written: string[] = [];
    await watchStatus({
      look: () => {
        queueMicrotask(() => ending.abort());
        return new Promise<string>(() => undefined);
      },
      screen: { write: (text: string) => written.push(text) },
      signal: ending.signal,
      sleep: async () => undefined,
    });
    expect(written).toEqual([]);
  });

  it("ends with the server's error", async () => {
    const look = async (at: number): Promise<string> => {
      if (at === 2) throw new Error('gone');
      return 'fine';
    };
    await expect(watched({ isTTY: false, look })).rejects.toThrow('gone');
  });
});
