import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { VerifyAnswer } from '../../../protocol/origin-wire.ts';
import { FAKE_PROBE, fakeTokens } from '../../fakes/fake-trials.ts';
import { BAD_CARDS, trainingCard } from '../../contracts/sample-training.ts';
import { TINY_BASE, tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, verification, type AppHarness } from '../app-harness.ts';
import { HANG_MS } from '../../setup/slow.ts';

const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });
/** Longer than KV can be stale. */
const LATER_MS = 61_000;

let graft: AppHarness;

const errorOf = async (response: Response) =>
  ((await response.json()) as { error: { code: string; reason?: string; message: string } }).error;
const publish = (adapter = second, more: object = {}) => graft.publish('notes', adapter, more);
const verifies = () => graft.asked.filter((call) => call.endsWith('/verify')).length;
/** Sets the origin's response to a trial; the base stays. */
const tryWith = (answer: (init: RequestInit) => Response | Promise<Response>) => {
  graft.origin.answer = (_, path, init) => (path === '/base' ? Response.json(TINY_BASE) : answer(init));
};
const answering = (change: Partial<VerifyAnswer>) =>
  tryWith((init) => Response.json({ ...verification(init), ...change }));
const untilAborted = ({ signal }: RequestInit) =>
  new Promise<never>((_, reject) =>
    signal?.addEventListener('abort', () => reject(new Error('aborted')), { once: true }),
  );

/** Checks that D1 and KV are unchanged, and nothing was written to either. */
async function unchanged(work: () => Promise<void>): Promise<void> {
  const { registry } = graft.services;
  const before = [await registry.name('notes'), await registry.versions('notes')];
  const writes = [vi.spyOn(registry, 'publish'), vi.spyOn(graft.stores.writers, 'sync')];
  await work();
  for (const write of writes) {
    expect(write).not.toHaveBeenCalled();
    write.mockRestore();
  }
  expect([await registry.name('notes'), await registry.versions('notes')]).toEqual(before);
}

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness({ verifyTimeoutMs: HANG_MS });
  expect((await graft.publish('notes', first)).status).toBe(201);
  graft.clock.advance(LATER_MS);
  graft.asked.length = 0;
});

describe('admission', () => {
  it('stores what the origin measured with the version', async () => {
    const published = (await (await publish()).json()) as { proof: object; chain: { digest: string }[] };
    expect(published.proof).toEqual({
      base_digest: TINY_BASE.digest,
      weights: TINY_BASE.weights,
      prompt: FAKE_PROBE,
      tokens: fakeTokens([{ digest: second.digest, scale: 1 }]),
      at: graft.clock.time,
    });
    const verified = await graft.request('/admin/verify', { body: { name: 'notes' } });
    expect(await verified.json()).toMatchObject({
      version: 2,
      proof: published.proof,
      origins: [{ ok: true }],
    });
    graft.clock.advance(LATER_MS);
    expect(await (await publish()).json()).toMatchObject({ version: 2, proof: published.proof });
  });

  it('tries the whole chain', async () => {
    const parent = (await graft.services.registry.live('notes'))?.chainId ?? null;
    const child = tinyAdapter({ seed: 3, parent });
    let chain: unknown;
    tryWith((init) => {
      ({ chain } = JSON.parse(init.body as string) as { chain: unknown });
      return Response.json(verification(init));
    });
    expect((await graft.publish('notes/child', child, { parent: 'notes' })).status).toBe(201);
    expect(chain).toEqual([first, child].map(({ digest }) => ({ digest, scale: 1 })));
  });

  it('skips the trial on a repeat, and reuses the proof of the same chain', async () => {
    await publish();
    expect(verifies()).toBe(1);
    graft.clock.advance(LATER_MS);
    tryWith(() => Promise.reject(new Error('ECONNREFUSED')));
    expect((await publish()).status).toBe(200);
    graft.clock.advance(LATER_MS);
    const again = await publish(first);
    expect(await again.json()).toMatchObject({ version: 3, proof: { prompt: FAKE_PROBE } });
    expect(verifies()).toBe(1);
  });

  it('does not reuse the proof of another base or weight format', async () => {
    await publish();
    expect(verifies()).toBe(1);
    for (const [i, other] of [{ digest: 'a'.repeat(64) }, { weights: 'int8' }].entries()) {
      graft.clock.advance(LATER_MS);
      graft.origin.answer = (_, path, init) =>
        Response.json(path === '/base' ? { ...TINY_BASE, ...other } : verification(init));
      expect((await graft.publish(`other/${i}`, second)).status).toBe(201);
      expect(verifies()).toBe(2 + i);
    }
  });

  it.each([
    ['no_change', 'no_op'],
    ['non_finite', 'non_finite'],
    ['Tensor x is too large for this base.', 'proof_failed'],
    [null, 'proof_failed'],
  ])('refuses what an origin refuses with %s', async (reason, told) => {
    answering({ ok: false, reason, adapter: [] });
    await unchanged(async () => {
      const response = await publish();
      expect(response.status).toBe(422);
      const error = await errorOf(response);
      expect([error.code, error.reason]).toEqual(['adapter_invalid', told]);
      if (told === 'proof_failed') expect(error.message).toContain(reason ?? 'no reason was given');
    });
  });

  it.each<[string, (init: RequestInit) => Response | Promise<Response>]>([
    ['is down', () => Promise.reject(new Error('ECONNREFUSED'))],
    ['hangs', untilAborted],
    [
      'hangs in the middle of its answer',
      ({ signal }) => {
        const body = new ReadableStream({
          start(stream) {
            stream.enqueue(new TextEncoder().encode('{"digest":'));
            signal?.addEventListener('abort', () => stream.error(new Error('aborted')), { once: true });
          },
        });
        return new Response(body);
      },
    ],
    ['answers with no JSON', () => new Response('<html>')],
    ['answers with another JSON', () => Response.json({ ok: true })],
    ['answers for another adapter', (init) => Response.json({ ...verification(init), digest: first.digest })],
    ['says ok and shows nothing', (init) => Response.json({ ...verification(init), adapter: 'none' })],
    [
      'refuses our signature',
      () => Response.json({ error: { message: 'x', code: 'invalid_signature' } }, { status: 401 }),
    ],
    [
      'is another kind of server',
      () => Response.json({ error: { message: 'x', code: 'not_found' } }, { status: 404 }),
    ],
    ['fails', () => Response.json({ error: { message: 'x', code: 'internal_error' } }, { status: 500 })],
    ['redirects', () => new Response(null, { status: 302, headers: { location: 'http://x.test/' } })],
  ])('an origin that %s: 503, and nothing is published', async (_, answer) => {
    tryWith(answer);
    await unchanged(async () => {
      const response = await publish();
      expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2']);
      expect((await errorOf(response)).code).toBe('origin_unavailable');
    });
    // The next attempt, with the origin back, works like a first one.
    tryWith((init) => Response.json(verification(init)));
    graft.clock.advance(LATER_MS);
    expect(await (await publish()).json()).toMatchObject({ version: 2, live: true });
  });

  it('reports that the origin is busy', async () => {
    tryWith(() =>
      Response.json(
        { error: { message: 'full', code: 'queue_full' } },
        { status: 429, headers: { 'retry-after-ms': '1500' } },
      ),
    );
    await unchanged(async () => {
      const response = await publish();
      expect([response.status, response.headers.get('retry-after-ms')]).toEqual([429, '1500']);
    });
  });

  it('refuses conflicts before the trial', async () => {
    const response = await publish(second, { expect: 7 });
    expect([response.status, verifies()]).toEqual([409, 0]);
  });

  it.each([
    ['the version', () => vi.spyOn(graft.services.registry, 'publish')],
    ['the pointer', () => vi.spyOn(graft.stores.writers, 'sync')],
  ])('cut off after the trial, at %s, is repeated cleanly', async (_, spyOn) => {
    const spy = (spyOn() as ReturnType<typeof vi.fn>).mockRejectedValueOnce(new Error('cut'));
    expect((await publish()).status).toBeGreaterThanOrEqual(500);
    spy.mockRestore();
    graft.clock.advance(LATER_MS);
    expect([200, 201]).toContain((await publish()).status);
    const versions = await graft.services.registry.versions('notes');
    expect(versions.map(({ version, proof }) => [version, proof !== null])).toEqual([
      [2, true],
      [1, true],
    ]);
  });
});

