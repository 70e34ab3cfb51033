/** Alerts of budgets and origins, from a request or a run of the schedule to a receiver, in virtual time. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import type { NewWebhook, WebhookList, WebhookTest } from '../../../protocol/admin-api/webhooks.ts';
import { USAGE_HEADER } from '../../../protocol/origin-wire.ts';
import { createMetrics } from '../../../gpu-origin/http/metrics.ts';
import { emptyQuota, settle, tell } from '../../../worker/metering/quota-state.ts';
import { BUDGET_SHARES } from '../../../worker/metering/limits.ts';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import {
  ALERT_MEMORY_MS,
  MAX_WAITING_ALERTS,
  MAX_WAITING_OF_TENANT,
  MAX_WEBHOOKS,
} from '../../../worker/webhooks/limits.ts';
import { FakeClock } from '../../fakes/fake-clock.ts';
import { FakeKv } from '../../fakes/fake-kv.ts';
import { expectedSignature } from '../../fakes/standard-webhooks.ts';
import { generateApiKey } from '../../../protocol/identity.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import { erasePages } from '../erasure/erase-pages.ts';

const MINUTE = 60_000;
const DAY = 86_400_000;
const START = Date.UTC(2026, 2, 30, 12);

let graft: AppHarness;
interface Got {
  url: string;
  headers: Headers;
  body: string;
}
let got: Got[];
/** What each request uses. */
let tokens: number;
/** Origins that are down. */
let down: Set<string>;
/** What receivers answer, by URL; 200 unless said. */
let statuses: Map<string, number>;

const post = async <Answer>(path: string, body: object, key?: string): Promise<Answer> => {
  const response = await graft.request(path, { body, ...(key === undefined ? {} : { key }) });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Answer;
};
const keyOf = (tenant: string, limits: object) => post<NewKey>('/admin/keys', { tenant, limits });
const hookOf = (more: object = {}) =>
  post<NewWebhook>('/admin/webhooks', { url: 'https://hooks.example.com/graft', ...more });
const listed = async () => ((await (await graft.request('/admin/webhooks')).json()) as WebhookList).webhooks;

async function ask({ key = '' }: NewKey, used: number, of = graft): Promise<number> {
  tokens = used;
  const body = { model: 'base', messages: [{ role: 'user', content: 'hi' }] };
  const answer = await of.request('/v1/chat/completions', { key, body });
  await answer.text();
  await of.settled();
  return answer.status;
}
/** Messages of one run are sent at once: they are sorted by their ids. */
async function schedule(): Promise<void> {
  const before = got.length;
  await graft.schedule(() => undefined);
  const idOf = ({ headers }: Got): string => headers.get('webhook-id') ?? '';
  const arrived = got.splice(before).sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
  got.push(...arrived);
}
/** Who got what: `/path type`, in the order of arrival. */
const told = () =>
  got.map(({ url, body }) => `${new URL(url).pathname} ${(JSON.parse(body) as { type: string }).type}`);
const dataOf = (message: Got | undefined) => (JSON.parse(message?.body ?? '{}') as { data?: unknown }).data;

const verify = ({ headers, body }: Got, secret: string): void =>
  expect(headers.get('webhook-signature')).toBe(expectedSignature(headers, body, secret));

const open = async (options: Parameters<typeof createAppHarness>[0] = {}) => {
  const made = await createAppHarness(options);
  made.application.answer = async (url, init) => {
    const status = statuses.get(url) ?? 200;
    got.push({ url, headers: new Headers(init.headers), body: String(init.body) });
    return new Response('whatever', { status });
  };
  const usual = made.origin.answer;
  made.origin.answer = async (method, path, init, url = '') => {
    if (down.has(new URL(url).hostname)) throw new TypeError('connection refused');
    if (path === '/metrics') return new Response(await createMetrics().text());
    if (path === '/v1/chat/completions')
      return Response.json(
        { choices: [] },
        { headers: { [USAGE_HEADER]: `prompt=${tokens},completion=0,finish=stop` } },
      );
    return usual(method, path, init, url);
  };
  return made;
};

