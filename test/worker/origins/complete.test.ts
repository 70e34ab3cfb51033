/** The origin client against fake origins over HTTP: the order of origins, and what the client gets. */
import type { CompletionCall } from '../../../worker/origins/send.ts';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { AdapterManifest } from '../../../protocol/adapter-manifest.ts';
import { parseSigningKeys, type SigningKey } from '../../../protocol/signature.ts';
import {
  ASK_HEADER,
  originHash,
  POOL_HEADER,
  TURNED_HEADER,
  writePoolNotes,
} from '../../../protocol/pool-notes.ts';
import { createOriginClient } from '../../../worker/origins/client.ts';
import type { BlobStore } from '../../../worker/blobs/ports.ts';
import { startFakeOrigin, type FakeOrigin } from '../../fakes/fake-origin.ts';
import { TINY_BASE } from '../../fakes/tiny-adapters.ts';
import { HANG_MS, TEST_MS } from '../../setup/slow.ts';

const keys = (...kids: string[]): SigningKey[] =>
  parseSigningKeys(
    kids.map((kid) => `${kid}:${Buffer.alloc(32, kid.charCodeAt(0)).toString('base64')}`).join(','),
  );
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
/** No adapter is copied in these tests. */
const noBlobs = {
  getRecord: () => Promise.resolve(null),
  getPart: () => Promise.resolve(null),
} as Partial<BlobStore> as BlobStore;

/** Longer than any test: no origin is probed … */
const PATIENT_MS = TEST_MS;
/** … except where the test is about that. */
const IMPATIENT_MS = 50;

let origins: FakeOrigin[];
let lines: { event: string; [field: string]: unknown }[];

const start = (id: string, kids: string[] = ['k'], port = 0) =>
  startFakeOrigin({ id, keys: keys(...kids), base: TINY_BASE, port });

beforeEach(() => {
  origins = [];
  lines = [];
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(
      (line: string) => void lines.push(JSON.parse(line) as never),
    );
});
afterEach(async () => {
  vi.restoreAllMocks();
  await Promise.all(origins.map((origin) => origin.stop()));
});

async function clientOf(
  ids: string[],
  options: {
    kids?: string[];
    originKids?: string[];
    /** ms since the origins started: they reject signatures from before. */
    later?: () => number;
    now?: () => number;
    patienceMs?: number;
    budgetMs?: number;
  } = {},
) {
  origins = await Promise.all(ids.map((id) => start(id, options.originKids)));
  // Fixed, so that ejections do not end on a busy machine.
  const begun = Date.now();
  const client = createOriginClient({
    origins: ids.map((id, i) => ({ id, url: origins[i]?.url ?? '' })),
    keys: keys(...(options.kids ?? ['k'])),
    blobs: noBlobs,
    fetch: (url, init) => fetch(url, init),
    now: options.now ?? (() => begun + (options.later?.() ?? 0)),
    sleep,
    patienceMs: options.patienceMs ?? PATIENT_MS,
    pulseMs: HANG_MS,
    ...(options.budgetMs === undefined ? {} : { budgetMs: options.budgetMs }),
  });
  const work: Promise<unknown>[] = [];
  return {
    client,
    settled: () => Promise.all(work),
    ask: (name: string | null, more: Partial<CompletionCall> = {}) =>
      client.complete({
        path: '/v1/chat/completions',
        request: { model: name ?? 'base', messages: [{ role: 'user', content: 'hi' }] },
        model: name ?? 'base',
        manifest:
          name === null
            ? null
            : ({
                name,
                version: 1,
                base: { id: 'tiny', digest: 'b'.repeat(64) },
                chain: [],
              } as Partial<AdapterManifest> as AdapterManifest),
        tenant: 't',
        requestId: 'r-1',
        signal: new AbortController().signal,
        keepAlive: (one) => void work.push(one),
        ...more,
      }),
  };
}

const serverOf = async (asking: ReturnType<Awaited<ReturnType<typeof clientOf>>['ask']>) => {
  const served = await asking;
  if (!served.ok) throw new Error(served.error.code);
  const text = await served.value.response.text();
  return {
    id: served.value.origin.id,
    tried: served.value.tried,
    status: served.value.response.status,
    text,
  };
};
const byId = (id: string) => origins[Number(id.slice(1)) - 1] as FakeOrigin;
/** Completions that the origins have received. */
const asked = () => origins.reduce((sum, { log }) => sum + log.completions.length, 0);
const errorOf = (code: string, status: number, headers: Record<string, string> = {}, reason?: string) =>
  ((response) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify({ error: { message: 'no', type: 't', param: null, code, reason } }));
  }) satisfies Parameters<FakeOrigin['answerWith']>[0];
