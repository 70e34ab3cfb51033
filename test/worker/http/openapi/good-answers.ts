/** What the matrix does not ask for: good answers that it has no row of, and those that hold something. */
import { ratableId } from '../../experiments/experiment-rig.ts';
import { createMetrics } from '../../../../gpu-origin/http/metrics.ts';
import type { ResidentList } from '../../../../protocol/origin-wire.ts';
import type { ErasurePlan } from '../../../../worker/erasure/ports.ts';
import { NOTHING } from '../../../../worker/erasure/erase-steps.ts';
import { trainingCard } from '../../../contracts/sample-training.ts';
import { TABLE, type Case } from '../../matrix/table.ts';
import type { World } from '../../matrix/world.ts';

const DAY_MS = 86_400_000;
/** Longer than what KV may be behind. */
const LATER_MS = 61_000;
const N = 'clinic/notes';
const HASH = 'a'.repeat(64);
const NO_PLAN: ErasurePlan = {
  ...{ id: 1, counts: NOTHING, kept: { files: 0, bytes: 0 }, stops: { versions: 0, experiments: 0 } },
  ...{ inTheWay: { versions: [], experiments: [] }, begun: false },
};

const post = async ({ graft }: World, path: string, body: object): Promise<void> => {
  const response = await graft.request(path, { body });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
};

/** A request that has been made before. */
const again =
  (path: string, body: object): Case['ask'] =>
  async (world) => {
    await post(world, path, body);
    return { path, body };
  };

const EVALUATION = { name: N, label: 'holdout', rows: [{ prompt: 'a', expected: 'b' }] };

/** The live version answers the row otherwise. */
async function scoreMissed(world: World): Promise<void> {
  const { graft } = world;
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init, url) =>
    path.endsWith('/evaluate')
      ? Response.json({ rows: [{ exact: false, nll: 0.5, tokens: 3 }] })
      : answer(method, path, init, url);
  await post(world, '/admin/evaluations', EVALUATION);
  await post(world, '/admin/evaluations/score', { name: N, label: 'holdout' });
}

const chat = ({ graft, keys }: World, model: string, user: string): Promise<Response> =>
  graft.request('/v1/chat/completions', {
    key: keys.clinic,
    body: { model, user, messages: [{ role: 'user', content: 'hi' }] },
  });

/** Has the origin hold an adapter and tell its figures. */
function fillOrigin({ graft, notes: { digest } }: World): void {
  const adapter = { digest, state: 'ready', bytes: 1, rank: 1, references: 0, pinned: true } as const;
  const residents: ResidentList = { budget_bytes: 2, used_bytes: 1, adapters: [adapter] };
  const { answer } = graft.origin;
  graft.origin.answer = async (method, path, init) => {
    if (method === 'GET' && path === '/adapters') return Response.json(residents);
    return path === '/metrics' ? new Response(await createMetrics().text()) : answer(method, path, init);
  };
}

const TOKEN = { path: '/v1/download-tokens', body: { names: [N], origin: 'http://localhost' } };

/** From now on a page of the edge itself may fetch what is clinic's. */
async function letDownload(world: World): Promise<void> {
  await post(world, '/admin/keys/change', { id: world.clinicKeyId, download: true });
  world.graft.clock.advance(LATER_MS);
}

/** A page of the edge itself asks, with a token that clinic's server has made. */
const asPage =
  (path: (world: World) => string): Case['ask'] =>
  async (world) => {
    await letDownload(world);
    const { graft, keys } = world;
    const made = await graft.request(TOKEN.path, { key: keys.clinic, body: TOKEN.body });
    const { token } = (await made.json()) as { token: string };
    return { path: path(world), key: token, headers: { 'sec-fetch-site': 'same-origin' } };
  };

const PUBLISH_TOKEN = {
  path: '/v1/publish-tokens',
  body: { name: 'clinic/notes/page', origin: 'http://localhost' },
};

async function letPublish(world: World): Promise<void> {
  await post(world, '/admin/keys/change', { id: world.clinicKeyId, publish: true });
  world.graft.clock.advance(LATER_MS);
}

/** From now on what clinic's key asks is kept, and may improve adapters. */
async function letImprove(world: World): Promise<void> {
  await post(world, '/admin/keys/change', { id: world.clinicKeyId, keep_prompts: 24, improve: true });
  world.graft.clock.advance(LATER_MS);
}