beforeEach(async () => {
  for (const method of ['log', 'error', 'warn'] as const)
    vi.spyOn(console, method).mockImplementation(() => undefined);
  got = [];
  down = new Set();
  statuses = new Map();
  const clock = new FakeClock(START);
  graft = await open({
    origins: ['o1', 'o2'].map((id) => ({ id, url: `http://${id}.test` })),
    copied: { clock, kv: new FakeKv(clock.now), adminKey: generateApiKey('ga') },
  });
});
afterEach(() => vi.restoreAllMocks());

describe('a budget', () => {
  it('is told of once at 80 % and once at 100 %, signed, and again in the next period', async () => {
    const hook = await hookOf({ tenant: 'alice' });
    const key = await keyOf('alice', { tokens_per_day: 100 });
    for (const used of [79, 1, 10, 10]) expect(await ask(key, used)).toBe(200);
    expect(await ask(key, 1)).toBe(429);
    await schedule();
    await schedule();
    expect(told()).toEqual(['/graft budget.nearly_used', '/graft budget.used']);
    for (const message of got) verify(message, hook.secret);
    expect(JSON.parse(got[0]!.body)).toEqual({
      type: 'budget.nearly_used',
      timestamp: new Date(START).toISOString(),
      data: {
        ...{ tenant: 'alice', key: key.id, period: 'day', limit: 100, used: 80 },
        renewed_at: '2026-03-31T00:00:00.000Z',
      },
    });
    expect(dataOf(got[1])).toMatchObject({ used: 100 });
    graft.clock.advance(DAY);
    expect(await ask(key, 85)).toBe(200);
    expect(await ask(key, 1)).toBe(200);
    await schedule();
    expect(told().slice(2)).toEqual(['/graft budget.nearly_used']);
  });

  it('of a month, and of all keys of a tenant, is told of too, each share once, however many are reached', async () => {
    await hookOf();
    const limits = { tokens_per_month: 1_000 };
    await post('/admin/tenants/limits', { tenant: 'alice', limits });
    const keys = [await keyOf('alice', {}), await keyOf('alice', { tokens_per_month: 600 })] as const;
    await ask(keys[0], 500);
    await ask(keys[1], 500);
    await schedule();
    expect(got.map((message) => [told()[got.indexOf(message)], dataOf(message)])).toEqual(
      (
        [
          ['nearly_used', keys[1].id, 600, 500],
          ['nearly_used', null, 1_000, 1_000],
          ['used', null, 1_000, 1_000],
        ] as const
      ).map(([type, key, limit, used]) => [
        `/graft budget.${type}`,
        ...[{ tenant: 'alice', key, period: 'month', limit, used, renewed_at: '2026-04-01T00:00:00.000Z' }],
      ]),
    );
  });

  it('is told to its tenant and the operator alone, and to those who want to know', async () => {
    const url = (name: string) => `https://hooks.example.com/${name}`;
    await hookOf({ url: url('operator') });
    await hookOf({ url: url('alice'), tenant: 'alice' });
    await hookOf({ url: url('used'), tenant: 'alice', events: ['budget.used'] });
    await hookOf({ url: url('origins'), events: ['origin.away'] });
    await hookOf({ url: url('bob'), tenant: 'bob' });
    await ask(await keyOf('alice', { tokens_per_day: 10 }), 9);
    await schedule();
    expect(told().sort()).toEqual(['/alice budget.nearly_used', '/operator budget.nearly_used']);
  });

  it('costs nothing while it is far from used, or if there is none', async () => {
    await hookOf();
    const write = vi.spyOn(graft.stores.webhooks, 'tell');
    const keys = [
      await keyOf('alice', {}),
      await keyOf('alice', { tokens_per_day: 100 }),
      await keyOf('alice', { concurrent: 2 }),
    ];
    for (const key of keys) await ask(key, 10);
    expect(write).not.toHaveBeenCalled();
    expect(graft.quotas.calls.map((call) => call.split(' ')[0])).toEqual([
      ...['admit', 'settle', 'admit', 'settle'],
    ]);
  });

  it('is told of once, though the isolate that noticed it died before it told the counter', async () => {
    await hookOf();
    const key = await keyOf('alice', { tokens_per_day: 100 });
    const tellCounter = vi.spyOn(graft.quotas, 'told');
    tellCounter.mockRejectedValueOnce(new StoreUnavailable('DO', new Error('away')));
    await ask(key, 85);
    const other = await open({ beside: graft, quotas: graft.quotas });
    await ask(key, 1, other);
    expect(tellCounter).toHaveBeenCalledTimes(2);
    await ask(key, 1);
    await ask(key, 1, other);
    expect(tellCounter).toHaveBeenCalledTimes(2);
    await schedule();
    expect(told()).toEqual(['/graft budget.nearly_used']);
  });

  it('is told of later, though D1 was away and every request is refused by then', async () => {
    await hookOf();
    const key = await keyOf('alice', { tokens_per_day: 100 });
    const write = vi.spyOn(graft.stores.webhooks, 'tell');
    write.mockRejectedValueOnce(new StoreUnavailable('D1', new Error('away')));
    expect(await ask(key, 100)).toBe(200);
    for (let asked = 0; asked < 9; asked += 1) {
      graft.clock.advance(ALERT_MEMORY_MS / 8);
      expect(await ask(key, 1)).toBe(429);
    }
    expect(write).toHaveBeenCalledTimes(2);
    await schedule();
    expect(told()).toEqual(['/graft budget.nearly_used', '/graft budget.used']);
  });

  it('is told of once, though nobody had asked to be, and again after a reset', async () => {
    const key = await keyOf('alice', { tokens_per_day: 100 });
    await ask(key, 100);
    await hookOf();
    await ask(key, 1);
    await schedule();
    expect(told()).toEqual([]);
    graft.clock.advance(MINUTE);
    await post('/admin/limits/reset', { key: key.id });
    await ask(key, 90);
    await schedule();
    expect(told()).toEqual(['/graft budget.nearly_used']);
  });

  it('that a fine-tuning job uses is told of', async () => {
    await hookOf();
    const caller = { keyId: 'key_1', tenant: 'alice', limits: { tokens_per_day: 100 } };
    await graft.services.budgets.spend(caller, { job: 'ftjob-1', from: 0, total: 120 });
    await schedule();
    expect(told()).toEqual(['/graft budget.nearly_used', '/graft budget.used']);
  });

  it('reports each share from when it is reached until it was told, whatever is lost', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 50 }),
        fc.array(fc.record({ tokens: fc.nat(30), hours: fc.nat(20), lost: fc.boolean() }), { maxLength: 60 }),
        (limit, steps) => {
          const state = emptyQuota();
          const heard = new Set<string>();
          let at = START;
          let [day, used] = [-1, 0];
          for (const { tokens: more, hours, lost } of steps) {
            at += hours * 3_600_000;
            const today = Math.floor(at / DAY);
            if (today !== day) [day, used] = [today, 0];
            used += more;
            const ended = { lease: '', tokens: more, again: false, at };
            const reached = settle(state, { ...ended, limits: { tokens_per_day: limit } });
            const due = BUDGET_SHARES.filter(
              (percent) => used / limit >= percent / 100 && !heard.has(`${day} ${percent}`),
            );
            expect(reached.map(({ percent }) => percent)).toEqual(due);
            for (const share of reached) {
              expect(share).toMatchObject({ used, limit, renewedAt: (day + 1) * DAY });
              if (lost) continue;
              tell(state, share);
              heard.add(`${day} ${share.percent}`);
            }
          }
        },
      ),
    );
  });
});

