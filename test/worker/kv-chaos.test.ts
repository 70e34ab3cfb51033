/** KV throws, hangs, or answers null, garbage, an older value or another key's, for each thing that is read of it. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import type { ManifestChainEntry } from '../../protocol/adapter-manifest.ts';
import { hashApiKey } from '../../protocol/identity.ts';
import type { KvFault } from '../fakes/fake-kv.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createRandom } from '../security/random.ts';
import { createAppHarness, createCopies, type AppHarness } from './app-harness.ts';
import { HANG_MS } from '../setup/slow.ts';

/** Longer than what KV may be behind. */
const LATER_MS = 61_000;
const FAULTS = ['throw', 'hang', 'null', 'garbage', 'stale', 'foreign'] as const;
const QUICK_FAULTS = FAULTS.filter((fault) => fault !== 'hang');
/** Faults after which nothing is known; the others look like an answer. */
const isTrouble = (fault: KvFault) => fault !== null && fault !== 'null' && fault !== 'stale';

interface Answer {
  status: number;
  adapter: string | null;
  inherited: boolean;
  degraded: string | null;
  retryAfter: string | null;
  /** What the origin was asked to run. */
  ran: { digest: string; scale: number }[] | null;
}

async function ask(isolate: AppHarness, model: string, key: string): Promise<Answer> {
  let ran: Answer['ran'] = null;
  const { answer } = isolate.origin;
  isolate.origin.answer = (method, path, init) => {
    if (path.startsWith('/v1/'))
      ran = (JSON.parse(init.body as string) as { graft: { chain: Answer['ran'] } }).graft.chain;
    return answer(method, path, init);
  };
  const body = { model, messages: [{ role: 'user', content: 'hi' }] };
  const { status, headers } = await isolate.request('/v1/chat/completions', { key, body });
  isolate.origin.answer = answer;
  return {
    status,
    adapter: headers.get('x-graft-adapter'),
    inherited: headers.get('x-graft-inherited') === 'true',
    degraded: headers.get('x-graft-degraded'),
    retryAfter: headers.get('retry-after'),
    ran,
  };
}

interface World {
  graft: AppHarness;
  keys: { clinic: string; friend: string };
  hashes: { clinic: string; friend: string };
}

/** `clinic` owns `clinic`, `clinic/ward` and `clinic/ward/night`, and grants `clinic/ward/**` to `friend`. */
const copy = createCopies({ kvTimeoutMs: HANG_MS }, async (graft) => {
  const make = async (tenant: string) =>
    ((await (await graft.request('/admin/keys', { body: { tenant } })).json()) as { key: string }).key;
  const keys = { clinic: await make('clinic'), friend: await make('friend') };
  for (const [i, name] of ['clinic', 'clinic/ward', 'clinic/ward/night', 'other'].entries())
    for (const version of [1, 2]) {
      const adapter = tinyAdapter({ seed: 2 * i + version });
      const owner = name === 'other' ? 'other' : 'clinic';
      expect((await graft.publish(name, adapter, { owner })).status).toBe(201);
      graft.clock.advance(LATER_MS);
    }
  const granted = { scope: 'clinic/ward/**', tenant: 'friend' };
  expect((await graft.request('/admin/grants', { body: granted })).status).toBe(201);
  graft.clock.advance(LATER_MS);
  const hashes = { clinic: await hashApiKey(keys.clinic), friend: await hashApiKey(keys.friend) };
  return { keys, hashes };
});
const createWorld = async (): Promise<World> => {
  const { graft, made } = await copy();
  return { graft, ...made };
};

/** Memory of its own, over the same stores. */
const newIsolate = ({ graft }: World) => createAppHarness({ beside: graft, kvTimeoutMs: HANG_MS });

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
});

describe('one read that fails', () => {
  const reads = [
    { read: 'key', who: 'clinic', model: 'clinic/ward', is: 'key:', adapter: 'clinic/ward' },
    { read: 'name', who: 'clinic', model: 'clinic/ward', is: 'name:clinic/ward', adapter: 'clinic/ward' },
    {
      read: 'ancestor',
      who: 'clinic',
      model: 'clinic/ward/day',
      is: 'name:clinic/ward',
      adapter: 'clinic/ward',
    },
    {
      read: "tenant's grants",
      who: 'friend',
      model: 'clinic/ward',
      is: 'grant:friend',
      adapter: 'clinic/ward',
    },
    {
      read: "everybody's grants",
      who: 'friend',
      model: 'clinic/ward',
      is: 'grant:*',
      adapter: 'clinic/ward',
    },
  ] as const;
  const cases = reads.flatMap((one) => FAULTS.map((fault) => ({ ...one, fault })));

  it.concurrent.each(cases)(
    '$read: $fault, to an isolate that knows nothing',
    async ({ who, model, is, adapter, fault, read }) => {
      const world = await createWorld();
      const isolate = await newIsolate(world);
      world.graft.kv.faultOf = (key) => (key.startsWith(is) && !key.startsWith(`${is}/`) ? fault : null);
      const answer = await ask(isolate, model, world.keys[who]);
      // What everybody was given is not needed when the tenant's own grants do.
      if (isTrouble(fault) && read !== "everybody's grants") {
        expect(answer).toMatchObject({ status: 503, retryAfter: '2', ran: null });
        return;
      }
      expect([answer.status, answer.adapter]).toEqual([
        200,
        // An older value of a name is an older version, and said to be.
        `${adapter}@${fault === 'stale' && is.startsWith('name:') ? 1 : 2}`,
      ]);
      expect(answer.inherited).toBe(read === 'ancestor');
    },
  );

  it.concurrent.each(cases)(
    '$read: $fault, to an isolate that has read it',
    async ({ who, model, is, adapter, fault, read }) => {
      const world = await createWorld();
      const isolate = await newIsolate(world);
      expect((await ask(isolate, model, world.keys[who])).status).toBe(200);
      world.graft.clock.advance(LATER_MS);
      world.graft.kv.faultOf = (key) => (key.startsWith(is) && !key.startsWith(`${is}/`) ? fault : null);
      const answer = await ask(isolate, model, world.keys[who]);
      expect([answer.status, answer.adapter]).toEqual([
        200,
        `${adapter}@${fault === 'stale' && is.startsWith('name:') ? 1 : 2}`,
      ]);
      expect(answer.inherited).toBe(read === 'ancestor');
      if (isTrouble(fault) && read !== "everybody's grants") expect(answer.degraded).toBe('stale');
    },
  );

  it('a key that was revoked stays revoked, whatever KV says of it', async () => {
    const world = await createWorld();
    await ask(world.graft, 'clinic', world.keys.clinic);
    const id = `key_${world.hashes.clinic.slice(0, 16)}`;
    expect((await world.graft.request(`/admin/keys/${id}`, { method: 'DELETE' })).status).toBe(204);
    world.graft.clock.advance(LATER_MS);
    for (const fault of [null, 'null'] as const) {
      world.graft.kv.faultOf = () => fault;
      expect((await ask(await newIsolate(world), 'clinic', world.keys.clinic)).status).toBe(401);
    }
  });
});

