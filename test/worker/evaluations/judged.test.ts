/** Kept evaluations with a judge, through the whole app: who may judge, what it is asked, and what comes of it. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  JUDGED_ROWS,
  MAX_JUDGED_TOKENS,
  type EvaluationList,
  type EvaluationScore,
  type EvaluationView,
  type KeptRow,
  type KeptRows,
} from '../../../protocol/admin-api/evaluations.ts';
import type { OriginRequest } from '../../../protocol/origin-wire.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const N = 'alice/notes';
const CRITIC = 'alice/critic';
const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });
const critic = tinyAdapter({ seed: 3 });
const other = tinyAdapter({ seed: 4 });

let graft: AppHarness;
let alice: string;
let bob: string;
/** What the origin was asked, in order; `base` = no adapter. */
let asked: { who: string; request: OriginRequest['request']; text: string; tenant: string }[];
/** What a version says to a question, and the judge to an answer. */
let says: (who: string, text: string) => string | Response;

const NAMES = new Map([first, second, critic, other].map(({ digest }, i) => [digest, String(i + 1)]));

beforeEach(async () => {
  graft = await createAppHarness();
  asked = [];
  says = (who, text) => {
    if (who === '1' || who === '2') return `answer of ${who} to ${text}`;
    return text.includes('answer of 2') || text.includes('row 0\n') ? 'yes' : 'no';
  };
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init, url) => {
    if (!path.startsWith('/v1/')) return answer(method, path, init, url);
    const { request, graft: directive } = JSON.parse(init.body as string) as OriginRequest;
    const who = NAMES.get(directive.chain.at(-1)?.digest ?? '') ?? 'base';
    const { messages } = request as { messages: { content: string }[] };
    const text = messages.at(-1)?.content ?? '';
    asked.push({ who, request, text, tenant: directive.tenant });
    const said = says(who, text);
    if (typeof said !== 'string') return said;
    const choices = [{ index: 0, message: { role: 'assistant', content: said }, finish_reason: 'stop' }];
    return Response.json({ choices });
  };
  alice = await makeKey('alice');
  bob = await makeKey('bob');
  for (const adapter of [first, second]) await publish(N, adapter);
  await publish(CRITIC, critic);
});

async function makeKey(tenant: string): Promise<string> {
  const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant } });
  return ((await made.json()) as { key: string }).key;
}

const publish = async (name: string, adapter: typeof first): Promise<void> => {
  const published = await graft.publish(name, adapter, { owner: 'alice' });
  expect(published.status, await published.clone().text()).toBe(201);
};

const rowsOf = (count: number): KeptRow[] => Array.from({ length: count }, (_, i) => ({ user: `row ${i}` }));

const add = (judge: string | null, rows = rowsOf(2), { name = N, key = alice } = {}) =>
  graft.request('/admin/evaluations', { key, body: { name, label: 'tone', rows, judge } });