describe('an origin', () => {
  it('that does not answer two runs in a row is away, and is told of when it is back', async () => {
    const hook = await hookOf();
    await hookOf({ url: 'https://hooks.example.com/alice', tenant: 'alice' });
    const minute = async () => {
      await schedule();
      graft.clock.advance(MINUTE);
    };
    await minute();
    down.add('o2.test');
    const since = new Date(graft.clock.now()).toISOString();
    await minute();
    expect(told()).toEqual([]);
    for (let more = 0; more < 3; more += 1) await minute();
    expect(told()).toEqual(['/graft origin.away']);
    down.clear();
    for (let more = 0; more < 3; more += 1) await minute();
    expect(told()).toEqual(['/graft origin.away', '/graft origin.back']);
    for (const message of got) {
      verify(message, hook.secret);
      expect(dataOf(message)).toEqual({ origin: 'o2', since });
    }
    // Later it is another absence.
    down.add('o2.test');
    for (let more = 0; more < 3; more += 1) await minute();
    expect(told().slice(2)).toEqual(['/graft origin.away']);
  });

  it('that misses one run is not told of', async () => {
    await hookOf();
    for (let round = 0; round < 3; round += 1) {
      down.add('o1.test');
      await schedule();
      // Two runs at once are one.
      await schedule();
      down.clear();
      graft.clock.advance(MINUTE);
      await schedule();
      graft.clock.advance(MINUTE);
    }
    expect(got).toEqual([]);
    expect(await graft.stores.webhooks.absences()).toEqual([]);
  });

  it('that is away and no longer configured is forgotten without a word', async () => {
    await hookOf();
    const before = graft;
    down.add('o2.test');
    for (let minutes = 0; minutes < 2; minutes += 1) {
      await schedule();
      graft.clock.advance(MINUTE);
    }
    graft = await open({ beside: before, origins: [{ id: 'o1', url: 'http://o1.test' }] });
    await schedule();
    expect(told()).toEqual(['/graft origin.away']);
    expect(await graft.stores.webhooks.absences()).toEqual([]);
  });

  it('writes nothing while all is as it was', async () => {
    await schedule();
    const write = vi.spyOn(graft.stores.webhooks, 'changeAbsences');
    for (let minutes = 0; minutes < 3; minutes += 1) {
      graft.clock.advance(MINUTE);
      await schedule();
    }
    expect(write).not.toHaveBeenCalled();
    down.add('o2.test');
    for (let minutes = 0; minutes < 5; minutes += 1) {
      graft.clock.advance(MINUTE);
      await schedule();
    }
    // It is missed, and told of.
    expect(write).toHaveBeenCalledTimes(2);
  });
});

