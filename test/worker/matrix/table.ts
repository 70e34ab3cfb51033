import type { WebhookList, WebhookView } from '../../../protocol/admin-api/webhooks.ts';
import { newExposureId } from '../../../worker/experiments/answer-token.ts';
import type { Experiment } from '../../../protocol/experiment.ts';
import type { JobPage, JobView } from '../../../protocol/fine-tuning.ts';
import type { FileList } from '../../../protocol/files.ts';
import { hashApiKey } from '../../../protocol/identity.ts';
import { keyIdOf } from '../../../worker/access/ports.ts';
import { TINY_BASE } from '../../fakes/tiny-adapters.ts';
import { rowsForm } from '../training/row-forms.ts';
import { sameTwice, TENANT_OF, type Role, type World } from './world.ts';

export interface Asked {
  path: string;
  body?: unknown;
  /** In the place of the role's. */
  key?: string;
  headers?: Record<string, string>;
}

export interface Case {
  does: string;
  ask: (world: World, role: Role) => Asked | Promise<Asked>;
  /**
   * What each role gets, in the order of `ROLES`: a status, and for a completion what served, as its headers say:
   * `name@version`, `^` when it was inherited, `~alias`, `+composed`.
   */
  gets: string;
  /** More of the answer that matters, in the place of the headers. */
  shows?: (body: never) => unknown;
}

const chat = (model: string, more: object = {}): Case['ask'] => {
  const body = { model, messages: [{ role: 'user', content: 'hi' }], ...more };
  return () => ({ path: '/v1/chat/completions', body });
};
const plain =
  (path: string, body?: unknown): Case['ask'] =>
  () =>
    body === undefined ? { path } : { path, body };

/** A request of the publisher's API, after the role has sent the file. */
const withFile =
  (file: 'fresh' | 'freshChild', asked: (digest: string, tenant: string) => Asked): Case['ask'] =>
  async (world, role) => {
    const adapter = world[file];
    if (role.endsWith('Admin') || role === 'root') await world.upload(role, adapter);
    return asked(adapter.digest, TENANT_OF[role]);
  };
const publish = (body: object) => ({ path: '/admin/versions', body });
/** Of a file of one byte that is never sent. */
const plan = (body: { digest: string; [more: string]: unknown }, parent: string | null = null) => ({
  path: '/admin/versions/plan',
  body: {
    ...body,
    file: {
      record: { bytes: 1, parts: [{ bytes: 1, sha256: 'e'.repeat(64) }] },
      header_bytes: 1,
      base: TINY_BASE.id,
      parent,
      modules: [{ ...TINY_BASE.modules[0]!, rank: 2 }],
    },
  },
});

/** Of the world's experiment, which has a judge by then, and one pair that is kept. */
const judged =
  (path: string): Case['ask'] =>
  async ({ graft, experiment }) => {
    const read = (await (await graft.request(experiment)).json()) as { id: string; document: Experiment };
    const { id, document } = read;
    const [control, treatment] = document.variants;
    const changes = {
      version: document.version + 1,
      variants: [control, { ...treatment, adapter: `${N}@2` }],
      shadow: { adapter: `${N}@2`, sample: 1 },
      judge: { url: 'https://app.example.com/judge', keep_pairs: 1 },
    };
    const body = { document: { ...document, ...changes } };
    const changed = await graft.request(experiment, { method: 'PUT', body });
    if (!changed.ok) throw new Error(await changed.text());
    const at = graft.clock.now();
    const prompt = [{ role: 'user', content: 'hi' }];
    await graft.stores.pairTallies.record(id, {
      ...{ seed: document.seed, user: null, at, tokens: 1, keep: 1 },
      outcome: { result: 'win', same: false, choices: 1, first: 1, agreed: null },
      pair: { at, prompt, control: 'a', treatment: 'b', result: 'win', cut: false, learner: null },
    });
    return { path: `${experiment}/${path}` };
  };

/** A step of the world's experiment, which is a draft … */
const step =
  (name: string, body: object = {}): Case['ask'] =>
  ({ experiment }) => ({ path: `${experiment}/${name}`, body });
/** … or is live by then. */
const liveStep =
  (name: string, body: object = {}): Case['ask'] =>
  async (world, role) => {
    await world.startExperiment();
    return step(name, body)(world, role);
  };

/** The role's key may train from now on; the bootstrap key always may. */
async function letTrain({ graft, keys }: World, role: Role): Promise<void> {
  if (role !== 'root' && role !== 'anonymous')
    await graft.request('/admin/keys/change', {
      body: { id: keyIdOf(await hashApiKey(keys[role])), train: true },
    });
}
/** `clinic` has a file of rows by then, and every key may train. */
const withRows =
  (path: (id: string) => string): Case['ask'] =>
  async (world, role) => {
    await letTrain(world, 'clinic');
    const sent = await world.graft.request('/v1/files', {
      ...rowsForm('{"clinic":1}'),
      key: world.keys.clinic,
    });
    const { id } = (await sent.json()) as { id: string };
    await letTrain(world, role);
    return { path: path(id) };
  };

/** `clinic` has a job that has not ended by then, and every key may train. */
const withJob =
  (path: (id: string) => string): Case['ask'] =>
  async (world, role) => {
    const { graft, keys } = world;
    await letTrain(world, 'clinic');
    await letTrain(world, role);
    const jobs = '/v1/fine_tuning/jobs';
    const { data } = (await (await graft.request(jobs, { key: keys.clinic })).json()) as JobPage;
    let id = data.find(({ finished_at }) => finished_at === null)?.id;
    if (id === undefined) {
      const sent = await graft.request('/v1/files', { ...rowsForm('{}'), key: keys.clinic });
      const { id: training_file } = (await sent.json()) as { id: string };
      const body = { model: 'base', training_file, suffix: 'clinic/tuned' };
      ({ id } = (await (await graft.request(jobs, { key: keys.clinic, body })).json()) as JobView);
    }
    return { path: jobs + path(id) };
  };

const RESTORE = '0'.repeat(32);
const ROWS = { id: RESTORE, table: 'pins', columns: ['name', 'at', 'actor'], rows: [['a', 1, 'x']] };
/** A backup is being brought back by then, though the registry is not empty. */
const restoring =
  (asked: Asked): Case['ask'] =>
  async ({ graft }) => {
    await graft.db
      .prepare("INSERT INTO upkeep (job, cursor) VALUES ('restore', ?) ON CONFLICT DO NOTHING")
      .bind(RESTORE)
      .run();
    return asked;
  };

/** API keys and strangers have no business with the admin API. */
const admins = (gets: string): string => `401 401 401 401 401 ${gets}`;
const N = 'clinic/notes';

