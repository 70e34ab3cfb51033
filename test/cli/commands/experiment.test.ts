import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApiClient } from '../../../cli/api-client.ts';
import { EXIT } from '../../../cli/cli-error.ts';
import { runAction, type Flags } from '../../../cli/commands/experiment.ts';
import type { ExperimentAction } from '../../../cli/experiment/experiment-flags.ts';
import { createOutput } from '../../../cli/output.ts';
import {
  ChangeExperiment,
  CreateExperiment,
  PlanExperiment,
  type ExperimentPlan,
  type ExperimentView,
} from '../../../protocol/admin-api/experiments.ts';
import { DOCUMENT, ID, lookOf, viewOf } from '../experiment/sample-view.ts';
import { writtenTo } from '../../fixtures/written-to.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-experiment-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const fileOf = async (value: unknown): Promise<string> => {
  const file = path.join(folder, 'experiment.json');
  await writeFile(file, typeof value === 'string' ? value : JSON.stringify(value));
  return file;
};

const DIGEST = 'd'.repeat(64);
const OLD = 'exp_aaaaaaaaaaaaaaaa';
const fails = (status: number, code: string) =>
  Response.json({ error: { message: `says the server: ${code}`, code } }, { status });

const PLAN: ExperimentPlan = {
  name: 'support/intent',
  requests: { per_day: 5_200, days: 7 },
  units: { per_day: 900, from: 'experiment' },
  values: { share: 0.31, from: 'experiment' },
  baseline: { mean: 0.62, from: 'experiment' },
  coverage: 1,
  alpha: 0.05,
  finds: [
    { lift: 0.5, units: 300, days: 0.34 },
    { lift: 0.2, units: 2_600, days: 2.9 },
    { lift: 0.05, units: 36_000, days: 40.3 },
  ],
};

/** A server with one experiment on `support/intent`, an archived one before it, and versions 3 and 4 (2 is retired). */
function serverOf(view: ExperimentView = viewOf()) {
  const asked: string[] = [];
  const bodies: unknown[] = [];
  const archived = viewOf({ status: 'archived' }, { id: OLD });
  const fetchFn: typeof fetch = async (input, init) => {
    const { pathname, searchParams } = new URL(String(input));
    const method = init?.method ?? 'GET';
    asked.push(`${method} ${pathname}${searchParams.size > 0 ? `?${searchParams}` : ''}`);
    const body: unknown = typeof init?.body === 'string' ? JSON.parse(init.body) : undefined;
    if (body !== undefined) bodies.push(body);
    if (pathname === '/admin/versions')
      return Response.json({
        name: 'support/intent',
        owner: 'default',
        version: 3,
        versions: [4, 3, 2].map((version) => ({
          ...{ name: 'support/intent', version, digest: DIGEST, chain: [], chain_id: DIGEST, parent: null },
          ...{ owner: 'default', base: { id: 'b', digest: DIGEST }, bytes: 1, rank: 8, live: version === 3 },
          ...{ created_at: 1, created_by: 'k', proof: null, evaluation: null, training: null },
          retired_at: version === 2 ? 5 : null,
        })),
      });
    if (pathname === '/admin/experiments/plan') {
      PlanExperiment.parse(body);
      return Response.json(PLAN);
    }
    if (pathname === '/admin/experiments' && method === 'POST') {
      const { why: _, ...design } = CreateExperiment.parse(body);
      const filled = { seed: 'made-up', unit: 'user', coverage: 1, metrics: DOCUMENT.metrics };
      const document = { ...filled, ...design, version: 1, status: 'draft', ramp: design.ramp };
      const secret = design.webhook === undefined ? {} : { webhook_secret: 'whsec_once' };
      const draft = { ...viewOf(document, { evaluation: null, started_at: null }), ...secret };
      return Response.json(draft, { status: 201 });
    }
    if (pathname === '/admin/experiments') {
      const name = searchParams.get('name');
      if (name !== null && name !== 'support/intent') return Response.json({ experiments: [], cursor: null });
      return searchParams.get('cursor') === null
        ? Response.json({ experiments: [archived], cursor: 'next' })
        : Response.json({ experiments: [view], cursor: null });
    }
    if (!pathname.startsWith(`/admin/experiments/${ID}`)) return fails(404, 'not_found');
    if (method === 'PUT')
      return Response.json(viewOf(ChangeExperiment.parse(body).document as Record<string, unknown>));
    switch (pathname.slice(`/admin/experiments/${ID}`.length)) {
      case '':
        return Response.json(view);
      case '/start':
        return fails(409, 'version_conflict');
      case '/kill':
        return Response.json(viewOf({ killed: (body as { killed: boolean }).killed }));
      case '/promote':
        return Response.json(viewOf({ status: 'decided', winner: 'treatment' }));
      case '/stop':
        return Response.json(viewOf({ status: 'decided' }));
      case '/archive':
        return Response.json(viewOf({ status: 'archived' }));
      default:
        return Response.json(view);
    }
  };
  return { asked, bodies, client: createApiClient({ url: 'http://edge.test', key: 'ga_x', fetchFn }) };
}