const events = () => lines.map(({ event }) => event);

describe('failing over', () => {
  const breaks: [string, (origin: FakeOrigin) => unknown][] = [
    ['is not there', (origin) => origin.stop()],
    ['is shutting down', (origin) => origin.drain()],
    [
      'hides behind a proxy that says 502',
      (origin) => origin.answerWith((response) => response.writeHead(502).end('<html>bad gateway')),
    ],
    [
      'hides behind a proxy that says 503',
      (origin) => origin.answerWith((response) => response.writeHead(503).end('busy')),
    ],
    [
      'hides behind a page',
      (origin) =>
        origin.answerWith((response) =>
          response.writeHead(200, { 'content-type': 'text/html' }).end('hello'),
        ),
    ],
    [
      'redirects',
      (origin) =>
        origin.answerWith((response) => response.writeHead(302, { location: 'http://evil.example' }).end()),
    ],
    ['closes the connection', (origin) => origin.answerWith((response) => response.destroy())],
    [
      'breaks off in an answer that is not streamed',
      (origin) =>
        origin.answerWith((response) => {
          response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
          response.write('{"choices":', () => setTimeout(() => response.destroy(), 20));
        }),
    ],
  ];
  it.each(breaks)(
    'asks the next origin if one %s, and then avoids the first for a while',
    async (_what, breakIt) => {
      const { ask } = await clientOf(['o1', 'o2', 'o3']);
      const first = await serverOf(ask('a/b'));
      expect(first.tried).toEqual([]);
      await breakIt(byId(first.id));
      const second = await serverOf(ask('a/b'));
      expect([second.status, second.tried]).toEqual([200, [first.id]]);
      const third = await serverOf(ask('a/b'));
      expect([third.id, third.tried]).toEqual([second.id, []]);
    },
  );

  it('detects an origin that hangs by a probe, and asks the next one', async () => {
    let later = 0;
    const { ask } = await clientOf(['o1', 'o2', 'o3'], { patienceMs: IMPATIENT_MS, later: () => later });
    const first = await serverOf(ask('a/b'));
    byId(first.id).hang();
    // Its last response no longer counts as a sign of life.
    later += 2 * IMPATIENT_MS;
    const second = await serverOf(ask('a/b'));
    expect([second.status, second.tried]).toEqual([200, [first.id]]);
    expect(lines).toContainEqual(expect.objectContaining({ event: 'origin_unreachable', origin: first.id }));
    expect(await serverOf(ask('a/b'))).toMatchObject({ id: second.id, tried: [] });
  });

  it('also detects that when scoring rows, which may take ten minutes', async () => {
    let later = 0;
    const { client } = await clientOf(['o1', 'o2', 'o3'], {
      patienceMs: IMPATIENT_MS,
      later: () => later,
    });
    const digest = 'd'.repeat(64);
    const life = { signal: new AbortController().signal, keepAlive: () => undefined };
    const trial = { ...life, name: 'a/b', base: 'tiny', tenant: 't', chain: [{ digest, scale: 1 }] };
    const score = { exact: true, nll: 0, tokens: 1 };
    for (const { tryWith } of origins) tryWith((response) => response.end(JSON.stringify({ rows: [score] })));
    const tried = () => origins.map(({ log }) => log.trials.length);
    const evaluate = () => client.evaluate(trial, [{ prompt: 'a', expected: 'b' }]);
    expect(await evaluate()).toMatchObject({ ok: true });
    const first = origins[tried().indexOf(1)] as FakeOrigin;
    first.hang();
    later += 2 * IMPATIENT_MS;
    for (let i = 0; i < 2; i += 1) expect(await evaluate()).toMatchObject({ ok: true });
    expect(tried().sort()).toEqual([0, 1, 2]);
    // The second request does not wait for it.
    const hung = lines.filter(({ event, reason }) => event === 'origin_unreachable' && reason !== undefined);
    expect(hung).toHaveLength(1);
  });

  it('waits for a slow origin that answers probes', async () => {
    const { ask } = await clientOf(['o1', 'o2'], { patienceMs: IMPATIENT_MS });
    for (const { answerWith } of origins)
      answerWith((response) => {
        const answer = () => response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
        setTimeout(answer, 4 * IMPATIENT_MS);
      });
    const served = await serverOf(ask('a/b'));
    expect(served).toMatchObject({ status: 200, tried: [] });
    expect(byId(served.id).log.bases).toBeGreaterThan(0);
    expect(asked()).toBe(1);
  });

  it('returns 503 only if none is left, after trying all of them', async () => {
    const { ask } = await clientOf(['o1', 'o2']);
    await Promise.all(origins.map((origin) => origin.stop()));
    for (let i = 0; i < 3; i += 1)
      expect(await ask('a/b')).toMatchObject({ ok: false, error: { code: 'origin_unavailable' } });
    expect(events().filter((event) => event === 'origin_unreachable')).toHaveLength(6);
  });

  it('does not resend what one origin rejects', async () => {
    const { ask } = await clientOf(['o1', 'o2']);
    for (const [code, status] of [
      ['invalid_request', 400],
      ['internal_error', 500],
      ['deadline_exceeded', 503],
      ['context_length_exceeded', 400],
      ['adapter_invalid', 422],
    ] as const) {
      for (const origin of origins)
        origin.answerWith(errorOf(code, status, { 'x-graft-usage': 'prompt=9,completion=0' }));
      const before = asked();
      const served = await serverOf(ask('a/b'));
      expect([served.status, served.tried]).toEqual([status, []]);
      expect(JSON.parse(served.text)).toMatchObject({ error: { code } });
      expect(asked()).toBe(before + 1);
    }
  });

  it('counts its time limit from its arrival', async () => {
    const now = Date.now();
    const { ask } = await clientOf(['o1'], { budgetMs: 10_000, now: () => now });
    await serverOf(ask('a/b', { arrivedAt: now - 4_000 }));
    await serverOf(ask('a/b'));
    expect(origins[0]?.log.completions.map(({ graft }) => graft.budget_ms)).toEqual([6_000, 10_000]);
  });

  it.each([false, true])(
    'lets an origin report an expired deadline itself, and does not count it as lost: stream %s',
    async (stream) => {
      const { ask } = await clientOf(['o1', 'o2'], { budgetMs: 100 });
      // Like an origin whose time for the request is over by its own clock.
      const late = errorOf('deadline_exceeded', 503);
      for (const origin of origins)
        origin.answerWith((response) => {
          const { budget_ms: budget = 0 } = origin.log.completions.at(-1)?.graft ?? {};
          const told = JSON.stringify({ error: { message: 'no', code: 'deadline_exceeded' } });
          if (stream) response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': ping\n\n');
          setTimeout(() => (stream ? response.end(`data: ${told}\n\n`) : late(response)), budget + 300);
        });
      const served = await serverOf(ask('a/b', { request: { stream } }));
      expect(served).toMatchObject({ status: stream ? 200 : 503, tried: [] });
      expect(served.text).toContain('deadline_exceeded');
      expect(served.text).not.toContain('origin_unavailable');
      expect(asked()).toBe(1);
      expect(events()).not.toContain('origin_unreachable');
      expect(events()).not.toContain('stream_cut');
      // It is still the first choice.
      for (const origin of origins) origin.answerWith(null);
      expect((await serverOf(ask('a/b'))).id).toBe(served.id);
    },
  );

  it('does not restart elsewhere what took too long for the proxy before an origin', async () => {
    const { ask } = await clientOf(['o1', 'o2']);
    for (const origin of origins)
      origin.answerWith((response) => response.writeHead(524).end('<html>a timeout occurred'));
    expect(await ask('a/b')).toMatchObject({
      ok: false,
      error: { code: 'deadline_exceeded', message: expect.stringContaining('stream') as string },
    });
    expect(asked()).toBe(1);
  });

  it('asks another origin if a queue is full, and says so if all are', async () => {
    const { ask } = await clientOf(['o1', 'o2']);
    const { id } = await serverOf(ask('a/b'));
    const full = errorOf('queue_full', 429, { 'retry-after': '1', 'retry-after-ms': '700' });
    byId(id).answerWith(full);
    const other = await serverOf(ask('a/b'));
    expect([other.status, other.tried]).toEqual([200, [id]]);
    for (const origin of origins) origin.answerWith(full);
    const refused = await ask('a/b');
    expect(refused.ok && refused.value.response.status).toBe(429);
    expect(refused.ok && refused.value.response.headers.get('retry-after-ms')).toBe('700');
    // The code that the client gets, for error counts.
    expect(refused.ok && refused.value.refused).toBe('queue_full');
  });

  it('asks another when a crowded origin turns a request away, of its own list, and then lets it wait', async () => {
    const { ask } = await clientOf(['o1', 'o2', 'o3', 'o4']);
    const { id } = await serverOf(ask('a/b'));
    const lie = writePoolNotes(
      [[originHash('evil.example'), { rows: 0, slots: 60_000, chains: new Map(), at: 0 }]],
      0,
    );
    const crowded = errorOf('queue_full', 429, {
      ...{ 'retry-after': '1', 'retry-after-ms': '1000', 'x-graft-load': '20/16' },
      ...{ [TURNED_HEADER]: 'true', [POOL_HEADER]: lie },
    });
    byId(id).answerWith(crowded);
    expect(byId(id).log.headers[ASK_HEADER]).toBe('pool turn');
    const other = await serverOf(ask('a/b'));
    // It is no failure.
    expect([other.status, other.tried]).toEqual([200, []]);
    expect(other.id).not.toBe(id);
    // Two may turn it away; those after them may not.
    for (const origin of origins) origin.answerWith(crowded);
    const before = asked();
    const refused = await ask('a/b');
    expect(refused.ok).toBe(false);
    expect(asked() - before).toBe(6);
    expect(origins.filter(({ log }) => log.headers[ASK_HEADER]?.includes('turn') === true)).toEqual([]);
  });

  it('sends no notes to an origin without peers', async () => {
    const { ask } = await clientOf(['o1']);
    await serverOf(ask('a/b'));
    expect(byId('o1').log.headers[ASK_HEADER]).toBeUndefined();
  });

  it.each([
    ['has fewer rows than a request asks for', errorOf('queue_full', 429), 429],
    ['takes lower ranks', errorOf('adapter_invalid', 422, {}, 'rank_sum_exceeded'), 422],
  ])('asks elsewhere when an origin %s, some of those that are left', async (_, refusal, status) => {
    const { ask } = await clientOf(['o1', 'o2', 'o3', 'o4', 'o5']);
    const { id } = await serverOf(ask('a/b'));
    byId(id).answerWith(refusal);
    const other = await serverOf(ask('a/b'));
    expect([other.status, other.tried]).toEqual([200, [id]]);
    // It keeps its rank for requests that fit.
    byId(id).answerWith(null);
    expect(await serverOf(ask('a/b'))).toMatchObject({ id, tried: [] });
    for (const origin of origins) origin.answerWith(refusal);
    const before = asked();
    expect(await serverOf(ask('a/b'))).toMatchObject({ id, status, tried: [] });
    expect(asked() - before).toBe(3);
  });

  it('never asks another after the first byte: the client gets an error that the stream broke', async () => {
    const { ask } = await clientOf(['o1', 'o2']);
    for (const origin of origins) origin.hold();
    const served = await ask('a/b', { request: { stream: true } });
    if (!served.ok) throw new Error(served.error.code);
    const before = asked();
    const text = served.value.response.text();
    await sleep(30);
    byId(served.value.origin.id).cut();
    const frames = (await text).split('\n\n').filter((frame) => frame.startsWith('data: '));
    expect(JSON.parse(frames.at(-1)?.slice(6) ?? '')).toMatchObject({
      error: { code: 'origin_unavailable' },
    });
    expect(asked()).toBe(before);
    expect(events()).toContain('stream_cut');
    // It is no longer the first choice.
    for (const origin of origins) origin.release();
    expect((await serverOf(ask('a/b'))).id).not.toBe(served.value.origin.id);
  });

  it('stops when the client disconnects', async () => {
    const { ask } = await clientOf(['o1', 'o2']);
    for (const origin of origins) origin.hang();
    const gone = new AbortController();
    const asking = ask('a/b', { signal: gone.signal });
    await sleep(20);
    gone.abort();
    expect((await asking).ok).toBe(false);
    expect(origins.map(({ log }) => log.completions.length)).toEqual([0, 0]);
    expect(events()).not.toContain('origin_unreachable');
  });

  it('uses an origin again after a probe, not after a client’s request', async () => {
    const since = Date.now();
    let later = 0;
    const { ask, settled } = await clientOf(['o1', 'o2'], { later: () => later });
    const { id } = await serverOf(ask('a/b'));
    const port = Number(new URL(byId(id).url).port);
    await byId(id).stop();
    await serverOf(ask('a/b'));
    const back = await start(id, ['k'], port);
    origins.push(back);
    later = 1_000 + Date.now() - since;
    expect((await serverOf(ask('a/b'))).id).not.toBe(id);
    await settled();
    expect([back.log.bases, back.log.completions.length]).toEqual([1, 0]);
    expect((await serverOf(ask('a/b'))).id).toBe(id);
  });
});