/** What has ever been live, as the registry has it. */
async function chainOf(world: World, adapter: string): Promise<ManifestChainEntry[] | null> {
  const at = adapter.lastIndexOf('@');
  const { registry } = world.graft.services;
  return (await registry.version(adapter.slice(0, at), Number(adapter.slice(at + 1))))?.chain ?? null;
}

/** Who may use what, whatever happens: model -> the name that has to serve it; null = nobody may know of it. */
const TRUTH: Record<keyof World['keys'], Record<string, string | null>> = {
  clinic: {
    clinic: 'clinic',
    'clinic/ward': 'clinic/ward',
    'clinic/ward/night': 'clinic/ward/night',
    'clinic/ward/day/late': 'clinic/ward',
    'clinic/none': 'clinic',
    other: null,
    'other/none': null,
  },
  friend: {
    clinic: null,
    'clinic/ward': 'clinic/ward',
    'clinic/ward/night': 'clinic/ward/night',
    'clinic/ward/day/late': 'clinic/ward',
    'clinic/none': null,
    other: null,
  },
};

describe('any number of failures, in any order', () => {
  const STEPS = 120;

  it.concurrent.each([1, 2, 3, 4, 5, 6])('seed %i', async (seed) => {
    const random = createRandom(seed);
    const world = await createWorld();
    const { kv, clock } = world.graft;
    const isolates = [world.graft, await newIsolate(world)];
    const faults = new Map<string, KvFault>();
    let met = 0;
    let faultShare = 0;
    // HANG_MS goes by for each that hangs.
    const drawn = () => (random.next() < 0.01 ? 'hang' : random.pick(QUICK_FAULTS));
    kv.faultOf = (key) => {
      const known = faults.get(key);
      if (known !== undefined) return known;
      // Drawn once a step and key: whoever asks again meets the same.
      const fault = random.next() < faultShare ? drawn() : null;
      faults.set(key, fault);
      return fault;
    };
    for (let step = 0; step < STEPS; step += 1) {
      clock.advance(random.pick([250, 2_000, LATER_MS, 3_600_000]));
      faults.clear();
      if (random.next() < 0.1) isolates[random.below(2)] = await newIsolate(world);
      if (random.next() < 0.2) {
        faultShare = 0;
        const name = random.pick(['clinic', 'clinic/ward', 'clinic/ward/night']);
        const flipped = await world.graft.request('/admin/promote', {
          body: { name, version: 1 + random.below(2) },
        });
        expect(flipped.status).toBe(200);
        clock.advance(1_000);
        continue;
      }
      faultShare = random.pick([0, 0.2, 0.6, 1]);
      const who = random.pick(['clinic', 'friend'] as const);
      const model = random.pick(Object.keys(TRUTH[who]));
      const name = TRUTH[who][model] as string | null;
      const answer = await ask(random.pick(isolates), model, world.keys[who]);
      const faulty = [...faults.values()].some((fault) => fault !== null);
      const what = `step ${step}: ${who} asks ${model}, ${JSON.stringify([...faults])}`;
      if (faulty) met += 1;
      if (answer.status === 503) {
        expect(faulty, what).toBe(true);
        expect(answer.retryAfter, what).toBe('2');
        continue;
      }
      expect([what, answer.status]).toEqual([what, name === null ? 404 : 200]);
      if (name === null) continue;
      expect([what, answer.adapter?.split('@')[0]]).toEqual([what, name]);
      expect([what, answer.inherited]).toEqual([what, name !== model]);
      const chain = await chainOf(world, answer.adapter as string);
      expect([what, answer.ran]).toEqual([what, chain?.map(({ digest, scale }) => ({ digest, scale }))]);
      const own = faults.get(`name:${name}`) ?? null;
      if (isTrouble(own)) expect([what, answer.degraded]).toEqual([what, 'stale']);
    }
    expect(met).toBeGreaterThan(STEPS / 4);
  });
});
