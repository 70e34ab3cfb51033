/** `graft improve` through the real app, with a program in place of the one that trains. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { parseCanonical, writePeftAdapter } from '../../../adapters/index.ts';
import { createApiClient } from '../../../cli/api-client.ts';
import { CliError } from '../../../cli/cli-error.ts';
import { mayTrain, rememberConsent } from '../../../cli/improve/consent.ts';
import {
  checkEnough,
  improve,
  type Improved,
  type ImproveParams,
  prepare,
} from '../../../cli/improve/improve-name.ts';
import { newRows, promptsOf, rowsText } from '../../../cli/improve/rows-text.ts';
import { createOutput } from '../../../cli/output.ts';
import { readTrainingRequest } from '../../../cli/train/training-flags.ts';
import { ExperimentView } from '../../../protocol/admin-api/experiments.ts';
import { VerifyRequest } from '../../../protocol/origin-wire.ts';
import { fakeVerification } from '../../fakes/fake-trials.ts';
import { TINY_BASE, tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { writtenTo } from '../../fixtures/written-to.ts';
import { type AppHarness, createAppHarness } from '../../worker/app-harness.ts';
import { LATER_MS, makeKey } from '../../worker/experiments/experiment-rig.ts';

const PROGRAM = path.join(import.meta.dirname, '../train/fake-training.mjs');
const BASE_BYTES = 'the bytes of a base';
const SERVED = { ...TINY_BASE, digest: createHash('sha256').update(BASE_BYTES).digest('hex') };
const NAME = 'acme/notes';
const SETTINGS = {
  ...{ rank: '2', targets: 'q', epochs: '3', 'least-steps': '60', 'max-length': '1024' },
  ...{ val: '0.1', seed: '0', beta: '0.1' },
};

let folder: string;
let graft: AppHarness;
let key: string;
let says: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-improve-'));
  vi.stubEnv('GRAFT_CACHE', path.join(folder, 'cache'));
  await writeFile(path.join(folder, 'Tiny-Base.gguf'), BASE_BYTES);
  await mkdir(path.join(folder, 'trained'));
  await trainsTo(5);
  vi.spyOn(console, 'error').mockReturnValue(undefined);
  graft = await createAppHarness();
  const { answer } = graft.origin;
  graft.origin.answer = (method, where, init, url) => {
    if (where === '/base') return Response.json(SERVED);
    if (where.startsWith('/v1/'))
      return Response.json({ choices: [{ index: 0, message: { content: says } }] });
    if (!where.endsWith('/verify')) return answer(method, where, init, url);
    const { chain = [], expected } = VerifyRequest.parse(JSON.parse(init.body as string));
    return Response.json(fakeVerification({ base: SERVED, chain, expected }));
  };
  expect((await graft.publish(NAME, tinyAdapter({ seed: 1 }))).status).toBe(201);
  key = (await makeKey(graft, { keep_prompts: 24, improve: true })).key;
  graft.clock.advance(LATER_MS);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

/** What the program will have trained. */
async function trainsTo(seed: number): Promise<void> {
  const { modules } = parseCanonical(tinyAdapter({ seed }).bytes);
  const { configJson, safetensors } = writePeftAdapter({ modules, baseModel: SERVED.id });
  await writeFile(path.join(folder, 'trained/adapter_config.json'), configJson);
  await writeFile(path.join(folder, 'trained/adapter_model.safetensors'), safetensors);
}

/** Users who prefer the first of two answers. */
async function decide(from: number, to: number): Promise<void> {
  for (let user = from; user < to; user += 1) {
    const ids: string[] = [];
    for (says of [`good ${user}`, 'bad']) {
      const body = { model: NAME, user: `u${user}`, messages: [{ role: 'user', content: `secret ${user}` }] };
      const response = await graft.request('/v1/chat/completions', { key, body });
      await response.text();
      ids.push(response.headers.get('x-request-id') ?? '');
    }
    await graft.settled();
    graft.clock.advance(1);
    const body = { chosen: ids[0], rejected: ids[1] };
    expect((await graft.request('/v1/preferences', { key, body })).status).toBe(200);
  }
}