/** A page of the edge itself sends a file, with a token that clinic's server has made. @param times that it is published before. */
const fromPage =
  (step: 'part' | 'close', times = 0): Case['ask'] =>
  async (world) => {
    await letPublish(world);
    const { graft, keys, fresh } = world;
    const made = await graft.request(PUBLISH_TOKEN.path, { key: keys.clinic, body: PUBLISH_TOKEN.body });
    const { token } = (await made.json()) as { token: string };
    const { digest } = fresh;
    const page = { key: token, headers: { 'sec-fetch-site': 'same-origin' } };
    const part = {
      path: `/v1/publications/parts/0?digest=${digest}&sha256=${digest}`,
      body: new Uint8Array(fresh.bytes),
      ...page,
    };
    if (step === 'part') return part;
    await graft.request(part.path, { ...part, method: 'PUT' });
    const bytes = fresh.bytes.length;
    const close = {
      path: '/v1/publications',
      body: { digest, file: { bytes, parts: [{ bytes, sha256: digest }] }, training: trainingCard() },
      ...page,
    };
    for (let time = 0; time < times; time += 1) await graft.request(close.path, close);
    return close;
  };

export const MORE: Readonly<Record<string, readonly Case['ask'][]>> = {
  'POST /v1/download-tokens': [
    async (world) => {
      await letDownload(world);
      return TOKEN;
    },
  ],
  'GET /v1/downloads': [asPage(() => `/v1/downloads?name=${N}`)],
  'GET /v1/downloads/parts/:index{[0-9]{1,4}}': [
    asPage(({ notes }) => `/v1/downloads/parts/0?name=${N}&version=2&digest=${notes.digest}`),
  ],
  'POST /v1/publish-tokens': [
    async (world) => {
      await letPublish(world);
      return PUBLISH_TOKEN;
    },
  ],
  'PUT /v1/publications/parts/:index{[0-9]{1,4}}': [fromPage('part')],
  'POST /v1/publications': [fromPage('close'), fromPage('close', 1)],
  'GET /v1/fine_tuning/jobs/:id/checkpoints': [
    async (world) => {
      const [ask] = TABLE['GET /v1/fine_tuning/jobs/:id/checkpoints'] ?? [];
      const asked = await ask!.ask(world, 'clinic');
      const id = /ftjob-[0-9a-z]+/.exec(asked.path)?.[0] ?? '';
      const { trainingJobs } = world.graft.stores;
      const job = await trainingJobs.get({ id, tenant: 'clinic' });
      const result = { version: 1, tokens: 9, steps: 3, train_loss: 0.5, valid_loss: null };
      await trainingJobs.save(job!, { status: 'succeeded', finishedAt: world.graft.clock.now(), result });
      return asked;
    },
  ],
  'POST /v1/feedback': [
    async (world) => {
      await world.startExperiment();
      world.graft.clock.advance(LATER_MS);
      const id = ratableId(await (await chat(world, 'clinic/open', 'alice')).text());
      return { path: '/v1/feedback', body: { id, metric: 'thumbs', value: 1, before: null } };
    },
  ],
  'POST /v1/preferences': [
    async (world) => {
      await letImprove(world);
      return { path: '/v1/preferences', body: { chosen: 'a', rejected: 'b' } };
    },
  ],
  'POST /admin/improvements': [
    async (world) => {
      await letImprove(world);
      const { graft, keys } = world;
      const ids: string[] = [];
      for (const content of ['yes', 'no', 'perhaps']) {
        graft.origin.answer = () => Response.json({ choices: [{ index: 0, message: { content } }] });
        const answer = await chat(world, N, 'alice');
        await answer.text();
        ids.push(answer.headers.get('x-request-id') ?? '');
      }
      await graft.settled();
      for (const rejected of ids.slice(1))
        await graft.request('/v1/preferences', { key: keys.clinic, body: { chosen: ids[0], rejected } });
      const made = await graft.request('/admin/keys', {
        body: { kind: 'admin', tenant: 'clinic', prompts: true },
      });
      const { key } = (await made.json()) as { key: string };
      return { path: '/admin/improvements', body: { name: N, method: 'dpo' }, key };
    },
  ],
  'POST /admin/warm': [
    ({ graft, notes: { digest } }) => {
      const { answer } = graft.origin;
      let lacks = true;
      graft.origin.answer = (method, path, init) => {
        if (path.startsWith(`/adapters/${digest}`)) lacks = false;
        if (path !== '/adapters/prefetch' || !lacks) return answer(method, path, init);
        const error = { code: 'adapter_missing', message: 'missing', missing: [digest] };
        return Response.json({ error }, { status: 409 });
      };
      return { path: '/admin/warm', body: { name: 'clinic/notes' } };
    },
  ],
  'GET /admin/blobs/:digest': [
    async (world, role) => {
      await world.upload(role, world.fresh);
      return { path: `/admin/blobs/${world.fresh.digest}` };
    },
    // With the part that was sent.
    async ({ graft, keys, fresh: { bytes, digest } }, role) => {
      const path = `/admin/blobs/${digest}`;
      const part = { method: 'PUT', key: keys[role], body: new Uint8Array(bytes) };
      await graft.request(`${path}/parts/0`, part);
      return { path };
    },
  ],
  'POST /admin/blobs/:digest': [
    async ({ graft, keys, fresh: { bytes, digest } }, role) => {
      const path = `/admin/blobs/${digest}`;
      const part = { method: 'PUT', key: keys[role], body: new Uint8Array(bytes) };
      await graft.request(`${path}/parts/0`, part);
      return { path, body: { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] } };
    },
  ],
  'POST /admin/versions': [
    async (world, role) => {
      await world.upload(role, world.fresh);
      const evaluation = { rows: 1, exact_match: 1, mean_nll: 0.5, sha256: HASH };
      const body = { name: 'default/new', digest: world.fresh.digest, evaluation, training: trainingCard() };
      return again('/admin/versions', body)(world, role);
    },
  ],
  'GET /admin/versions': [
    async (world) => {
      await post(world, '/admin/retire', { name: N, version: 1 });
      return { path: `/admin/versions?name=${N}` };
    },
  ],
  'POST /admin/evaluations': [again('/admin/evaluations', EVALUATION)],
  'GET /admin/evaluations': [
    async (world) => {
      await scoreMissed(world);
      return { path: `/admin/evaluations?name=${N}` };
    },
  ],
  'POST /admin/evaluations/score': [
    async (world) => {
      await scoreMissed(world);
      return { path: '/admin/evaluations/score', body: { name: N, label: 'holdout' } };
    },
  ],
  'POST /admin/edit': [
    async (world) => {
      await post(world, '/admin/edit', { name: N, description: 'notes', tags: ['clinic'] });
      return { path: '/admin/edit', body: { name: N, tags: ['other'] } };
    },
  ],
  'GET /admin/names': [
    async (world) => {
      await post(world, '/admin/edit', { name: N, description: 'notes', tags: ['clinic'] });
      return { path: '/admin/names' };
    },
  ],
  'GET /admin/removed': [
    async (world) => {
      await post(world, '/admin/remove', { name: 'clinic/notes/deep' });
      return { path: '/admin/removed' };
    },
  ],
  'POST /admin/remove': [
    async (world) => {
      await post(world, '/admin/pins', { name: 'clinic/notes/deep' });
      return { path: '/admin/remove', body: { name: 'clinic/notes/deep', cascade: true } };
    },
  ],
  'POST /admin/grants': [again('/admin/grants', { scope: N, tenant: 'other' })],
  'GET /admin/rooms': [
    async (world) => {
      await post(world, '/admin/rooms', { name: 'ward', tenant: 'guest' });
      return { path: '/admin/rooms' };
    },
  ],
  'POST /admin/rooms': [
    again('/admin/rooms', { name: 'ward', tenant: 'guest' }),
    () => ({ path: '/admin/rooms', body: { name: 'clinic', tenant: 'guest' } }),
  ],
  'DELETE /admin/rooms': [
    async (world) => {
      await post(world, '/admin/rooms', { name: 'ward', tenant: 'guest' });
      return { path: '/admin/rooms?name=ward' };
    },
  ],
  'POST /admin/grants/refuse': [again('/admin/grants/refuse', { from: 'mallory' })],
  'GET /admin/grants/refuse': [
    async (world) => {
      await post(world, '/admin/grants/refuse', { from: 'mallory' });
      return { path: '/admin/grants/refuse' };
    },
  ],
  'DELETE /admin/grants/refuse': [
    async (world) => {
      await post(world, '/admin/grants/refuse', { from: 'mallory' });
      return { path: '/admin/grants/refuse?from=mallory' };
    },
  ],
  'DELETE /admin/keys/:id': [
    async (world) => {
      const scopes = ['guest/**'];
      const made = await world.graft.request('/admin/keys', {
        body: { kind: 'admin', tenant: 'clinic', scopes },
      });
      const { id, key } = (await made.json()) as { id: string; key: string };
      await world.graft.request('/admin/keys', { key, body: { scopes, limits: { concurrent: 1 } } });
      return { path: `/admin/keys/${id}?report=true` };
    },
  ],
  'POST /admin/keys': [again('/admin/keys', { hash: HASH, limits: { concurrent: 1 }, expires_in: DAY_MS })],
  'GET /admin/keys': [
    async (world) => {
      const limits = { requests_per_minute: 1, on_outage: 'refuse' };
      await post(world, '/admin/keys', { scopes: ['guest/**'], limits, degrade: 'base' });
      await post(world, '/admin/keys/rotate', { id: world.clinicKeyId });
      return { path: '/admin/keys' };
    },
  ],
  'POST /admin/keys/rotate': [
    async (world) => {
      const body = { id: world.clinicKeyId, scopes: ['guest/**'] };
      await post(world, '/admin/keys/change', body);
      return { path: '/admin/keys/rotate', body: { id: world.clinicKeyId } };
    },
  ],
  'GET /admin/usage': [
    async (world) => {
      await (await chat(world, N, 'alice')).text();
      return { path: '/admin/usage?by=name' };
    },
  ],
  'GET /admin/traffic': [
    async (world) => {
      await (await chat(world, N, 'alice')).text();
      await world.graft.settled();
      return { path: '/admin/traffic' };
    },
  ],
  'GET /admin/requests': [
    async (world) => {
      await (await chat(world, N, 'alice')).text();
      await world.graft.settled();
      return { path: '/admin/requests' };
    },
  ],
  'GET /admin/requests/:id/prompt': [
    async (world) => {
      const { graft } = world;
      const made = await graft.request('/admin/keys', { body: { scopes: ['**'], keep_prompts: 1 } });
      const { key } = (await made.json()) as { key: string };
      const body = { model: N, messages: [{ role: 'user', content: 'hi' }] };
      const answer = await graft.request('/v1/chat/completions', { key, body });
      await answer.text();
      await graft.settled();
      return { path: `/admin/requests/${answer.headers.get('x-request-id')}/prompt` };
    },
  ],
  'GET /admin/origins': [
    (world) => {
      fillOrigin(world);
      return { path: '/admin/origins?figures=true&names=true' };
    },
  ],
  'GET /admin/origins/history': [
    async (world) => {
      fillOrigin(world);
      await world.graft.schedule((work) => void work.catch(() => undefined));
      return { path: '/admin/origins/history?origin=o1' };
    },
  ],
  'GET /admin/pins': [
    async (world) => {
      await post(world, '/admin/pins', { name: N });
      return { path: '/admin/pins' };
    },
  ],
  'DELETE /admin/pins': [
    async (world) => {
      await post(world, '/admin/pins', { name: N });
      await post(world, '/admin/pins', { name: 'guest' });
      return { path: `/admin/pins?name=${N}` };
    },
  ],
  'POST /admin/repair': [
    ({ graft }) => {
      graft.kv.tamper(`name:${N}`, () => null);
      graft.clock.advance(LATER_MS);
      return { path: '/admin/repair', body: {} };
    },
  ],
  'POST /admin/erase': [
    ({ graft }) => {
      const erasure = {
        id: 1,
        kind: 'name',
        target: N,
        owner: 'clinic',
        usage: false,
        place: '',
        touchedAt: 0,
        endedAt: null,
      };
      // Left by an earlier one: a file of an origin that no longer exists.
      Object.assign(graft.stores.erasures, {
        ownerOfBegun: async () => 'clinic',
        plan: async () => ({ ...NO_PLAN, begun: true }),
        begin: async () => true,
        get: async () => ({ ...erasure, step: 'origins' }),
        atOrigins: async () => [{ digest: HASH, origins: ['o9'] }],
        unused: async () => [HASH],
        forgetRequests: async () => ({ requests: 0, after: null }),
        ...{ forgetHistory: async () => 0, fileLeftTo: async () => undefined, move: async () => true },
      });
      return { path: '/admin/erase', body: { name: N } };
    },
  ],
  'POST /admin/gc': [
    async (world, role) => {
      await world.upload(role, world.fresh);
      world.graft.clock.advance(2 * DAY_MS);
      return { path: '/admin/gc', body: {} };
    },
  ],
};