describe('load', () => {
  it('spreads a name with more requests than its origin has rows', async () => {
    const { ask } = await clientOf(['o1', 'o2', 'o3']);
    for (const origin of origins) origin.hold();
    const answers = [];
    for (let i = 0; i < 48; i += 1) {
      const served = await ask('hot', { request: { stream: true } });
      if (!served.ok) throw new Error(served.error.code);
      answers.push(served.value.response.text());
    }
    const counts = origins.map(({ log }) => log.completions.length);
    // Its own origin runs 16, and half as many wait there.
    expect([...counts].sort((a, b) => b - a)).toEqual([24, 24, 0]);
    for (const origin of origins) origin.release();
    await Promise.all(answers);
    // All have ended: the name is back at its own origin.
    const [first, second] = [await serverOf(ask('hot')), await serverOf(ask('hot'))];
    expect(first.id).toBe(second.id);
  });

  it('distributes requests for the base by the origins’ free rows', async () => {
    const { ask } = await clientOf(['o1', 'o2']);
    // So much busier that no conversation stays.
    origins[0]?.sayLoad('12/16');
    origins[1]?.sayLoad('2/16');
    for (let i = 0; i < 20; i += 1) {
      const request = { model: 'base', messages: [{ role: 'user', content: `hi ${i}` }] };
      await serverOf(ask(null, { requestId: `r-${i}`, request }));
    }
    expect(origins[0]?.log.completions.length).toBeLessThanOrEqual(1);
  });

  it('avoids an origin that announces its shutdown', async () => {
    const { ask } = await clientOf(['o1', 'o2']);
    const { id } = await serverOf(ask('a/b'));
    byId(id).sayLoad('1/16;draining');
    expect((await serverOf(ask('a/b'))).id).toBe(id);
    expect(await serverOf(ask('a/b'))).toMatchObject({ tried: [], id: id === 'o1' ? 'o2' : 'o1' });
  });
});