describe('a training card', () => {
  const training = trainingCard();

  it('is kept with the version, and is no part of what KV has', async () => {
    const published = await publish(second, { training });
    expect(await published.json()).toMatchObject({ version: 2, training });
    const listed = await (await graft.request('/admin/versions?name=notes')).json();
    expect(listed).toMatchObject({ versions: [{ training }, { training: null }] });
    expect(await graft.services.registry.live('notes')).not.toHaveProperty('training');
    const kept = (await graft.kv.get('name:notes', { type: 'text', cacheTtl: 60 })) ?? '';
    expect(kept).toContain(second.digest);
    expect(kept).not.toContain('curve');
  });

  it('stays as it is when the publication is repeated with another one, or with none', async () => {
    await publish(second, { training });
    for (const other of [{ ...training, steps: 91 }, null]) {
      graft.clock.advance(LATER_MS);
      const again = await publish(second, { training: other });
      expect(again.status).toBe(200);
      expect(await again.json()).toMatchObject({ version: 2, training });
    }
    expect(await graft.services.registry.versions('notes')).toMatchObject([{ training }, { training: null }]);
  });

  it.each(BAD_CARDS)('is refused with %s', async (_, wrong) => {
    const response = await publish(second, { training: { ...training, ...wrong } });
    expect([response.status, (await errorOf(response)).code]).toEqual([400, 'invalid_request']);
    expect(verifies()).toBe(0);
  });
});

describe('an evaluation', () => {
  const evaluation = { rows: 12, exact_match: 0.75, mean_nll: 0.31, sha256: 'e'.repeat(64) };

  it('is stored with the version', async () => {
    const at = graft.clock.time;
    const published = await publish(second, { evaluation });
    expect(await published.json()).toMatchObject({ evaluation: { ...evaluation, at } });
    const listed = await (await graft.request('/admin/versions?name=notes')).json();
    expect(listed).toMatchObject({ versions: [{ evaluation: { ...evaluation, at } }, { evaluation: null }] });
  });

  it.each([
    [{ rows: 0 }],
    [{ rows: 1.5 }],
    [{ exact_match: 1.01 }],
    [{ exact_match: -0.01 }],
    [{ mean_nll: -1 }],
    [{ mean_nll: null }],
    [{ sha256: 'E'.repeat(64) }],
    [{ at: 5 }],
  ])('is refused with %j', async (wrong) => {
    const response = await publish(second, { evaluation: { ...evaluation, ...wrong } });
    expect(response.status).toBe(400);
    expect(verifies()).toBe(0);
  });
});