/** `clinic` has one webhook by then, at an application that answers. */
const hooked =
  (asked: (id: string) => Asked): Case['ask'] =>
  async ({ graft, keys }) => {
    graft.application.answer = async () => new Response('ok');
    const key = keys.clinicAdmin;
    const { webhooks } = (await (await graft.request('/admin/webhooks', { key })).json()) as WebhookList;
    const [known] = webhooks;
    if (known !== undefined) return asked(known.id);
    const body = { url: 'https://app.example.com/hook' };
    const made = await graft.request('/admin/webhooks', { key, body });
    return asked(((await made.json()) as WebhookView).id);
  };

const EVALUATION = { name: N, label: 'holdout', rows: [{ prompt: 'a', expected: 'b' }] };
/** `clinic` has an evaluation by then. */
const kept =
  (asked: () => Asked): Case['ask'] =>
  async ({ graft, keys }) => {
    const sent = await graft.request('/admin/evaluations', { key: keys.clinicAdmin, body: EVALUATION });
    if (!sent.ok) throw new Error(await sent.text());
    return asked();
  };

/** Every route of the edge, and what each role is to get from it. A route that is not here fails the test. */
export const TABLE: Record<string, Case[]> = {
  'GET /healthz': [
    { does: 'says nothing but that it lives', ask: plain('/healthz'), gets: '200 '.repeat(9) },
  ],
  'GET /readyz': [{ does: 'says whether it can serve', ask: plain('/readyz'), gets: '200 '.repeat(9) }],
  'GET /health': [{ does: 'says nothing but that it lives', ask: plain('/health'), gets: '200 '.repeat(9) }],

  'GET /dashboard': [{ does: 'has no data', ask: plain('/dashboard'), gets: '200 '.repeat(9) }],
  'GET /dashboard/': [{ does: 'has no data', ask: plain('/dashboard/'), gets: '200 '.repeat(9) }],
  'GET /dashboard/here': [{ does: 'has no data', ask: plain('/dashboard/here'), gets: '200 '.repeat(9) }],
  'POST /dashboard/sign-in': [
    {
      does: 'gives keys for the token of a link, and for nothing else',
      ask: () => ({ path: '/dashboard/sign-in', body: { token: 'x'.repeat(43) } }),
      gets: '401 '.repeat(9),
    },
  ],
  'GET /': [{ does: 'is the page for browsers alone', ask: plain('/'), gets: '404 '.repeat(9) }],
  'GET /dashboard/assets/:file{[A-Za-z0-9_-]+\\.(css|js|svg)}': [
    { does: 'gives code', ask: plain('/dashboard/assets/index-a_-1.js'), gets: '200 '.repeat(9) },
    { does: 'gives nothing else', ask: plain('/dashboard/assets/index.html'), gets: '404 '.repeat(9) },
    {
      does: 'gives nothing from above',
      ask: plain('/dashboard/assets/..%2Findex.html'),
      gets: '404 '.repeat(9),
    },
  ],
  'GET /dashboard/browser/:build{[0-9a-f]+}/:file{(index|worker)\\.js}': [
    { does: 'gives graft/browser', ask: plain('/dashboard/browser/a1/worker.js'), gets: '200 '.repeat(9) },
    { does: 'gives nothing else', ask: plain('/dashboard/browser/a1/main.js'), gets: '404 '.repeat(9) },
  ],
  'GET /dashboard/browser/:build{[0-9a-f]+}/ort/:file{[A-Za-z0-9-][A-Za-z0-9.-]*\\.(mjs|wasm)}': [
    { does: 'gives the runtime', ask: plain('/dashboard/browser/a1/ort/b-c.d.wasm'), gets: '200 '.repeat(9) },
    {
      does: 'gives nothing from above',
      ask: plain('/dashboard/browser/a1/ort/..%2F..%2Findex.mjs'),
      gets: '404 '.repeat(9),
    },
  ],

  'GET /base/:file{base\\.json|[0-9a-f]{64}\\.bin}': [
    { does: 'gives a base for browsers', ask: plain('/base/base.json'), gets: '200 '.repeat(9) },
    { does: 'gives nothing else', ask: plain('/base/index.html'), gets: '404 '.repeat(9) },
  ],
  'POST /v1/download-tokens': [
    {
      does: 'refuses keys without the right',
      ask: plain('/v1/download-tokens', { names: [N], origin: 'http://localhost' }),
      gets: '401 403 403 403 403 401 401 401 401',
    },
  ],
  'GET /v1/downloads': [
    { does: 'takes no key', ask: plain(`/v1/downloads?name=${N}`), gets: '401 '.repeat(9) },
  ],
  'GET /v1/downloads/parts/:index{[0-9]{1,4}}': [
    {
      does: 'takes no key',
      ask: ({ notes }) => ({ path: `/v1/downloads/parts/0?name=${N}&version=2&digest=${notes.digest}` }),
      gets: '401 '.repeat(9),
    },
  ],

  'POST /v1/publish-tokens': [
    {
      does: 'refuses keys without the right',
      ask: plain('/v1/publish-tokens', { name: N, origin: 'http://localhost' }),
      gets: '401 403 403 403 403 401 401 401 401',
    },
    {
      does: 'gives keys with the right tokens for their tenant’s names alone',
      ask: async ({ graft, keys }, role) => {
        const id = keyIdOf(await hashApiKey(keys[role]));
        await graft.request('/admin/keys/change', { body: { id, publish: true } });
        return { path: '/v1/publish-tokens', body: { name: N, origin: 'http://localhost' } };
      },
      gets: '401 403 403 403 200 401 401 401 401',
    },
  ],
  'PUT /v1/publications/parts/:index{[0-9]{1,4}}': [
    {
      does: 'takes no key',
      ask: ({ fresh: { digest } }) => ({
        path: `/v1/publications/parts/0?digest=${digest}&sha256=${digest}`,
        body: 'x',
      }),
      gets: '401 '.repeat(9),
    },
  ],
  'POST /v1/publications': [
    {
      does: 'takes no key',
      ask: ({ fresh: { digest, bytes } }) => ({
        path: '/v1/publications',
        body: { digest, file: { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] } },
      }),
      gets: '401 '.repeat(9),
    },
  ],

  'POST /v1/files': [
    {
      does: 'refuses keys without the right',
      ask: () => ({ path: '/v1/files', ...rowsForm('{}') }),
      gets: '401 403 403 403 403 403 403 403 200',
    },
    {
      does: 'takes files of keys with the right, for their tenant',
      ask: async (world, role) => {
        await letTrain(world, role);
        return { path: '/v1/files', ...rowsForm('{}') };
      },
      gets: '401 200 200 200 200 200 200 200 200',
    },
  ],
  'GET /v1/files': [
    {
      does: 'lists those of the tenant alone',
      ask: withRows(() => '/v1/files'),
      gets: '401 200:false 200:false 200:false 200:true 200:false 200:false 200:true 200:false',
      shows: ({ data }: FileList) => data.length > 0,
    },
  ],
  'GET /v1/files/:id': [
    {
      does: 'shows those of the tenant alone',
      ask: withRows((id) => `/v1/files/${id}`),
      gets: '401 404 404 404 200 404 404 200 404',
    },
  ],
  'GET /v1/files/:id/content': [
    {
      does: 'reads those of the tenant alone',
      ask: withRows((id) => `/v1/files/${id}/content`),
      gets: '401 404 404 404 200:1 404 404 200:1 404',
      shows: ({ clinic }: { clinic: number }) => clinic,
    },
  ],
  'DELETE /v1/files/:id': [
    {
      does: 'deletes those of the tenant alone',
      ask: withRows((id) => `/v1/files/${id}`),
      gets: '401 404 404 404 200 404 404 200 404',
    },
  ],

  'POST /v1/fine_tuning/jobs': [
    {
      does: 'creates one for the tenant of a key with the right',
      ask: async (world, role) => {
        await letTrain(world, role);
        const sent = await world.graft.request('/v1/files', { ...rowsForm('{}'), key: world.keys[role] });
        const { id = `file-${'0'.repeat(24)}` } = (await sent.json()) as { id?: string };
        const body = { model: 'base', training_file: id, suffix: `${TENANT_OF[role]}/tuned` };
        return { path: '/v1/fine_tuning/jobs', body };
      },
      gets: '401 200 200 200 200 200 200 200 200',
    },
    {
      does: 'creates none under a name of another tenant',
      ask: async (world, role) => {
        await letTrain(world, role);
        const sent = await world.graft.request('/v1/files', { ...rowsForm('{}'), key: world.keys[role] });
        const { id = `file-${'0'.repeat(24)}` } = (await sent.json()) as { id?: string };
        return { path: '/v1/fine_tuning/jobs', body: { model: 'base', training_file: id, suffix: N } };
      },
      gets: '401 403 403 403 200 403 403 200 403',
    },
    {
      does: 'trains on what the key may use alone',
      ask: async (world, role) => {
        await letTrain(world, role);
        const sent = await world.graft.request('/v1/files', { ...rowsForm('{}'), key: world.keys[role] });
        const { id = `file-${'0'.repeat(24)}` } = (await sent.json()) as { id?: string };
        const graft = { name: `${TENANT_OF[role]}/tuned` };
        return { path: '/v1/fine_tuning/jobs', body: { model: `${N}/deep`, training_file: id, graft } };
      },
      gets: '401 404 200 200 200 404 200 200 200',
    },
  ],
  'GET /v1/fine_tuning/jobs': [
    {
      does: 'lists those of the tenant alone',
      ask: withJob(() => ''),
      gets: '401 200:false 200:false 200:false 200:true 200:false 200:false 200:true 200:false',
      shows: ({ data }: JobPage) => data.length > 0,
    },
  ],
  ...Object.fromEntries(
    (
      [
        ['GET', '', 'shows'],
        ['GET', '/events', 'tells the story of'],
        ['GET', '/checkpoints', 'lists the results of'],
        ['POST', '/pause', 'pauses'],
        ['POST', '/resume', 'resumes'],
        ['POST', '/cancel', 'cancels'],
      ] as const
    ).map(([method, path, does]): [string, Case[]] => [
      `${method} /v1/fine_tuning/jobs/:id${path}`,
      [
        {
          does: `${does} those of the tenant alone`,
          ask: withJob((id) => `/${id}${path}`),
          gets: '401 404 404 404 200 404 404 200 404',
        },
      ],
    ]),
  ),

  'POST /v1/chat/completions': [
    {
      does: 'asks the base',
      ask: chat('base'),
      gets: '401 200:base 200:base 200:base 200:base 401 401 401 401',
    },
    { does: 'uses', ask: chat(N), gets: `401 404 200:${N}@2 200:${N}@2 200:${N}@2 401 401 401 401` },
    {
      does: 'pins',
      ask: chat(`${N}@1`),
      gets: `401 404 200:${N}@1 200:${N}@1 200:${N}@1 401 401 401 401`,
    },
    {
      does: 'uses a chain',
      ask: chat(`${N}/deep`),
      gets: `401 404 200:${N}/deep@1 200:${N}/deep@1 200:${N}/deep@1 401 401 401 401`,
    },
    {
      does: 'inherits',
      ask: chat(`${N}/none/at/all`),
      gets: `401 404 200:${N}@2^ 200:${N}@2^ 200:${N}@2^ 401 401 401 401`,
    },
    {
      does: 'inherits, strictly',
      ask: chat(`${N}/none`, { strict: true }),
      gets: '401 404 404 404 404 401 401 401 401',
    },
    {
      does: 'inherits below a strict name',
      ask: chat(`${N}/deep/none`),
      gets: '401 404 404 404 404 401 401 401 401',
    },
    {
      does: 'inherits below an own strict name whose parent is not allowed any more',
      ask: chat('guest/mixed/none'),
      gets: '401 200:guest@1^ 404 404 404 401 401 401 401',
    },
    {
      does: 'composes with the base',
      ask: chat('base', { adapters: [{ name: N }] }),
      gets: `401 404 200:base+${N}@2=1 200:base+${N}@2=1 200:base+${N}@2=1 401 401 401 401`,
    },
    {
      does: 'composes a pinned chain with what everybody may use',
      ask: chat('clinic/open', { adapters: [{ name: `${N}/deep@1`, scale: 0.5 }] }),
      gets: `401 404 200:clinic/open@1+${N}/deep@1=0.5 200:clinic/open@1+${N}/deep@1=0.5 200:clinic/open@1+${N}/deep@1=0.5 401 401 401 401`,
    },
    {
      does: 'uses what everybody may use',
      ask: chat('clinic/open'),
      gets: '401 200:clinic/open@1 200:clinic/open@1 200:clinic/open@1 200:clinic/open@1 401 401 401 401',
    },
    {
      does: 'uses an own adapter whose parent is not allowed any more',
      ask: chat('guest/mixed'),
      gets: '401 200:guest@1^ 200:guest/mixed@1 404 404 401 401 401 401',
    },
    {
      does: 'composes it',
      ask: chat('base', { adapters: [{ name: 'guest/mixed' }] }),
      gets: '401 404 200:base+guest/mixed@1=1 404 404 401 401 401 401',
    },
    {
      does: "uses an own alias of another's name",
      ask: chat('guest/latest'),
      gets: `401 200:guest@1^ 200:${N}@2~guest/latest 200:${N}@2~guest/latest 200:${N}@2~guest/latest 401 401 401 401`,
    },
    { does: 'uses what is not there', ask: chat('none'), gets: '401 404 404 404 404 401 401 401 401' },
  ],
  'POST /v1/completions': [
    {
      does: 'uses',
      ask: plain('/v1/completions', { model: N, prompt: 'hi' }),
      gets: `401 404 200:${N}@2 200:${N}@2 200:${N}@2 401 401 401 401`,
    },
  ],
  'POST /v1/responses': [
    {
      does: 'uses',
      ask: plain('/v1/responses', { model: N, input: 'hi' }),
      gets: `401 404 200:${N}@2 200:${N}@2 200:${N}@2 401 401 401 401`,
    },
  ],
  'POST /v1/embeddings': [
    {
      does: 'uses',
      ask: plain('/v1/embeddings', { model: N, input: 'hi' }),
      gets: `401 404 200:${N}@2 200:${N}@2 200:${N}@2 401 401 401 401`,
    },
  ],
  'POST /v1/classify': [
    {
      does: 'uses',
      ask: plain('/v1/classify', { model: N, input: 'hi' }),
      gets: `401 404 200:${N}@2 200:${N}@2 200:${N}@2 401 401 401 401`,
    },
  ],
  'POST /v1/score': [
    {
      does: 'uses',
      ask: plain('/v1/score', { model: N, text_1: 'hi', text_2: 'you' }),
      gets: `401 404 200:${N}@2 200:${N}@2 200:${N}@2 401 401 401 401`,
    },
  ],
  'POST /v1/rerank': [
    {
      does: 'uses',
      ask: plain('/v1/rerank', { model: N, query: 'hi', documents: ['you'] }),
      gets: `401 404 200:${N}@2 200:${N}@2 200:${N}@2 401 401 401 401`,
    },
  ],
  'POST /v1/messages': [
    {
      does: 'uses',
      ask: plain('/v1/messages', { model: N, max_tokens: 9, messages: [{ role: 'user', content: 'hi' }] }),
      gets: `401 404 200:${N}@2 200:${N}@2 200:${N}@2 401 401 401 401`,
    },
  ],
  'POST /v1/messages/count_tokens': [
    {
      does: 'tells what everybody with a key may know',
      ask: plain('/v1/messages/count_tokens', { model: N, messages: [{ role: 'user', content: 'hi' }] }),
      gets: '401 200 200 200 200 401 401 401 401',
    },
  ],
  'POST /v1/responses/input_tokens': [
    {
      does: 'tells what everybody with a key may know',
      ask: plain('/v1/responses/input_tokens', { model: N, input: 'hi' }),
      gets: '401 200 200 200 200 401 401 401 401',
    },
  ],
  'POST /tokenize': [
    {
      does: 'tells what everybody with a key may know',
      ask: plain('/tokenize', { model: N, prompt: 'hi' }),
      gets: '401 200 200 200 200 401 401 401 401',
    },
  ],
  'POST /detokenize': [
    {
      does: 'tells what everybody with a key may know',
      ask: plain('/detokenize', { tokens: [1] }),
      gets: '401 200 200 200 200 401 401 401 401',
    },
  ],
  'POST /v1/feedback': [
    {
      does: "rates clinic's answer of an experiment that is over",
      ask: async ({ graft }) => {
        const of = { tenant: 'clinic', experiment: 'exp_0123456789abcdef', version: 1, variant: 'control' };
        const answer = { ...of, id: newExposureId(), unit: 'A'.repeat(22), at: graft.clock.now() };
        const id = `chatcmpl-${await graft.services.answerTokens.issue(answer)}`;
        return { path: '/v1/feedback', body: { id, metric: 'thumbs', value: 1 } };
      },
      gets: '401 403 403 403 409 401 401 401 401',
    },
  ],
  'POST /v1/preferences': [
    {
      does: 'records nothing for keys that do not keep prompts, or may not improve',
      ask: plain('/v1/preferences', { chosen: 'a', rejected: 'b' }),
      gets: '401 403 403 403 403 401 401 401 401',
    },
  ],
  'GET /v1/models': [
    {
      does: 'lists what the key may use, aliases among it',
      ask: plain('/v1/models'),
      gets: '401 200:guest,open 200:deep,guest,latest,mixed,notes,open 200:deep,notes,open 200:deep,notes,open 401 401 401 401',
      shows: ({ data }: { data: { id: string }[] }) =>
        data
          .slice(1)
          .map(({ id }) => id.split('/').at(-1))
          .sort()
          .join(','),
    },
  ],
  'GET /v1/models/*': [
    { does: 'reads', ask: plain(`/v1/models/${N}`), gets: '401 404 200 200 200 401 401 401 401' },
    { does: 'reads a pin', ask: plain(`/v1/models/${N}@1`), gets: '401 404 200 200 200 401 401 401 401' },
    {
      does: 'reads a chain with a member that is not allowed any more',
      ask: plain('/v1/models/guest%2Fmixed'),
      gets: '401 404 200 404 404 401 401 401 401',
    },
    {
      does: 'reads what is public',
      ask: plain('/v1/models/clinic/open'),
      gets: '401 200 200 200 200 401 401 401 401',
    },
    {
      does: 'reads what is not there',
      ask: plain('/v1/models/none'),
      gets: '401 404 404 404 404 401 401 401 401',
    },
  ],

  'GET /admin/blobs/:digest': [
    {
      does: 'sees only what its own tenant has sent',
      ask: ({ notes }) => ({ path: `/admin/blobs/${notes.digest}` }),
      gets: admins('200:false 200:false 200:true 200:false'),
      shows: ({ complete }: { complete: boolean }) => complete,
    },
  ],
  'PUT /admin/blobs/:digest/parts/:index{[0-9]{1,4}}': [
    {
      does: 'sends',
      ask: ({ fresh }) => ({
        path: `/admin/blobs/${fresh.digest}/parts/0`,
        body: new Uint8Array(fresh.bytes),
      }),
      gets: admins('200 200 200 200'),
    },
  ],
  'POST /admin/blobs/:digest': [
    {
      does: 'claims a file without having sent it',
      ask: ({ notes: { bytes, digest } }) => ({
        path: `/admin/blobs/${digest}`,
        body: { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] },
      }),
      gets: admins('422 422 200 422'),
    },
  ],
  'POST /admin/versions': [
    {
      does: 'publishes a name of its own',
      ask: withFile('fresh', (digest, tenant) => publish({ name: `${tenant}/new`, digest })),
      gets: admins('201 201 201 201'),
    },
    {
      does: "publishes under another's name",
      ask: withFile('fresh', (digest) => publish({ name: N, digest })),
      gets: admins('403 403 201 201'),
    },
    {
      does: "publishes in another's room",
      ask: withFile('fresh', (digest) => publish({ name: `${N}/mine`, digest })),
      gets: admins('403 403 201 201'),
    },
    {
      does: 'publishes for another tenant',
      ask: withFile('fresh', (digest) => publish({ name: 'elsewhere', digest, owner: 'clinic' })),
      gets: admins('403 403 201 201'),
    },
    {
      does: "names another's adapter as parent",
      ask: withFile('freshChild', (digest, tenant) => publish({ name: `${tenant}/new`, digest, parent: N })),
      gets: admins('404 201 201 201'),
    },
    {
      does: "publishes another's file by its digest",
      ask: ({ notes: { digest } }, role) => publish({ name: `${TENANT_OF[role]}/new`, digest }),
      gets: admins('422 422 201 422'),
    },
  ],
  'POST /admin/versions/plan': [
    {
      does: 'plans a name of its own',
      ask: ({ fresh }, role) => plan({ name: `${TENANT_OF[role]}/new`, digest: fresh.digest }),
      gets: admins('200 200 200 200'),
    },
    {
      does: "plans another's name",
      ask: ({ fresh }) => plan({ name: N, digest: fresh.digest }),
      gets: admins('403 403 200 200'),
    },
    {
      does: "plans on top of another's adapter",
      ask: ({ fresh, notesChain }, role) =>
        plan({ name: `${TENANT_OF[role]}/new`, digest: fresh.digest, parent: N }, notesChain),
      gets: admins('404 200 200 200'),
    },
    {
      does: "plans another's file by its digest",
      ask: ({ notes: { digest } }, role) => plan({ name: `${TENANT_OF[role]}/new`, digest }),
      gets: admins('200:1 200:1 200:0 200:1'),
      shows: ({ bytes_to_send }: { bytes_to_send: number }) => bytes_to_send,
    },
  ],
  'GET /admin/versions': [
    { does: 'reads versions', ask: plain(`/admin/versions?name=${N}`), gets: admins('404 200 200 200') },
    {
      does: 'finds the names of a file',
      ask: ({ notes }) => ({ path: `/admin/versions?digest=${notes.digest}` }),
      gets: admins('200:0 200:1 200:1 200:1'),
      shows: ({ versions }: { versions: unknown[] }) => versions.length,
    },
  ],
  'GET /admin/removed': [
    { does: 'lists what was removed', ask: plain('/admin/removed'), gets: admins('200 200 200 200') },
  ],
  'GET /admin/names': [
    {
      does: 'lists its own',
      ask: plain('/admin/names'),
      gets: admins('200:guest 200: 200:clinic 200:clinic,guest'),
      shows: ({ names }: { names: { owner: string }[] }) =>
        [...new Set(names.map(({ owner }) => owner))].sort().join(','),
    },
  ],
  'POST /admin/promote': [
    {
      does: 'promotes',
      ask: plain('/admin/promote', { name: N, version: 2 }),
      gets: admins('404 404 200 200'),
    },
    {
      does: 'promotes what is live',
      ask: plain('/admin/promote', { name: N, version: 1 }),
      gets: admins('404 404 200 200'),
    },
  ],
  'POST /admin/rollback': [
    { does: 'rolls back', ask: plain('/admin/rollback', { name: N }), gets: admins('404 404 200 200') },
  ],
  'POST /admin/retire': [
    {
      does: 'retires',
      ask: plain('/admin/retire', { name: N, version: 1 }),
      gets: admins('404 404 200 200'),
    },
  ],
  'GET /admin/downloads': [
    {
      does: 'tells what a version is made of, to a key with the right',
      ask: plain(`/admin/downloads?name=${N}`),
      gets: admins('403 403 403 200'),
    },
  ],
  'GET /admin/downloads/parts/:index{[0-9]{1,4}}': [
    {
      does: 'gives the bytes to a key with the right',
      ask: ({ notes }) => ({ path: `/admin/downloads/parts/0?name=${N}&version=2&digest=${notes.digest}` }),
      gets: admins('403 403 403 200'),
    },
  ],
  'POST /admin/remove': [
    {
      does: 'removes a version',
      ask: plain('/admin/remove', { name: N, version: 1 }),
      gets: admins('404 404 200 200'),
    },
    {
      does: "removes a name with what stands on it, but for others'",
      ask: plain('/admin/remove', { name: N, cascade: true }),
      gets: admins('404 404 200:clinic/notes,clinic/notes/deep 200:clinic/notes,clinic/notes/deep'),
      shows: ({ removed }: { removed: { name: string }[] }) => removed.map(({ name }) => name).join(','),
    },
  ],
  'POST /admin/restore': [
    {
      does: 'brings a version back',
      ask: async ({ graft }) => {
        const one = { name: N, version: 1 };
        const removed = await graft.request('/admin/remove', { body: one });
        if (removed.status !== 200 && removed.status !== 404) throw new Error(await removed.text());
        return { path: '/admin/restore', body: one };
      },
      gets: admins('404 404 200 200'),
    },
  ],
  'POST /admin/alias': [
    {
      does: "makes an alias in another's room",
      ask: plain('/admin/alias', { name: 'clinic/notes/latest', target: 'clinic/open' }),
      gets: admins('403 403 200 200'),
    },
    {
      does: "makes an own alias of another's name",
      ask: (_, role) => ({
        path: '/admin/alias',
        body: { name: `${TENANT_OF[role]}/other`, target: `${N}/deep` },
      }),
      gets: admins('404 200 200 200'),
    },
    {
      does: "takes another's alias away",
      ask: plain('/admin/alias', { name: 'guest/latest', target: null }),
      gets: admins('200 404 404 200'),
    },
  ],
  'POST /admin/strict': [
    {
      does: 'marks a name',
      ask: plain('/admin/strict', { name: N, strict: true }),
      gets: admins('404 404 200 200'),
    },
  ],
  'POST /admin/edit': [
    {
      does: 'says what a name is for',
      ask: plain('/admin/edit', { name: N, description: 'notes', tags: ['clinic'] }),
      gets: admins('404 404 200 200'),
    },
  ],
  'GET /admin/history': [
    { does: "reads a tenant's", ask: plain('/admin/history?tenant=clinic'), gets: admins('403 403 200 200') },
    { does: "reads a name's", ask: plain(`/admin/history?name=${N}`), gets: admins('404 404 200 200') },
    {
      does: "reads its tenant's",
      ask: plain('/admin/history'),
      gets: admins('200:guest 200: 200:clinic 200:clinic,guest'),
      shows: ({ changes }: { changes: { owner: string }[] }) =>
        [...new Set(changes.map(({ owner }) => owner))].sort().join(','),
    },
  ],
  'POST /admin/repair': [
    { does: 'repairs', ask: plain('/admin/repair', { dry_run: true }), gets: admins('403 403 403 200') },
  ],
  'POST /admin/gc': [{ does: 'collects', ask: plain('/admin/gc', {}), gets: admins('403 403 403 200') }],
  'GET /admin/backup': [{ does: 'plans', ask: plain('/admin/backup'), gets: admins('403 403 403 200') }],
  'GET /admin/backup/rows': [
    { does: 'reads', ask: plain('/admin/backup/rows?table=names'), gets: admins('403 403 403 200') },
  ],
  'GET /admin/backup/parts/:digest': [
    {
      does: 'reads any file',
      ask: ({ notes }) => ({ path: `/admin/backup/parts/${notes.digest}?index=0` }),
      gets: admins('403 403 403 200'),
    },
  ],
  'POST /admin/backup/restore': [
    {
      does: 'begins, or goes on',
      ask: restoring({ path: '/admin/backup/restore', body: { id: RESTORE } }),
      gets: admins('403 403 403 200'),
    },
  ],
  'POST /admin/backup/rows': [
    {
      does: 'writes rows',
      ask: restoring({
        path: '/admin/backup/rows',
        body: ROWS,
      }),
      gets: admins('403 403 403 200'),
    },
  ],
  'POST /admin/backup/files': [
    {
      does: 'asks for what is missing',
      ask: restoring({ path: '/admin/backup/files', body: { id: RESTORE, digests: ['a'.repeat(64)] } }),
      gets: admins('403 403 403 200'),
    },
  ],
  'PUT /admin/backup/parts/:digest': [
    {
      does: 'writes a part',
      ask: async (world, role) => ({
        ...(await restoring({ path: '' })(world, role)),
        path: `/admin/backup/parts/${world.notes.digest}?index=0&restore=${RESTORE}`,
        body: new Uint8Array(world.notes.bytes),
      }),
      gets: admins('403 403 403 204'),
    },
  ],
  'POST /admin/backup/end': [
    {
      does: 'ends',
      ask: restoring({ path: '/admin/backup/end', body: { id: RESTORE } }),
      gets: admins('403 403 403 200'),
    },
  ],
  'POST /admin/erase': [
    {
      does: 'erases a tenant',
      ask: plain('/admin/erase', { tenant: 'clinic', cascade: true, dry_run: true }),
      gets: admins('403 403 403 200'),
    },
    {
      does: 'may erase usage records',
      ask: plain('/admin/erase', { name: N, usage: true, cascade: true, dry_run: true }),
      gets: admins('403 403 403 200'),
    },
    {
      does: 'erases names of its own',
      ask: plain('/admin/erase', { name: `${N}/**`, cascade: true }),
      shows: ({ plan }: { plan: { names: number } }) => plan.names,
      gets: admins('200:0 200:0 200:2 200:2'),
    },
  ],
  'POST /admin/verify': [
    {
      does: 'has a version verified',
      ask: plain('/admin/verify', { name: N }),
      gets: admins('404 404 200 200'),
    },
  ],
  'POST /admin/warm': [
    { does: 'has a version loaded', ask: plain('/admin/warm', { name: N }), gets: admins('404 404 200 200') },
  ],
  'POST /admin/evaluate': [
    {
      does: "scores an own file on top of another's adapter",
      ask: withFile('freshChild', (digest) => ({
        path: '/admin/evaluate',
        body: { digest, parent: N, rows: [{ prompt: 'a', expected: 'b' }] },
      })),
      gets: admins('404 200 200 200'),
    },
    {
      does: "scores another's file",
      ask: ({ notes: { digest } }) => ({
        path: '/admin/evaluate',
        body: { digest, rows: [{ prompt: 'a', expected: 'b' }] },
      }),
      gets: admins('422 422 200 422'),
    },
  ],

  'POST /admin/evaluations': [
    {
      does: 'keeps rows for a name of its own',
      ask: plain('/admin/evaluations', EVALUATION),
      gets: admins('404 404 201 201'),
    },
    {
      does: "has another's adapter judge",
      ask: plain('/admin/evaluations', { ...EVALUATION, rows: [{ user: 'a' }], judge: 'guest/mixed' }),
      gets: admins('404 404 404 201'),
    },
  ],
  'GET /admin/evaluations': [
    {
      does: 'lists what its owner keeps',
      ask: kept(() => ({ path: `/admin/evaluations?name=${N}` })),
      gets: admins('404 404 200:1 200:1'),
      shows: ({ evaluations }: { evaluations: unknown[] }) => evaluations.length,
    },
  ],
  'DELETE /admin/evaluations': [
    {
      does: 'removes it',
      ask: kept(() => ({ path: `/admin/evaluations?name=${N}&label=holdout` })),
      gets: admins('404 404 204 204'),
    },
  ],
  'GET /admin/evaluations/rows': [
    {
      does: 'reads the rows, which are its owner’s alone',
      ask: kept(() => ({ path: `/admin/evaluations/rows?name=${N}&label=holdout` })),
      gets: admins('404 404 200:1 404'),
      shows: ({ rows }: { rows: unknown[] }) => rows.length,
    },
  ],
  'POST /admin/evaluations/score': [
    {
      does: 'scores the live version',
      ask: kept(() => ({ path: '/admin/evaluations/score', body: { name: N, label: 'holdout' } })),
      gets: admins('404 404 200 200'),
    },
    {
      does: "scores another's version, which it may use, on rows of its own",
      ask: kept(() => ({
        path: '/admin/evaluations/score',
        body: { name: N, label: 'holdout', adapter: 'guest/mixed@1' },
      })),
      gets: admins('404 404 404 200'),
    },
  ],

  'POST /admin/experiments': [
    {
      does: 'makes one on a name of its own',
      ask: plain('/admin/experiments', { name: N, variants: sameTwice(`${N}@1`) }),
      gets: admins('404 404 201 201'),
    },
    {
      does: "takes another's adapter as a variant",
      ask: plain('/admin/experiments', { name: 'guest', variants: sameTwice(`${N}@1`) }),
      gets: admins('404 404 404 201'),
    },
  ],
  'POST /admin/experiments/plan': [
    {
      does: 'plans one on a name of its own',
      ask: plain('/admin/experiments/plan', { name: N, variants: sameTwice(`${N}@1`) }),
      gets: admins('404 404 200 200'),
    },
  ],
  'GET /admin/experiments': [
    {
      does: 'lists its own',
      ask: plain('/admin/experiments'),
      gets: admins('200:0 200:0 200:1 200:1'),
      shows: ({ experiments }: { experiments: unknown[] }) => experiments.length,
    },
  ],
  'GET /admin/experiments/:id': [
    { does: 'reads', ask: ({ experiment }) => ({ path: experiment }), gets: admins('404 404 200 200') },
  ],
  'PUT /admin/experiments/:id': [
    {
      does: 'changes',
      async ask({ graft, experiment: path }) {
        const read = (await (await graft.request(path)).json()) as { document: { version: number } };
        const { document } = read;
        return { path, body: { document: { ...document, version: document.version + 1, coverage: 0.5 } } };
      },
      gets: admins('404 404 200 200'),
    },
  ],
  'POST /admin/experiments/:id/start': [
    { does: 'starts', ask: step('start'), gets: admins('404 404 200 200') },
  ],
  'POST /admin/experiments/:id/ramp': [
    {
      does: 'takes to the coverage that it has',
      ask: liveStep('ramp', { coverage: 1 }),
      gets: admins('404 404 200 200'),
    },
  ],
  'POST /admin/experiments/:id/stop': [
    { does: 'stops', ask: liveStep('stop'), gets: admins('404 404 200 200') },
  ],
  'POST /admin/experiments/:id/kill': [
    { does: 'kills', ask: liveStep('kill', { killed: true }), gets: admins('404 404 200 200') },
  ],
  'POST /admin/experiments/:id/promote': [
    { does: 'promotes', ask: liveStep('promote', { variant: 'treatment' }), gets: admins('404 404 200 200') },
  ],
  'POST /admin/experiments/:id/archive': [
    { does: 'archives', ask: step('archive'), gets: admins('404 404 200 200') },
  ],
  'POST /admin/experiments/:id/evaluate': [
    { does: 'evaluates', ask: liveStep('evaluate'), gets: admins('404 404 200 200') },
  ],
  'GET /admin/experiments/:id/pairs': [
    {
      does: 'reads what users wrote, which is its owner’s alone',
      ask: judged('pairs'),
      gets: admins('404 404 200:1 404'),
      shows: ({ pairs }: { pairs: unknown[] }) => pairs.length,
    },
  ],
  'GET /admin/experiments/:id/judge-secret': [
    { does: 'reads the secret of its judge', ask: judged('judge-secret'), gets: admins('404 404 200 404') },
  ],
  'GET /admin/experiments/:id/looks': [
    {
      does: 'reads looks',
      ask: ({ experiment }) => ({ path: `${experiment}/looks` }),
      gets: admins('404 404 200 200'),
    },
  ],

  'GET /admin/grants': [
    {
      does: 'lists what its tenant gave',
      ask: plain('/admin/grants'),
      gets: admins('200:0 200:0 200:2 200:2'),
      shows: ({ grants }: { grants: unknown[] }) => grants.length,
    },
    {
      does: 'lists what its tenant has',
      ask: plain('/admin/grants?held=true'),
      gets: admins('200:1 200:2 200:1 200:1'),
      shows: ({ grants }: { grants: unknown[] }) => grants.length,
    },
  ],
  'POST /admin/grants': [
    {
      does: 'gives',
      ask: plain('/admin/grants', { scope: N, tenant: 'other' }),
      gets: admins('404 404 201 201'),
    },
    {
      does: 'gives what nobody has published',
      ask: plain('/admin/grants', { scope: 'nowhere/**', tenant: 'other' }),
      gets: admins('404 404 404 201'),
    },
    {
      does: 'gives everything',
      ask: plain('/admin/grants', { scope: '**', tenant: 'other' }),
      gets: admins('403 403 403 201'),
    },
  ],
  'DELETE /admin/grants': [
    {
      does: "takes away what another's name was granted to it",
      ask: plain('/admin/grants?scope=clinic%2F**&tenant=friend'),
      gets: admins('404 404 204 204'),
    },
  ],
  'GET /admin/rooms': [{ does: 'lists', ask: plain('/admin/rooms'), gets: admins('200 200 200 200') }],
  'POST /admin/rooms': [
    {
      does: 'reserves',
      ask: plain('/admin/rooms', { name: 'ward', tenant: 'guest' }),
      gets: admins('403 403 403 201'),
    },
  ],
  'DELETE /admin/rooms': [
    {
      does: 'ends a reservation that is not there',
      ask: plain('/admin/rooms?name=ward'),
      gets: admins('403 403 403 404'),
    },
  ],
  'GET /admin/grants/refuse': [
    { does: 'lists whom it refuses', ask: plain('/admin/grants/refuse'), gets: admins('200 200 200 200') },
  ],
  'POST /admin/grants/refuse': [
    {
      does: 'refuses for its tenant',
      ask: plain('/admin/grants/refuse', { from: 'mallory' }),
      gets: admins('201 201 201 201'),
    },
  ],
  'DELETE /admin/grants/refuse': [
    {
      does: 'accepts whom it does not refuse',
      ask: plain('/admin/grants/refuse?from=trudy'),
      gets: admins('404 404 404 404'),
    },
  ],
  'POST /admin/keys': [
    { does: 'makes its own', ask: plain('/admin/keys', {}), gets: admins('201 201 201 201') },
    {
      does: "makes another tenant's",
      ask: plain('/admin/keys', { tenant: 'clinic' }),
      gets: admins('403 403 201 201'),
    },
    {
      does: 'makes one with a scope that it has not',
      ask: plain('/admin/keys', { scopes: ['clinic/**'] }),
      gets: admins('403 403 403 201'),
    },
    { does: 'makes an admin', ask: plain('/admin/keys', { kind: 'admin' }), gets: admins('403 403 403 201') },
    {
      does: 'registers a hash',
      ask: plain('/admin/keys', { hash: 'a'.repeat(64) }),
      gets: admins('403 403 403 201'),
    },
  ],
  'POST /admin/keys/rotate': [
    {
      does: 'rotates',
      ask: ({ clinicKeyId: id }) => ({ path: '/admin/keys/rotate', body: { id } }),
      gets: admins('404 404 201 201'),
    },
  ],
  'POST /admin/keys/change': [
    {
      does: 'changes a label',
      ask: ({ clinicKeyId: id }) => ({ path: '/admin/keys/change', body: { id, label: 'x' } }),
      gets: admins('404 404 200 200'),
    },
    {
      does: 'adds a scope that it has not',
      ask: ({ clinicKeyId: id }) => ({ path: '/admin/keys/change', body: { id, scopes: ['guest/**'] } }),
      gets: admins('404 404 403 200'),
    },
  ],
  'GET /admin/keys': [
    {
      does: 'lists',
      ask: plain('/admin/keys'),
      gets: admins('200:guest 200:friend 200:clinic 200:clinic,friend,guest'),
      shows: ({ keys }: { keys: { tenant: string }[] }) =>
        [...new Set(keys.map(({ tenant }) => tenant))].sort().join(','),
    },
  ],
  'DELETE /admin/keys/:id': [
    {
      does: 'revokes',
      ask: ({ clinicKeyId }) => ({ path: `/admin/keys/${clinicKeyId}` }),
      gets: admins('404 404 204 204'),
    },
    {
      does: 'revokes with all that it made',
      ask: ({ clinicKeyId }) => ({ path: `/admin/keys/${clinicKeyId}?report=true&made=true` }),
      gets: admins('404 404 200 200'),
    },
  ],
  'GET /admin/webhooks': [
    {
      does: 'lists its own',
      ask: hooked(() => ({ path: '/admin/webhooks' })),
      gets: admins('200: 200: 200:clinic 200:clinic'),
      shows: ({ webhooks }: { webhooks: { tenant: string }[] }) =>
        webhooks.map(({ tenant }) => tenant).join(),
    },
  ],
  'POST /admin/webhooks': [
    {
      does: 'makes one',
      ask: plain('/admin/webhooks', { url: 'https://app.example.com/hook' }),
      gets: admins('201:guest 201:friend 201:clinic 201:operator'),
      shows: ({ tenant }: { tenant: string | null }) => tenant ?? 'operator',
    },
    {
      does: 'makes one of clinic',
      ask: plain('/admin/webhooks', { url: 'https://app.example.com/hook', tenant: 'clinic' }),
      gets: admins('403 403 201 201'),
    },
    {
      does: 'asks for what origins do',
      ask: plain('/admin/webhooks', { url: 'https://app.example.com/hook', events: ['origin.away'] }),
      gets: admins('403 403 403 201'),
    },
  ],
  'DELETE /admin/webhooks/:id': [
    {
      does: 'deletes',
      ask: hooked((id) => ({ path: `/admin/webhooks/${id}` })),
      gets: admins('404 404 204 204'),
    },
  ],
  'GET /admin/webhooks/:id/secret': [
    {
      does: 'reads its secret',
      ask: hooked((id) => ({ path: `/admin/webhooks/${id}/secret` })),
      gets: admins('404 404 200 200'),
    },
  ],
  'POST /admin/webhooks/:id/test': [
    {
      does: 'tests',
      ask: hooked((id) => ({ path: `/admin/webhooks/${id}/test`, body: {} })),
      gets: admins('404 404 200:true 200:true'),
      shows: ({ delivered }: { delivered?: boolean }) => delivered ?? '',
    },
  ],
  'POST /admin/tenants/limits': [
    {
      does: 'is the operator’s',
      ask: plain('/admin/tenants/limits', { tenant: 'clinic', limits: { requests_per_minute: 60 } }),
      gets: admins('403 403 403 200'),
    },
  ],
  'GET /admin/tenants/limits': [
    {
      does: 'shows its own',
      ask: async ({ graft }) => {
        const limits = { requests_per_minute: 60 };
        for (const tenant of ['clinic', 'guest'])
          await graft.request('/admin/tenants/limits', { body: { tenant, limits } });
        return { path: '/admin/tenants/limits' };
      },
      gets: admins('200:guest 200: 200:clinic 200:clinic,guest'),
      shows: ({ tenants }: { tenants: { tenant: string }[] }) => tenants.map(({ tenant }) => tenant).join(),
    },
  ],
  'POST /admin/limits/reset': [
    {
      does: 'is the operator’s',
      ask: plain('/admin/limits/reset', { tenant: 'clinic' }),
      gets: admins('403 403 403 200'),
    },
  ],
  'GET /admin/usage': [
    { does: 'reads', ask: plain('/admin/usage?tenant=clinic'), gets: admins('403 403 200 200') },
  ],
  'GET /admin/traffic': [
    { does: 'reads', ask: plain('/admin/traffic?tenant=clinic'), gets: admins('403 403 200 200') },
    { does: 'reads its own', ask: plain('/admin/traffic'), gets: admins('200 200 200 200') },
  ],
  'GET /admin/requests': [
    { does: 'reads', ask: plain('/admin/requests?tenant=clinic'), gets: admins('403 403 200 200') },
    { does: 'reads its own', ask: plain('/admin/requests'), gets: admins('200 200 200 200') },
  ],
  'GET /admin/requests/:id/prompt': [
    {
      does: 'reads what is kept of its tenant, to a key with the right',
      ask: plain('/admin/requests/none/prompt'),
      gets: admins('403 403 403 404'),
    },
  ],
  'POST /admin/improvements': [
    {
      does: 'makes rows of the tenant’s own requests, for a key that may read them',
      ask: plain('/admin/improvements', { name: N }),
      gets: admins('403 403 403 404'),
    },
  ],
  'GET /admin/origins': [
    {
      does: 'lists, and what they hold to the operator',
      ask: plain('/admin/origins'),
      gets: admins('200:no 200:no 200:no 200:yes'),
      shows: ({ origins }: { origins: { residents: unknown }[] }) =>
        origins.some(({ residents }) => residents !== null) ? 'yes' : 'no',
    },
  ],
  'GET /admin/origins/history': [
    {
      does: 'is the operator’s',
      ask: plain('/admin/origins/history?origin=o1'),
      gets: admins('403 403 403 200'),
    },
  ],
  'GET /admin/openapi.json': [
    { does: 'reads what the API is', ask: plain('/admin/openapi.json'), gets: admins('200 200 200 200') },
  ],
  'GET /admin/pins': [{ does: 'lists', ask: plain('/admin/pins'), gets: admins('403 403 403 200') }],
  'POST /admin/pins': [
    { does: 'pins', ask: plain('/admin/pins', { name: N }), gets: admins('403 403 403 200') },
  ],
  'DELETE /admin/pins': [
    { does: 'unpins', ask: plain(`/admin/pins?name=${N}`), gets: admins('403 403 403 404') },
  ],
};