describe('signatures', () => {
  it.each<[string, string[], string[]]>([
    ['before', ['a'], ['a']],
    ['new at the origins first', ['a'], ['b', 'a']],
    ['then at the edge', ['b', 'a'], ['b', 'a']],
    ['old gone at the origins', ['b', 'a'], ['b']],
    ['after', ['b'], ['b']],
    ['in the wrong order: new at the edge first', ['b', 'a'], ['a']],
  ])('rotates keys without a failed request: %s', async (_when, kids, originKids) => {
    const { ask } = await clientOf(['o1'], { kids, originKids });
    for (let i = 0; i < 3; i += 1) expect((await serverOf(ask('a/b'))).status).toBe(200);
    expect(lines).toEqual([]);
  });

  it('tells the operator which origin rejects it and why, and asks another', async () => {
    const skew = 75_000;
    let client: Awaited<ReturnType<typeof clientOf>>;
    client = await clientOf(['o1', 'o2'], { now: () => Date.now() + skew });
    expect(await client.ask('a/b')).toMatchObject({ ok: false, error: { code: 'origin_unavailable' } });
    expect(lines.filter(({ event }) => event === 'origin_refused_signature')).toMatchObject([
      { reason: 'clock_skew', level: 'error' },
      { reason: 'clock_skew', level: 'error' },
    ]);
    await Promise.all(origins.map((origin) => origin.stop()));
    client = await clientOf(['o1', 'o2'], { originKids: ['x'] });
    expect((await client.ask('a/b')).ok).toBe(false);
    expect(lines.at(-1)).toMatchObject({ event: 'origin_refused_signature', reason: 'unknown_key' });
  });
});

describe('identity', () => {
  it('sends the chain to run, under the same id in header and body', async () => {
    const { ask } = await clientOf(['o1']);
    await serverOf(ask('a/b', { requestId: 'abc-1' }));
    expect(origins[0]?.log.headers['x-request-id']).toBe('abc-1');
    expect(origins[0]?.log.completions[0]?.graft).toMatchObject({ request_id: 'abc-1', chain: [] });
  });
});