describe('a receiver', () => {
  it('that fails is tried again with the same id, and delays no other', async () => {
    const failing = await hookOf({ url: 'https://hooks.example.com/failing' });
    await hookOf({ url: 'https://hooks.example.com/fine', tenant: 'bob' });
    statuses.set(failing.url, 500);
    const flood = (tenant: string) =>
      graft.stores.webhooks.tell(
        Array.from({ length: MAX_WAITING_OF_TENANT + 5 }, (_, i) => ({
          id: `msg:budget:${tenant}:${i}`,
          tenant,
          event: 'budget.used' as const,
          data: { i },
        })),
        graft.clock.now(),
      );
    // What is too much is dropped, and can be seen.
    await flood('alice');
    expect(await listed()).toMatchObject([{ waiting: MAX_WAITING_OF_TENANT }, { waiting: 0 }]);
    for (let tenant = 0; tenant < 9; tenant += 1) await flood(`alice-${tenant}`);
    expect(await listed()).toMatchObject([{ waiting: MAX_WAITING_ALERTS }, { waiting: 0 }]);
    const away = { id: 'msg:origin.away:o1:1', tenant: null, event: 'origin.away' as const, data: {} };
    await graft.stores.webhooks.tell([away], graft.clock.now());
    expect(await listed()).toMatchObject([{ waiting: MAX_WAITING_ALERTS + 1 }, { waiting: 0 }]);
    graft.clock.advance(1);
    await ask(await keyOf('bob', { tokens_per_day: 10 }), 10);
    await schedule();
    expect(told().filter((one) => one.startsWith('/fine'))).toEqual([
      '/fine budget.nearly_used',
      '/fine budget.used',
    ]);
    const first = got.find(({ url }) => url === failing.url)?.headers.get('webhook-id');
    statuses.clear();
    for (let minutes = 0; minutes < 20; minutes += 1) {
      graft.clock.advance(MINUTE);
      await schedule();
    }
    const again = got.filter(({ headers }) => headers.get('webhook-id') === first);
    expect(again).toHaveLength(2);
    for (const message of again) verify(message, failing.secret);
    expect(await listed()).toMatchObject([{ waiting: 0 }, { waiting: 0 }]);
  });

  it('can be tested, and says what the receiver answered', async () => {
    const hook = await hookOf({ tenant: 'alice' });
    const test = () => post<WebhookTest>(`/admin/webhooks/${hook.id}/test`, {});
    expect(await test()).toEqual({ delivered: true, status: 200, reason: null });
    expect(got).toHaveLength(1);
    verify(got[0]!, hook.secret);
    expect(JSON.parse(got[0]!.body)).toMatchObject({
      type: 'webhook.test',
      data: { webhook: hook.id, tenant: 'alice' },
    });
    statuses.set(hook.url, 403);
    expect(await test()).toEqual({ delivered: false, status: 403, reason: 'status 403' });
    graft.application.answer = () => Promise.reject(new TypeError('nobody is there'));
    expect(await test()).toEqual({ delivered: false, status: null, reason: 'no answer' });
  });

  it('has a secret of its own, which can be read again', async () => {
    const [one, two] = [await hookOf(), await hookOf()];
    expect(one.secret).not.toBe(two.secret);
    const read = await graft.request(`/admin/webhooks/${one.id}/secret`);
    expect(await read.json()).toEqual({ secret: one.secret });
  });

  it('that was removed gets nothing more', async () => {
    const hook = await hookOf();
    await hookOf({ url: 'https://hooks.example.com/other' });
    await ask(await keyOf('alice', { tokens_per_day: 10 }), 9);
    expect((await graft.request(`/admin/webhooks/${hook.id}`, { method: 'DELETE' })).status).toBe(204);
    await schedule();
    expect(told()).toEqual(['/other budget.nearly_used']);
    expect((await graft.request(`/admin/webhooks/${hook.id}`, { method: 'DELETE' })).status).toBe(404);
  });

  it('must be at a public host, and a tenant has only so many', async () => {
    for (const url of [
      'http://example.com/',
      'https://10.0.0.1/',
      'http://127.0.0.1:1/',
      'https://x.local/',
    ]) {
      const refused = await graft.request('/admin/webhooks', { body: { url } });
      expect(refused.status, url).toBe(400);
      expect(await refused.json()).toMatchObject({ error: { param: 'url' } });
    }
    for (let made = 0; made < MAX_WEBHOOKS; made += 1) await hookOf({ tenant: 'alice' });
    const body = { url: 'https://hooks.example.com/', tenant: 'alice' };
    expect((await graft.request('/admin/webhooks', { body })).status).toBe(409);
    await hookOf({ tenant: 'bob' });
    await hookOf();
    expect((await listed()).map(({ tenant }) => tenant)).toEqual([
      null,
      ...Array.from({ length: MAX_WEBHOOKS }, () => 'alice'),
      'bob',
    ]);
  });
});

it('the erasure of a tenant erases its webhooks, and what the operator was told of it', async () => {
  await hookOf();
  for (const tenant of ['acme', 'acme-2']) {
    await hookOf({ tenant, url: 'https://hooks.example.com/own' });
    await ask(await keyOf(tenant, { tokens_per_day: 10 }), 10);
  }
  await erasePages(async (cursor) =>
    post('/admin/erase', { tenant: 'acme', ...(cursor === null ? {} : { cursor }) }),
  );
  const { results } = await graft.db.prepare('SELECT id, body FROM webhook_messages').all<{ body: string }>();
  // Two shares, to the operator and to itself.
  expect(results).toHaveLength(4);
  for (const row of results) expect(JSON.stringify(row)).not.toMatch(/acme(?!-2)/);
  expect((await listed()).map(({ tenant }) => tenant)).toEqual([null, 'acme-2']);
});
