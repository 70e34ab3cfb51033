import { getEventListeners } from 'node:events';
import { expect, it } from 'vitest';
import { MAX_CHOICES } from '../../../protocol/limits.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { collect, request, rig } from './harness.ts';

/** Node takes more than so many listeners on one signal for a leak, and warns. */
const NODE_LIMIT = 10;

it('each request removes its listener from a shared signal', async () => {
  const { engine } = rig();
  const { signal } = new AbortController();
  const count = () => getEventListeners(signal, 'abort').length;
  const seeds = Array.from({ length: MAX_CHOICES }, (_, seed) => seed);
  for (let i = 0; i < 50; i += 1) {
    const added = await engine.addChoices(request({ signal }), seeds);
    if (!added.ok) throw new Error(added.error.message);
    expect(count()).toBe(MAX_CHOICES);
    await Promise.all(added.value.map(collect));
    expect(count()).toBe(0);
  }
  expect(MAX_CHOICES).toBeLessThanOrEqual(NODE_LIMIT);
  await engine.close();
});

it('failed and aborted requests do so too', async () => {
  const { engine } = rig({ runner: { poisoned: ([first]) => first === 9 } });
  const leaving = new AbortController();
  const failing = await engine.add(request({ prompt: [9], signal: leaving.signal }));
  if (!failing.ok) throw new Error(failing.error.message);
  expect((await collect(failing.value)).final.kind).toBe('error');
  const sampling = { ...GREEDY, maxTokens: 200, ignoreEos: true };
  const left = await engine.add(request({ sampling, signal: leaving.signal }));
  if (!left.ok) throw new Error(left.error.message);
  leaving.abort();
  expect((await collect(left.value)).final.kind).toBe('aborted');
  expect(getEventListeners(leaving.signal, 'abort')).toEqual([]);
  await engine.close();
});