interface Run {
  plays?: string;
  madeFromPrompts?: boolean;
  holders?: boolean;
}

/** @returns what it came to, what it asked, and the rows that the program got. */
async function run({ plays = 'well', madeFromPrompts = false, holders = false }: Run = {}) {
  const stderr = Object.assign(new PassThrough(), { isTTY: false });
  const record = path.join(folder, 'record.json');
  const asked: string[] = [];
  const fetchFn: typeof fetch = async (input, init) => {
    const { pathname, search } = new URL(String(input));
    const { body } = init ?? {};
    return graft.request(pathname + search, {
      method: init?.method ?? 'GET',
      body: typeof body === 'string' ? (JSON.parse(body) as unknown) : (body as Uint8Array | undefined),
    });
  };
  const params: ImproveParams = {
    wish: {
      ...{ name: NAME, madeFromPrompts, out: null, base: path.join(folder, 'Tiny-Base.gguf') },
      ...{ validation: null, weights: null, provider: 'auto', threads: null, why: null },
      request: readTrainingRequest(SETTINGS),
    },
    client: createApiClient({ url: 'http://edge.test', key: graft.adminKey, fetchFn }),
    output: createOutput({ json: false, stdout: new PassThrough(), stderr }),
    signal: new AbortController().signal,
    program: [PROGRAM, '--adapter', path.join(folder, 'trained'), '--record', record, '--plays', plays],
    env: process.env,
    again: 'graft improve acme/notes',
    confirm: async (question) => asked.push(question) > 0,
    confirmHolders: async (question) => asked.push(question) > 0 && holders,
    async propose({ version }) {
      const variants = [1, version].map((n, i) => ({
        ...{ key: i === 0 ? 'control' : 'treatment', adapter: `${NAME}@${n}`, weight: 0.5 },
      }));
      const made = await graft.request('/admin/experiments', { body: { name: NAME, variants } });
      return { view: ExperimentView.parse(await made.json()), text: 'a plan' };
    },
  };
  let improved: Improved | null = null;
  let error: CliError | null = null;
  try {
    const prepared = await prepare(params);
    checkEnough(prepared);
    improved = await improve(params, prepared);
  } catch (thrown) {
    if (!(thrown instanceof CliError)) throw thrown;
    error = thrown;
  }
  const given = await readFile(record, 'utf8').then(
    (text) => JSON.parse(text) as Record<string, string>,
    () => null,
  );
  return { improved, error, asked, given, shown: writtenTo(stderr) };
}

const left = (): Promise<string[]> => readdir(path.join(folder, 'cache/improve')).catch(() => []);

it('trains on new rows, as the next version, and leaves no text behind', async () => {
  await decide(0, 19);
  expect((await run()).error).toMatchObject({ code: 'too_few_rows', exitCode: 5 });
  await decide(19, 25);
  const { improved, asked, given, shown } = await run();
  expect(asked).toEqual([`Train the next version of ${NAME} on these 25 rows, on top of ${NAME}@1?`]);
  expect(shown).toContain(`${NAME}: 25 rows of 25 users, 25 decided by users and 0 by judges`);
  expect(shown).toContain('  user: secret 0\n  assistant: good 0\n');
  expect(JSON.parse(given!['settings']!)).toMatchObject({ continues: true, rank: 2 });
  expect(JSON.parse(given!['chain']!)).toHaveLength(1);
  expect(improved).toMatchObject({
    trained: {
      published: { version: { version: 2, live: false, training: { prompts: { rows: 25, users: 25 } } } },
    },
    experiment: { document: { status: 'draft' } },
  });
  expect(JSON.stringify(improved)).not.toMatch(/secret|good \d/);
  expect(await left()).toEqual([]);
  // The draft decides first.
  expect((await run()).error).toMatchObject({ code: 'version_conflict' });
});

