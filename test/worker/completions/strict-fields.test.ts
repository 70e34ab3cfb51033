/** Which requests drop unknown fields, and which are refused because of them. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const HEADER = 'x-graft-strict-fields';
const BODIES = {
  '/v1/chat/completions': { messages: [{ role: 'user', content: 'hi' }] },
  '/v1/completions': { prompt: 'hi' },
  '/v1/messages': { max_tokens: 4, messages: [{ role: 'user', content: 'hi' }] },
} as const;

let graft: AppHarness;
let lenient: string;
let strict: { id: string; key: string };

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  const make = async (body: object) =>
    (await (
      await graft.request('/admin/keys', { body: { tenant: 'acme', ...body } })
    ).json()) as typeof strict;
  lenient = (await make({})).key;
  strict = await make({ strict_fields: true });
});

const ask = (path: keyof typeof BODIES, key: string, more: object, headers: Record<string, string> = {}) =>
  graft.request(path, { key, headers, body: { model: 'base', ...BODIES[path], ...more } });

describe.each(Object.keys(BODIES) as (keyof typeof BODIES)[])('%s', (path) => {
  it.each([
    ['a lenient key', () => lenient, {}, 200],
    ['a strict key', () => strict.key, {}, 400],
    ['a strict key that asks for less', () => strict.key, { [HEADER]: 'false' }, 200],
    ['a lenient key that asks for more', () => lenient, { [HEADER]: 'true' }, 400],
  ] as const)('%s', async (_who, key, headers, status) => {
    const response = await ask(path, key(), { colour: 1 }, headers);
    expect(response.status).toBe(status);
    if (status === 200) expect(response.headers.get('x-graft-ignored')).toBe('colour');
    else expect(await response.json()).toMatchObject({ error: { message: "Unknown field 'colour'." } });
  });

  it('serves a strict key’s request without unknown fields, and drops those without effect', async () => {
    const idle = path === '/v1/messages' ? { stop_sequences: null } : { service_tier: 'auto' };
    expect((await ask(path, strict.key, idle)).status).toBe(200);
  });
});

it('can be set and removed by a change', async () => {
  const change = (strict_fields: boolean) =>
    graft.request('/admin/keys/change', { body: { id: strict.id, strict_fields } });
  expect(await (await change(false)).json()).toMatchObject({ strict_fields: false });
  graft.clock.advance(61_000);
  expect((await ask('/v1/completions', strict.key, { colour: 1 })).status).toBe(200);
  await change(true);
  graft.clock.advance(61_000);
  expect((await ask('/v1/completions', strict.key, { colour: 1 })).status).toBe(400);
});
