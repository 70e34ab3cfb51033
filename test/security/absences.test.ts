/**
 * A name that is missing and one that is forbidden: the same answer, after the same questions in the same order to the
 * same stores, the first time and the next. On the real memories of an isolate, over fake stores.
 */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const LATER_MS = 61_000;

let graft: AppHarness;
/** Questions to stores, without what they are about. */
let calls: string[];
const keys: Record<string, string> = {};

const must = async (response: Promise<Response>) => {
  const answer = await response;
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return (text === '' ? {} : JSON.parse(text)) as Record<string, string>;
};

/** Another isolate, with nothing in its memory. */
const isolate = (drops: boolean) =>
  createAppHarness({ beside: graft, ...(drops ? { dropTenant: 'dropper' } : {}) });

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  calls = [];
  graft = await createAppHarness({
    wrap(port, name) {
      return new Proxy(port, {
        get(target, property) {
          const value: unknown = Reflect.get(target, property);
          if (typeof value !== 'function') return value;
          return (...args: unknown[]) => {
            const kind =
              name === 'kv'
                ? [args[0]]
                    .flat()
                    .map((key) => String(key).replace(/:.*/, ''))
                    .join()
                : '';
            calls.push(`${name}.${String(property)} ${kind}`);
            return (value as (...given: unknown[]) => unknown).apply(target, args);
          };
        },
      });
    },
  });
  // The harness gives its own KV bare; what the isolates read goes by the same record.
  const { kv } = graft;
  const get = kv.get.bind(kv);
  vi.spyOn(kv, 'get').mockImplementation(((key: string | string[], options: never) => {
    calls.push(
      `kv.get ${[key]
        .flat()
        .map((one) => one.replace(/:.*/, ''))
        .join()}`,
    );
    return get(key as never, options);
  }) as never);
  const publish = (name: string, seed: number) =>
    must(graft.publish(name, tinyAdapter({ seed }), { owner: 'alice' }));
  await publish('secret', 1);
  await publish('room/secret', 2);
  await publish('deep/secret/child', 3);
  await publish('fenced', 4);
  await publish('taken/secret', 5);
  await publish('open', 6);
  await must(graft.request('/admin/strict', { body: { name: 'fenced', strict: true } }));
  await must(graft.request('/admin/alias', { body: { name: 'latest', target: 'secret' } }));
  await must(graft.request('/admin/alias', { body: { name: 'room/latest', target: 'secret' } }));
  await must(graft.request('/admin/grants', { body: { scope: 'open', tenant: '*' } }));
  await must(graft.request('/admin/grants', { body: { scope: 'room', tenant: 'granted' } }));
  for (const tenant of ['bob', 'granted'])
    keys[tenant] = (await must(graft.request('/admin/keys', { body: { tenant } })))['key'] as string;
  keys['scoped'] = (await must(graft.request('/admin/keys', { body: { tenant: 'bob', scopes: ['open'] } })))[
    'key'
  ] as string;
  graft.clock.advance(LATER_MS);
});

const SAME: readonly [why: string, forbidden: string, missing: string][] = [
  ['a name', 'secret', 'nobody'],
  ['an alias', 'latest', 'nobody'],
  ['a name in a room', 'room/secret', 'room/nobody'],
  ['an alias in a room', 'room/latest', 'room/nobody'],
  ['below a name', 'secret/child', 'nobody/child'],
  ['below an alias', 'latest/child', 'nobody/child'],
  ['below a name further up', 'deep/secret/child/x', 'deep/nobody/child/x'],
  ['below a strict name', 'fenced/child', 'nobody/child'],
  ['a version', 'secret@1', 'nobody@1'],
  ['a version of a room', 'room/secret@1', 'room/nobody@1'],
  ['a version that is not there', 'secret@9', 'nobody@9'],
];

describe.each([false, true])('with drops %s', (drops) => {
  it.each(SAME)('%s is as if it were missing', async (_, forbidden, missing) => {
    for (const key of ['bob', 'scoped', 'granted'])
      for (const how of ['model', 'strict', 'adapter']) {
        const seen: string[] = [];
        for (const name of [forbidden, missing]) {
          const { request } = await isolate(drops);
          const asked =
            how === 'adapter'
              ? { model: 'open', adapters: [{ name }] }
              : { model: name, strict: how === 'strict' };
          const body = { ...asked, messages: [{ role: 'user', content: 'hi' }] };
          const record: string[] = [];
          for (const wait of [0, 0, 1_500, 31_000]) {
            graft.clock.advance(wait);
            calls = [];
            const response = await request('/v1/chat/completions', { key: keys[key] ?? '', body });
            const text = (await response.text()).replaceAll(name, 'NAME');
            record.push(`${response.status} ${text}`, ...calls);
          }
          seen.push(record.join('\n'));
          graft.clock.advance(LATER_MS);
        }
        expect(seen[0]).toBe(seen[1]);
        expect(seen[0]).toMatch(/^404 /);
      }
  });
});