it('counts rows since the live version, and archives the experiment that decided it', async () => {
  await decide(0, 20);
  const { improved } = await run();
  const { id } = improved!.experiment;
  for (const [step, body] of [
    ['start', {}],
    ['promote', { variant: 'treatment' }],
  ] as const) {
    const done = await graft.request(`/admin/experiments/${id}/${step}`, { body });
    expect(done.status, await done.text()).toBe(200);
  }
  await decide(20, 30);
  const few = await run();
  expect(few.error?.message).toMatch(/^10 new rows since acme\/notes@2: at least 20 are needed/);
  expect(few.shown).toContain('30 rows of 30 users');
  await decide(30, 40);
  await trainsTo(6);
  const next = await run();
  expect(next.improved?.trained.published?.version).toMatchObject({ version: 3 });
  const { document } = ExperimentView.parse(await (await graft.request(`/admin/experiments/${id}`)).json());
  expect(document.status).toBe('archived');
});

it('asks before those who hold a grant get what was made from prompts', async () => {
  await graft.request('/admin/grants', { body: { scope: 'acme/**', tenant: 'guest' } });
  await decide(0, 20);
  const refused = await run();
  expect(refused).toMatchObject({ improved: null, error: null, given: null });
  expect(refused.asked[1]).toMatch(/'guest' may use 'acme\/notes' by a grant/);
  expect((await run({ holders: true })).improved).not.toBeNull();
});

it('keeps the checkpoint of a training that was stopped, and goes on from it with the same command', async () => {
  await decide(0, 20);
  const { error } = await run({ plays: 'runs-out-of-memory' });
  expect(error?.message).toContain('graft improve acme/notes');
  expect(await left()).toEqual([]);
  const { given, improved } = await run();
  expect(given).toHaveProperty('resume', true);
  expect(improved).not.toBeNull();
});

it('remembers --yes for one name of one server, until it is taken back', async () => {
  const env = { XDG_CONFIG_HOME: path.join(folder, 'config') };
  const of = { server: 'https://a.example.com', name: NAME };
  expect(await mayTrain(env, of)).toBe(false);
  await rememberConsent(env, { ...of, yes: true });
  await rememberConsent(env, { ...of, name: 'other', yes: true });
  expect(await mayTrain(env, of)).toBe(true);
  for (const other of [{ name: 'acme' }, { server: 'https://b.example.com' }])
    expect(await mayTrain(env, { ...of, ...other })).toBe(false);
  await rememberConsent(env, { ...of, yes: false });
  expect(await mayTrain(env, of)).toBe(false);
  expect(await mayTrain(env, { ...of, name: 'other' })).toBe(true);
  // Without a home folder nothing is remembered, and it is asked each time.
  await rememberConsent({}, { ...of, yes: true });
  expect(await mayTrain({}, of)).toBe(false);
  await writeFile(path.join(folder, 'config/graft/improve.json'), '[]');
  await expect(mayTrain(env, of)).rejects.toMatchObject({ code: 'consent_invalid' });
});

it('shows both answers of a row, shortened and without control characters', () => {
  const row = {
    input: { messages: [{ role: 'user', content: `a\u001b[2Jb\n${'x'.repeat(500)}` }] },
    preferred_output: [{ role: 'assistant', content: 'yes' }],
    non_preferred_output: [{ role: 'assistant', content: 'no' }],
  };
  const rows = {
    ...{ name: NAME, method: 'dpo' as const, users: 1 },
    rows: [1, 2, 3, 4].map((at) => ({ at, by: at === 4 ? ('judge' as const) : ('user' as const), row })),
    left_out: [{ why: 'share' as const, count: 7 }],
  };
  const text = rowsText(rows, 2);
  expect(text).toMatch(/4 rows of 1 users, 3 decided by users and 1 by judges/);
  expect(text).toContain('left out 7: more than 1 % of the rows of one user\n');
  expect(text).toContain('  better: yes\n  worse: no\n');
  expect(text).toContain('… and 1 more');
  expect(text).not.toContain('\u001b');
  expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThan(200);
  expect(promptsOf(rows)).toEqual({ rows: 4, users: 1, by_users: 3, by_judges: 1, from: 1, to: 4 });
  expect(promptsOf({ ...rows, rows: [] })).toBeUndefined();
  expect(newRows(rows, { prompts: { ...promptsOf(rows)!, to: 2 } })).toBe(2);
  expect(newRows(rows, null)).toBe(4);
});