async function graft(
  action: ExperimentAction,
  flags: Partial<Flags> = {},
  {
    json = false,
    server = serverOf(),
    yes = null,
  }: { json?: boolean; server?: ReturnType<typeof serverOf>; yes?: boolean | null } = {},
): Promise<{ out: string; notes: string; asked: string[]; bodies: unknown[] }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const output = createOutput({ json, stdout, stderr });
  const ask = async (question: string) => {
    stderr.write(`${question}\n`);
    return yes;
  };
  await runAction(action, { rawArgs: [], ...flags }, { output, connect: async () => server.client, ask });
  const text = (stream: PassThrough) => stripVTControlCharacters(writtenTo(stream)).trimEnd();
  return { out: text(stdout), notes: text(stderr), asked: server.asked, bodies: server.bodies };
}

const NAME = 'support/intent';
const FIND = [
  'GET /admin/experiments?name=support%2Fintent',
  'GET /admin/experiments?name=support%2Fintent&cursor=next',
];
const VARIANTS = ['--variant', 'control=@3', '--variant', 'treatment=@4'];

describe('graft experiment create', () => {
  it('creates a draft, and shows what it will do and what comes next', async () => {
    const rawArgs = ['create', NAME, ...VARIANTS, '--metric=thumbs:proportion:up'];
    const { out, notes, asked, bodies } = await graft('create', {
      name: NAME,
      rawArgs,
      ramp: '1%,100%',
      why: 'new',
    });
    expect(asked).toEqual(['POST /admin/experiments/plan', 'POST /admin/experiments']);
    expect(bodies[1]).toEqual(bodies[0]);
    expect(bodies.slice(1)).toEqual([
      {
        name: NAME,
        variants: DOCUMENT.variants,
        metrics: [{ key: 'thumbs', kind: 'proportion', better: 'up' }],
        ramp: { steps: [0.01, 1], hold_minutes: 60, min_units: 200 },
        why: 'new',
      },
    ]);
    const lines = out.split('\n');
    expect(lines[1]).toBe('variants    control support/intent@3 50 %, treatment support/intent@4 50 %');
    expect(lines.at(-1)).toBe(`${ID} on ${NAME} is a draft: nobody is in it`);
    expect(notes).toBe('next: graft experiment start support/intent');
  });

  it('compares a version with the live one, and shows what will be found and when', async () => {
    const flags = {
      name: NAME,
      which: '@4',
      rawArgs: ['create', NAME, '@4', '--at-least', '-2%'],
      atLeast: '-2%',
    };
    const { out, asked, bodies } = await graft('create', { ...flags, expectUnits: '2k', minDays: '7' });
    expect(asked).toEqual([
      'GET /admin/versions?name=support%2Fintent',
      'POST /admin/experiments/plan',
      'POST /admin/experiments',
    ]);
    const design = {
      name: NAME,
      variants: DOCUMENT.variants,
      min_days: 7,
      metrics: [{ key: 'thumbs', kind: 'proportion', better: 'up', at_least: -0.02 }],
    };
    expect(bodies).toEqual([{ ...design, expect_units: 2_000 }, design]);
    expect(out).toContain(
      [
        "traffic  5200 requests a day in the last 7 days; 900 units a day, as in the name's last experiment",
        "values   31 % of them rate, as in the name's last experiment",
        'mean     0.62',
        'finds    a 50 % lift: 9 h; 20 %: 3 days; 5 %: 41 days',
      ].join('\n'),
    );
    const dry = await graft('create', { name: NAME, which: '4', dryRun: true }, { json: true });
    expect(JSON.parse(dry.out)).toEqual({
      name: NAME,
      variants: DOCUMENT.variants,
      plan: PLAN,
      dry_run: true,
    });
  });

  it('starts at once if told to', async () => {
    const server = serverOf();
    await expect(graft('create', { name: NAME, which: '@4', start: true }, { server })).rejects.toMatchObject(
      { message: /start support\/intent: says the server/ },
    );
    expect(server.asked.at(-1)).toBe(`POST /admin/experiments/${ID}/start`);
  });

  it.each([false, true])('says what it has made when the start fails, as JSON: %s', async (json) => {
    const stdout = new PassThrough();
    const output = createOutput({ json, stdout, stderr: new PassThrough() });
    const flags = { name: NAME, which: '@4', start: true, webhook: 'https://a.test/hook', rawArgs: [] };
    const connect = async () => serverOf().client;
    await expect(runAction('create', flags, { output, connect, ask: async () => null })).rejects.toThrow(
      /start support\/intent: says the server/,
    );
    const out = String(stdout.read());
    // It is shown once.
    expect(out).toContain('whsec_once');
    if (json) expect(JSON.parse(out)).toMatchObject({ id: ID, document: { status: 'draft' } });
    else expect(out).toContain('draft');
  });

  it.each<[string, Partial<Flags>, RegExp]>([
    ['@3', {}, /support\/intent@3 is the live version itself/],
    ['latest', {}, /'latest' is not a version to compare/],
    ['@4', { rawArgs: VARIANTS }, /Give '@4', or all variants with --variant/],
    ['@4', { expectUnits: 'many' }, /--expect-units many is not/],
    ['@4', { atLeast: '2%' }, /'2%' is not a lift below 0/],
    ['@4', { minDays: '91' }, /--min-days 91 is not/],
  ])('refuses %s with %j', async (which, flags, message) => {
    await expect(graft('create', { name: NAME, which, ...flags })).rejects.toThrow(message);
  });

  it('compares a shadow if told to', async () => {
    const shadow = 'support/intent@4:5%';
    const rawArgs = ['create', NAME, ...VARIANTS, '--shadow', shadow, '--shadow-compare'];
    const { bodies } = await graft('create', { name: NAME, rawArgs, shadow, shadowCompare: true });
    expect(bodies.at(-1)).toMatchObject({
      shadow: { adapter: 'support/intent@4', sample: 0.05, compare: true },
    });
  });

  it('only checks if told to', async () => {
    const rawArgs = ['create', NAME, ...VARIANTS];
    const { out, asked } = await graft('create', { name: NAME, rawArgs, dryRun: true });
    expect(asked).toEqual(['GET /admin/versions?name=support%2Fintent', 'POST /admin/experiments/plan']);
    expect(out.split('\n')[0]).toBe('dry run: this would be a draft');
    const json = await graft('create', { name: NAME, rawArgs, dryRun: true }, { json: true });
    expect(JSON.parse(json.out)).toEqual({
      ...{ name: NAME, variants: DOCUMENT.variants, plan: PLAN, dry_run: true },
    });
  });

  it.each([
    ['@9', EXIT.notFound, 'support/intent@9 does not exist.'],
    ['@2', EXIT.refused, 'support/intent@2 is retired.'],
  ])('finds that %s cannot be a variant', async (version, exitCode, message) => {
    const rawArgs = ['--variant', 'a=@3', '--variant', `b=${version}`];
    await expect(graft('create', { name: NAME, rawArgs, dryRun: true })).rejects.toMatchObject({
      exitCode,
      message,
    });
  });

  it('accepts a file, with the name in it or beside it', async () => {
    const file = await fileOf(DOCUMENT);
    const { version: _v, status: _s, ...sent } = DOCUMENT;
    expect((await graft('create', { file })).bodies).toEqual([sent, sent]);
    const other = await fileOf({ variants: DOCUMENT.variants });
    expect((await graft('create', { file: other, name: NAME })).bodies).toMatchObject([{ name: NAME }, {}]);
  });

  it.each<[unknown, Partial<Flags>, RegExp]>([
    ['{', {}, /does not contain a JSON object/],
    [[], {}, /does not contain a JSON object/],
    [DOCUMENT, { name: 'other' }, /is for 'support\/intent', not for 'other'/],
    [DOCUMENT, { rawArgs: ['--tenant', 'acme'] }, /or use --tenant without a file/],
    [DOCUMENT, { rawArgs: ['--shadow-compare'] }, /or use --shadow-compare without a file/],
    [{ variants: [] }, { name: NAME }, /'variants': /],
    [{ ...DOCUMENT, typo: 1 }, {}, /'typo': /],
  ])('refuses %j with %j before anything is sent', async (content, flags, message) => {
    const server = serverOf();
    const file = await fileOf(content);
    await expect(graft('create', { file, ...flags }, { server })).rejects.toThrow(message);
    expect(server.asked).toEqual([]);
  });

  it('reports a missing file', () =>
    expect(graft('create', { file: path.join(folder, 'none.json') })).rejects.toThrow(
      /cannot be read \(ENOENT\)/,
    ));
});

