/** What of a request could become a path, a name or deep recursion at the origin. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { MAX_JSON_DEPTH } from '../../protocol/limits.ts';
import { startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';
import { HOSTILE_NAMES, inUrl } from './hostile-names.ts';

let origin: Origin;
beforeAll(async () => {
  origin = await startTestOrigin();
});
afterAll(() => origin.stop());

const served = async () => {
  const response = await fetch(`${origin.url}/v1/chat/completions`, {
    method: 'POST',
    body: JSON.stringify({
      model: 'alice/notes',
      max_tokens: 2,
      messages: [{ role: 'user', content: 'hi' }],
    }),
  });
  expect(response.status).toBe(200);
};

it('no name reaches the store in the place of a digest', async () => {
  const spies = (['put', 'putPart', 'remove', 'declare'] as const).flatMap((method) =>
    method in origin.store ? [vi.spyOn(origin.store as never, method as never)] : [],
  );
  expect(spies.length).toBeGreaterThan(0);
  const names = [
    ...HOSTILE_NAMES.filter((_, i) => i % 3 === 0),
    'A'.repeat(64),
    'a'.repeat(63),
    `${'a'.repeat(64)}.json`,
  ];
  for (const name of names) {
    const answers = await Promise.all([
      fetch(`${origin.url}/adapters/${inUrl(name)}/parts/0`, { method: 'PUT', body: 'x' }),
      fetch(`${origin.url}/adapters/${inUrl(name)}`, { method: 'PUT', body: '{"bytes":1,"parts":[]}' }),
      fetch(`${origin.url}/adapters/${inUrl(name)}`, { method: 'DELETE' }),
      fetch(`${origin.url}/v1/models/${inUrl(name)}`),
    ]);
    for (const { status } of answers)
      expect([JSON.stringify(name), [400, 404, 405].includes(status)]).toEqual([JSON.stringify(name), true]);
  }
  for (const spy of spies) expect(spy).not.toHaveBeenCalled();
  expect(origin.faults).toEqual([]);
  await served();
});

it('nested JSON is refused before it is parsed', async () => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
  for (const path of ['/v1/chat/completions', '/v1/completions', '/v1/responses'])
    for (const depth of [MAX_JSON_DEPTH + 2, 400_000]) {
      const response = await fetch(origin.url + path, { method: 'POST', body: nested(depth) });
      expect(response.status).toBe(400);
      expect(await response.text()).toContain('nested more than');
    }
  expect(origin.faults).toEqual([]);
  await served();
});