async function read<T>(answered: Promise<Response>): Promise<T> {
  const response = await answered;
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text}`);
  return JSON.parse(text) as T;
}

const problem = async (answered: Promise<Response>): Promise<unknown[]> => {
  const response = await answered;
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  return [response.status, error.code, error.message];
};

const list = () => read<EvaluationList>(graft.request(`/admin/evaluations?name=${N}`, { key: alice }));

const scorePage = (body: object = {}, key = alice) =>
  graft.request('/admin/evaluations/score', { key, body: { name: N, label: 'tone', ...body } });

const refusal = (code: string, status: number): Response =>
  Response.json({ error: { code, message: 'It has 9,000 tokens.', type: 'x' } }, { status });

/** Until it is complete. */
async function scoreAll(body: object = {}): Promise<EvaluationScore> {
  for (;;) {
    const so = await read<EvaluationScore>(scorePage(body));
    if (so.scored === so.rows) return so;
  }
}

describe('an evaluation with a judge', () => {
  it('keeps the judge as the version that it is now', async () => {
    const rows = [{ user: 'a' }, { system: 's', user: 'b', expected: 'c' }];
    const kept = await read<EvaluationView>(add(CRITIC, rows));
    expect(kept).toMatchObject({ rows: 2, judge: `${CRITIC}@1` });
    expect((await list()).evaluations).toEqual([kept]);
    const back = graft.request(`/admin/evaluations/rows?name=${N}&label=tone`, { key: alice });
    expect((await read<KeptRows>(back)).rows).toEqual(rows);
    expect((await add(`${CRITIC}@1`, rows)).status).toBe(200);
    // Another judge is another evaluation.
    await scoreAll();
    expect((await list()).scores).toHaveLength(1);
    await publish(CRITIC, other);
    const next = await read<EvaluationView>(add(CRITIC, rows));
    expect(next).toMatchObject({ bytes: kept.bytes, judge: `${CRITIC}@2` });
    expect(next.sha256).not.toBe(kept.sha256);
    expect((await list()).scores).toEqual([]);
    expect(await read(add('base', rows))).toMatchObject({ judge: 'base' });
  });

  it.each<[string | null, KeptRow, string]>([
    [null, { user: 'a' }, 'rows.0.expected'],
    ['base', { prompt: 'a', expected: 'b' }, 'rows.0.user'],
    ['base', { user: 'a', expected: '' }, 'rows.0.expected'],
    ['Base', { user: 'a' }, 'judge'],
    ['alice/critic@0', { user: 'a' }, 'judge'],
  ])('is refused: judge %j, %j', async (judge, row, param) => {
    const response = await add(judge, [row]);
    expect([response.status, await response.json()]).toMatchObject([400, { error: { param } }]);
  });

  it('has a judge that its owner may use', async () => {
    const missing = [404, 'model_not_found', expect.stringContaining("The judge 'alice/nobody'")];
    expect(await problem(add('alice/nobody'))).toEqual(missing);
    const mine = tinyAdapter({ seed: 9 });
    expect((await graft.publish('bob/notes', mine, { owner: 'bob' })).status).toBe(201);
    const ask = () => add(CRITIC, rowsOf(1), { name: 'bob/notes', key: bob });
    const unknown = [404, 'model_not_found', expect.stringContaining(`The judge '${CRITIC}'`)];
    expect(await problem(ask())).toEqual(unknown);
    await graft.request('/admin/grants', { key: alice, body: { scope: 'alice/**', tenant: 'bob' } });
    expect((await ask()).status).toBe(201);
    await publish(CRITIC, other);
    await graft.request('/admin/retire', { key: alice, body: { name: CRITIC, version: 1 } });
    const retired = [409, 'version_conflict', expect.stringContaining(`The judge '${CRITIC}@1' is retired`)];
    expect(await problem(add(`${CRITIC}@1`))).toEqual(retired);
  });
});

describe('a judged score', () => {
  it('counts the answers that the judge accepts, some rows a request', async () => {
    await add(CRITIC, rowsOf(JUDGED_ROWS + 2));
    const page = await read<EvaluationScore>(scorePage({ adapter: `${N}@1` }));
    expect(page).toMatchObject({ scored: JUDGED_ROWS, exact: 1 });
    expect(asked.map(({ who }) => who).sort()).toEqual([
      ...Array.from({ length: JUDGED_ROWS }, () => '1'),
      ...Array.from({ length: JUDGED_ROWS }, () => '3'),
    ]);
    const old = await scoreAll({ adapter: `${N}@1` });
    expect(old).toMatchObject({ judge: `${CRITIC}@1`, rows: 6, exact: 1, unclear: 0, mean_nll: null });
    expect(old.missed).toEqual([2, 3, 4, 5, 6]);
    expect(await scoreAll()).toMatchObject({ exact: 6, missed: [] });
    expect((await list()).scores).toMatchObject([
      { version: 2, judge: `${CRITIC}@1`, against_live: { better: 0, worse: 0 } },
      { version: 1, judge: `${CRITIC}@1`, against_live: { better: 0, worse: 5 } },
    ]);
    const before = asked.length;
    await scoreAll();
    expect(asked).toHaveLength(before);
  });

  it('is greedy, of bounded answers, and the judge can only say yes or no', async () => {
    const rows = [
      { system: 'Be brief.', user: 'row 1' },
      { user: 'row 2', expected: 'SECOND' },
    ];
    await add('base', rows);
    await scoreAll({ adapter: `${N}@1` });
    const [answers, verdicts] = [
      asked.filter(({ who }) => who === '1'),
      asked.filter(({ who }) => who === 'base'),
    ];
    // Rows are asked at once: the second may come first.
    answers.sort((a, b) => a.text.localeCompare(b.text));
    expect(answers.map(({ request }) => request)).toMatchObject([
      {
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'row 1' },
        ],
        temperature: 0,
        max_tokens: MAX_JUDGED_TOKENS,
      },
      { messages: [{ role: 'user', content: 'row 2' }] },
    ]);
    for (const { request, tenant } of verdicts) {
      expect(request).toMatchObject({ temperature: 0, structured_outputs: { choice: ['yes', 'no'] } });
      expect(tenant).toBe('alice');
    }
    expect(verdicts.map(({ text }) => text).sort()).toEqual([
      '[Conversation]\nsystem: Be brief.\n\nuser: row 1\n\n[Answer]\nanswer of 1 to row 1\n\nIs the answer good, yes or no?',
      '[Conversation]\nuser: row 2\n\n[Reference answer]\nSECOND\n\n[Answer]\nanswer of 1 to row 2\n\n' +
        'Is the answer good, yes or no?',
    ]);
    // Neither questions nor answers are stored as they are.
    const stored = await graft.db.prepare('SELECT * FROM evaluation_rows').all();
    expect(JSON.stringify(stored)).not.toContain('SECOND');
  });

  it('counts an unclear verdict as not accepted, and says so', async () => {
    await add('base', rowsOf(4));
    const usual = says;
    says = (who, text) =>
      who === 'base' && text.includes('row 2')
        ? 'Yes, very good.'
        : who === 'base'
          ? ' yes\n'
          : usual(who, text);
    expect(await scoreAll()).toMatchObject({ exact: 3, unclear: 1, missed: [3] });
  });

  it('of an uploaded file is that of the version which it becomes', async () => {
    await add('base', rowsOf(2));
    says = (who) => (who === 'base' ? 'yes' : 'fine');
    const { digest, bytes } = other;
    const path = `/admin/blobs/${digest}`;
    const put = { method: 'PUT', key: alice, body: new Uint8Array(bytes) };
    expect((await graft.request(`${path}/parts/0`, put)).ok).toBe(true);
    const parts = [{ bytes: bytes.length, sha256: digest }];
    expect((await graft.request(path, { key: alice, body: { bytes: bytes.length, parts } })).ok).toBe(true);
    expect(await scoreAll({ digest })).toMatchObject({ exact: 2 });
    const body = { name: N, digest, stage: true };
    expect((await graft.request('/admin/versions', { key: alice, body })).status).toBe(201);
    expect((await list()).scores).toMatchObject([{ version: 3, exact: 2 }]);
  });

  it('counts an answer that is too long for the judge as not accepted', async () => {
    await add('base', rowsOf(2));
    const usual = says;
    says = (who, text) =>
      who === 'base' && text.includes('row 1') ? refusal('context_length_exceeded', 400) : usual(who, text);
    expect(await scoreAll()).toMatchObject({ exact: 1, unclear: 1, missed: [2] });
  });

  it('keeps nothing of rows that fail, and names one that is too long', async () => {
    await add('base', rowsOf(JUDGED_ROWS + 1));
    await read(scorePage());
    const usual = says;
    says = (who, text) => (who === '2' ? refusal('context_length_exceeded', 400) : usual(who, text));
    expect(await problem(scorePage())).toEqual([
      400,
      'invalid_request',
      "Row 5 of 'tone' cannot be scored. It has 9,000 tokens. Correct it, and add the evaluation again.",
    ]);
    says = (who, text) => (who === 'base' ? refusal('queue_full', 429) : usual(who, text));
    expect((await scorePage()).status).toBe(429);
    says = () => Response.json({ choices: [] });
    expect((await scorePage()).status).toBe(503);
    expect((await list()).scores).toMatchObject([{ scored: JUDGED_ROWS }]);
    says = usual;
    expect(await scoreAll()).toMatchObject({ scored: 5, exact: 5 });
  });
});

describe('a judge that is gone', () => {
  const again = 'Add the evaluation again with another judge.';

  it('by removal stops scoring, and nothing else', async () => {
    await add(CRITIC, rowsOf(JUDGED_ROWS + 1));
    await read(scorePage());
    const removed = await graft.request('/admin/remove', { key: alice, body: { name: CRITIC } });
    expect(removed.status).toBe(200);
    expect(await problem(scorePage())).toEqual([404, 'model_not_found', expect.stringContaining(again)]);
    expect(await list()).toMatchObject({
      evaluations: [{ judge: `${CRITIC}@1` }],
      scores: [{ scored: JUDGED_ROWS }],
    });
    await graft.request('/admin/restore', { key: alice, body: { name: CRITIC } });
    expect(await scoreAll()).toMatchObject({ scored: JUDGED_ROWS + 1 });
  });

  it('by retirement, too', async () => {
    await add(CRITIC);
    await publish(CRITIC, other);
    await graft.request('/admin/retire', { key: alice, body: { name: CRITIC, version: 1 } });
    expect(await problem(scorePage())).toEqual([
      409,
      'version_conflict',
      `The judge '${CRITIC}@1' is retired, or depends on an adapter that is. ${again}`,
    ]);
  });

  it('is not replaced by another adapter that gets its name and number after an erasure', async () => {
    await add(CRITIC);
    await read(graft.request('/admin/erase', { key: alice, body: { name: CRITIC, cascade: true } }));
    expect((await list()).evaluations).toMatchObject([{ judge: `${CRITIC}@1` }]);
    await publish(CRITIC, other);
    expect(await problem(scorePage())).toEqual([
      409,
      'version_conflict',
      `The judge '${CRITIC}@1' is another adapter now. ${again}`,
    ]);
    expect(asked).toEqual([]);
  });

  it('is asked for nobody whose grant has ended', async () => {
    await graft.publish('bob/notes', tinyAdapter({ seed: 9 }), { owner: 'bob' });
    const grant = { scope: 'alice/**', tenant: 'bob' };
    await read(graft.request('/admin/grants', { key: alice, body: grant }));
    expect((await add(CRITIC, rowsOf(1), { name: 'bob/notes', key: bob })).status).toBe(201);
    const ended = graft.request(`/admin/grants?scope=${encodeURIComponent('alice/**')}&tenant=bob`, {
      method: 'DELETE',
      key: alice,
    });
    expect((await ended).ok).toBe(true);
    const refused = await problem(scorePage({ name: 'bob/notes' }, bob));
    expect(refused).toEqual([404, 'model_not_found', expect.stringContaining(`The judge '${CRITIC}@1'`)]);
    expect(asked).toEqual([]);
  });
});

it('lets no experiment start with a variant that the judge accepts less often', async () => {
  await add('base', rowsOf(5));
  const variants = [
    { key: 'control', adapter: `${N}@2`, weight: 0.5 },
    { key: 'treatment', adapter: `${N}@1`, weight: 0.5 },
  ];
  const made = graft.request('/admin/experiments', { key: alice, body: { name: N, variants } });
  const { id } = await read<{ id: string }>(made);
  for (const version of [1, 2]) await scoreAll({ adapter: `${N}@${version}` });
  const start = graft.request(`/admin/experiments/${id}/start`, {
    key: alice,
    body: { require_scores: true },
  });
  expect(await problem(start)).toEqual([
    409,
    'version_conflict',
    `'${N}@1' has 1 of 5 rows of 'tone' accepted by base, and control 5.`,
  ]);
});