describe('graft experiment list and status', () => {
  it('lists experiments that are not archived, over all pages', async () => {
    const { out, notes, asked } = await graft('list');
    expect(asked).toEqual(['GET /admin/experiments', 'GET /admin/experiments?cursor=next']);
    expect(out.split('\n').map((line) => line.split(/ {2,}/).slice(0, 3))).toEqual([
      ['NAME', 'ID', 'STATE'],
      [NAME, ID, 'ramping'],
    ]);
    expect(notes).toBe('1 more archived: graft experiment list --all');
    expect((await graft('list', { all: true })).out).toContain(OLD);
    expect((await graft('status')).out).toBe(out);
  });

  it("finds a name's experiment that is not archived, or the one with an id", async () => {
    const named = await graft('status', { name: NAME });
    expect(named.asked).toEqual(FIND);
    expect(named.out.split('\n')[0]).toBe(`experiment    ${ID} on ${NAME}, document 3`);
    const byId = await graft('status', { name: ID });
    expect(byId.asked).toEqual([`GET /admin/experiments/${ID}`]);
    expect(byId.out).toBe(named.out);
  });

  it("prints the API's answer as JSON", async () => {
    const { out } = await graft('status', { name: NAME }, { json: true });
    expect(JSON.parse(out)).toEqual(JSON.parse(JSON.stringify(viewOf())));
  });

  it.each([
    ['alice/none', /'alice\/none' has no experiment\. Create one: graft experiment create alice\/none/],
    ['exp_bbbbbbbbbbbbbbbb', /says the server: not_found/],
  ])('reports that %s has none', async (name, message) => {
    await expect(graft('status', { name })).rejects.toMatchObject({
      exitCode: EXIT.notFound,
      message: expect.stringMatching(message),
    });
  });

  it('names archived ones if there is no other', async () => {
    const server = serverOf(viewOf({ status: 'archived' }));
    await expect(graft('status', { name: NAME }, { server })).rejects.toThrow(
      '(2 archived: graft experiment list --all)',
    );
  });

  it.each<[Partial<Flags>, boolean, RegExp]>([
    [{ watch: true, name: NAME }, true, /--watch shows text/],
    [{ watch: true }, false, /Which experiment/],
    [{ all: true, name: NAME }, false, /--all is for the list/],
    [{ name: 'Support' }, false, /a name may contain only/],
  ])('refuses %j', (flags, json, message) =>
    expect(graft('status', flags, { json })).rejects.toThrow(message),
  );

  it('prints the document as a file that can be edited', async () => {
    const { out } = await graft('show', { name: NAME });
    expect(out).toMatch(/^\{\n {2}"name": "support\/intent",/);
    expect(JSON.parse(out)).toEqual(JSON.parse(JSON.stringify(viewOf().document)));
  });

  it('lets no text of a document reach the terminal as a command', async () => {
    const seed = 'a\u001b[2Jb\u009bc\u202e';
    const server = serverOf(viewOf({ seed }));
    const { out } = await graft('show', { name: NAME }, { server });
    expect(out).not.toMatch(/[\u001b\u009b\u202e]/);
    expect((JSON.parse(out) as { seed: string }).seed).toBe(seed);
  });

  it('evaluates, and shows the result', async () => {
    const server = serverOf(
      viewOf({}, { evaluation: lookOf({ decision: { action: 'propose_winner', variant: 'treatment' } }) }),
    );
    const { out, asked } = await graft('evaluate', { name: ID }, { server });
    expect(asked.at(-1)).toBe(`POST /admin/experiments/${ID}/evaluate`);
    expect(out).toContain('treatment is the proposed winner');
  });
});

describe('steps', () => {
  it.each<[ExperimentAction, Partial<Flags>, unknown, string, string]>([
    [
      'ramp',
      { coverage: '5%' },
      { coverage: 0.05 },
      'is ramping with 5 % of the units: control support/intent@3 50 %, treatment support/intent@4 50 %',
      'next: graft experiment status support/intent --watch',
    ],
    [
      'kill',
      { why: 'complaints' },
      { killed: true, why: 'complaints' },
      'is killed: everybody gets the live version',
      'next: graft experiment kill support/intent --undo',
    ],
    [
      'kill',
      { undo: true },
      { killed: false },
      'is ramping with 5 % of the units: control support/intent@3 50 %, treatment support/intent@4 50 %',
      'next: graft experiment status support/intent --watch',
    ],
    [
      'promote',
      { which: 'treatment', expect: '3', yes: true },
      { variant: 'treatment', expect: 3 },
      'is decided: treatment won, and support/intent@4 is the live version',
      'next: graft experiment archive support/intent',
    ],
    [
      'stop',
      {},
      {},
      'is decided without a winner: everybody gets the live version',
      'next: graft experiment archive support/intent',
    ],
    ['archive', {}, {}, 'is archived: the name is free for another experiment', ''],
  ])('%s %j', async (action, flags, body, out, notes) => {
    const done = await graft(action, { name: NAME, ...flags });
    const live = action === 'promote' ? ['GET /admin/versions?name=support%2Fintent'] : [];
    expect(done.asked).toEqual([...FIND, ...live, `POST /admin/experiments/${ID}/${action}`]);
    expect(done.bodies).toEqual([body]);
    expect(done.out).toBe(`${ID} on ${NAME} ${out}`);
    expect(done.notes).toBe(notes);
  });

  it('a refused step ends with the server’s words', () =>
    expect(graft('start', { name: NAME })).rejects.toMatchObject({
      exitCode: EXIT.refused,
      code: 'version_conflict',
      message: 'start support/intent: says the server: version_conflict',
    }));

  it('asks before it replaces a version that was never compared', async () => {
    const variants = [
      { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
      { key: 'treatment', adapter: `${NAME}@4`, weight: 0.5 },
    ];
    const proposal = { variant: 'treatment', at: 1, units: 300 };
    const server = () => serverOf(viewOf({ variants }, { proposal }));
    const promote = (flags: Partial<Flags>, yes: boolean | null) =>
      graft('promote', { name: NAME, ...flags }, { server: server(), yes });
    const agreed = await promote({}, true);
    expect(agreed.notes).toMatch(
      /@3 is live, which is neither control nor treatment, .* Replace .*@3 with .*@4 for everybody\?/,
    );
    expect(agreed.bodies).toEqual([{ over: 3 }]);
    const told = await promote({ yes: true, which: 'treatment' }, false);
    expect(told.bodies).toEqual([{ variant: 'treatment', over: 3 }]);
    await expect(promote({}, false)).rejects.toThrow('nothing was changed');
    await expect(promote({}, null)).rejects.toThrow(/add --yes/);
  });

  it('asks before it promotes a variant that was not proposed', async () => {
    const promote = (flags: Partial<Flags>, yes: boolean | null, more: Partial<ExperimentView> = {}) =>
      graft('promote', { name: NAME, ...flags }, { server: serverOf(viewOf({}, more)), yes });
    const agreed = await promote({ which: 'treatment' }, true);
    expect(agreed.notes).toMatch(
      /^treatment is not proposed as the winner \(810 units; wait: .*\)\. Replace support\/intent@3 with support\/intent@4 for everybody\?/,
    );
    expect(agreed.bodies).toEqual([{ variant: 'treatment' }]);
    await expect(promote({ which: 'treatment' }, false)).rejects.toThrow('nothing was changed');
    await expect(promote({ which: 'treatment' }, null)).rejects.toMatchObject({
      ...{ exitCode: EXIT.refused, message: expect.stringMatching(/add --yes\.$/) as string },
    });
    expect((await promote({ which: 'treatment', yes: true }, null)).bodies).toEqual([
      { variant: 'treatment' },
    ]);
    // Nobody asks where a winner is proposed, or nothing changes for users.
    const proposal = { variant: 'treatment', at: 1, units: 300 };
    expect((await promote({}, false, { proposal })).bodies).toEqual([{}]);
    expect((await promote({ which: 'control' }, false)).bodies).toEqual([{ variant: 'control' }]);
  });

  it('points to the promotion when a winner is proposed', async () => {
    const server = serverOf(viewOf({}, { proposal: { variant: 'treatment', at: 1, units: 300 } }));
    expect((await graft('ramp', { name: NAME }, { server })).notes).toBe(
      'next: graft experiment promote support/intent',
    );
  });
});

describe('graft experiment change', () => {
  it('sends the edited document as the next version', async () => {
    const file = await fileOf({ ...DOCUMENT, coverage: 0.25 });
    const { out, asked, bodies } = await graft('change', { name: NAME, file, why: 'faster' });
    expect(asked.at(-1)).toBe(`PUT /admin/experiments/${ID}`);
    expect(bodies).toMatchObject([{ document: { version: 4, coverage: 0.25 }, why: 'faster' }]);
    expect(out).toContain('is ramping with 25 % of the units');
  });

  it('supports a dry run', async () => {
    const { out, bodies, notes } = await graft('change', { file: await fileOf(DOCUMENT), dryRun: true });
    expect(bodies).toMatchObject([{ dry_run: true }]);
    expect([out, notes]).toEqual(['dry run: document 4 would be accepted', '']);
  });

  it('needs a whole document', async () => {
    await expect(graft('change', { name: NAME })).rejects.toThrow(/--file/);
    const file = await fileOf({ ...DOCUMENT, seed: '' });
    await expect(graft('change', { name: NAME, file })).rejects.toThrow(/'seed': /);
  });
});
