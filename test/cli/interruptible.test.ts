import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createApiClient, sendRetrying } from '../../cli/api-client.ts';
import { interruptible } from '../../cli/cli-error.ts';

let warnings: Error[] = [];
const onWarning = (warning: Error) => void warnings.push(warning);
beforeEach(() => {
  warnings = [];
  process.on('warning', onWarning);
});
afterEach(() => void process.off('warning', onWarning));

it('lets as many requests wait as a limited key causes, without a warning or a leak', async () => {
  let refused = 0;
  const client = createApiClient({
    url: 'http://edge',
    key: 'gk_x',
    fetchFn: async () => {
      refused += 1;
      return refused > 64 ? new Response('') : new Response('', { status: 429 });
    },
  });
  const left = await interruptible(async (signal) => {
    const sending = Array.from({ length: 64 }, () => sendRetrying(client, 'ask', '/x', {}, { signal }));
    await Promise.all(sending);
    return getEventListeners(signal, 'abort').length;
  });
  // Warnings are emitted in a turn of their own.
  await new Promise((resolve) => setImmediate(resolve));
  expect([left, refused]).toEqual([0, 128]);
  expect(warnings).toEqual([]);
});
