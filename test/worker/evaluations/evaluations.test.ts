/** Kept evaluations through the whole app: rows, scores part by part, and whose they are. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  MAX_KEPT_EVALUATIONS,
  MAX_KEPT_EVALUATION_BYTES,
  MAX_KEPT_ROW_BYTES,
  MAX_KEPT_ROWS,
  SCORED_ROWS,
  type EvaluationList,
  type EvaluationScore,
  type EvaluationView,
  type KeptRows,
  type ScoredEvaluation,
} from '../../../protocol/admin-api/evaluations.ts';
import {
  EvaluateRequest,
  type EvaluationRow,
  type LabelledRow,
  type RowScore,
} from '../../../protocol/origin-wire.ts';
import { resealRows } from '../../../worker/evaluations/score.ts';
import { createTextSealer } from '../../../worker/platform/sealed-text.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const N = 'alice/notes';
const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });
const third = tinyAdapter({ seed: 3 });
/** An answer that must be stored nowhere as it is. */
const SECRET = 'the patient is well';

let graft: AppHarness;
let alice: string;
let bob: string;
/** Batches that the origin has answered: the adapter's first digits, and how many rows. */
let batches: string[];
/** How the origin scores a row with an adapter; exactly by default. */
let score: (digest: string, row: EvaluationRow) => RowScore;
/** … and a row with a label. */
let classify: (digest: string, row: LabelledRow) => RowScore;

const right: RowScore = { exact: true, nll: 0.5, tokens: 2 };
const wrong: RowScore = { exact: false, nll: 1, tokens: 4 };
const short = ({ digest }: { digest: string }): string => digest.slice(0, 8);

beforeEach(async () => {
  graft = await createAppHarness();
  batches = [];
  score = () => right;
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init, url) => {
    if (!path.endsWith('/evaluate')) return answer(method, path, init, url);
    const { chain = [], rows } = EvaluateRequest.parse(JSON.parse(init.body as string));
    const { digest = '' } = chain.at(-1) ?? {};
    batches.push(`${digest.slice(0, 8)} ${rows.length}`);
    return Response.json({
      rows: rows.map((row) => ('label' in row ? classify(digest, row) : score(digest, row))),
    });
  };
  alice = await makeKey('alice');
  bob = await makeKey('bob');
  for (const adapter of [first, second]) await publish(adapter);
});

async function makeKey(tenant: string): Promise<string> {
  const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant } });
  return ((await made.json()) as { key: string }).key;
}

async function publish({ bytes, digest }: typeof first, more: object = {}): Promise<void> {
  await upload({ bytes, digest });
  const body = { name: N, digest, ...more };
  expect((await graft.request('/admin/versions', { key: alice, body })).status).toBe(201);
}

async function upload({ bytes, digest }: Pick<typeof first, 'bytes' | 'digest'>): Promise<void> {
  const path = `/admin/blobs/${digest}`;
  const put = { method: 'PUT', key: alice, body: new Uint8Array(bytes) };
  expect((await graft.request(`${path}/parts/0`, put)).ok).toBe(true);
  const parts = [{ bytes: bytes.length, sha256: digest }];
  expect((await graft.request(path, { key: alice, body: { bytes: bytes.length, parts } })).ok).toBe(true);
}

const rowsOf = (count: number): EvaluationRow[] =>
  Array.from({ length: count }, (_, i) => ({ user: `question ${i}`, expected: `${SECRET} ${i}` }));

const add = (rows: (EvaluationRow | LabelledRow)[], label = 'holdout', key = alice) =>
  graft.request('/admin/evaluations', { key, body: { name: N, label, rows } });

async function read<T>(answered: Promise<Response>): Promise<T> {
  const response = await answered;
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${text}`);
  return JSON.parse(text) as T;
}

const list = (key = alice) => read<EvaluationList>(graft.request(`/admin/evaluations?name=${N}`, { key }));

const scorePage = (body: object = {}, key = alice) =>
  graft.request('/admin/evaluations/score', { key, body: { name: N, label: 'holdout', ...body } });

/** Until it is complete. */
async function scoreAll(body: object = {}): Promise<EvaluationScore> {
  for (;;) {
    const so = await read<EvaluationScore>(scorePage(body));
    if (so.scored === so.rows) return so;
  }
}

async function readBack(label = 'holdout', key = alice): Promise<KeptRows['rows']> {
  const rows: KeptRows['rows'] = [];
  for (let cursor: string | null = null; ;) {
    const more: string = cursor === null ? '' : `&cursor=${cursor}`;
    const page: KeptRows = await read(
      graft.request(`/admin/evaluations/rows?name=${N}&label=${label}${more}`, { key }),
    );
    rows.push(...page.rows);
    if (page.cursor === null) return rows;
    ({ cursor } = page);
  }
}

const dump = async (): Promise<string> => {
  const { results: tables } = await graft.db
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
    .all<{ name: string }>();
  const all = await Promise.all(tables.map(({ name }) => graft.db.prepare(`SELECT * FROM "${name}"`).all()));
  return JSON.stringify(all.map(({ results }) => results));
};

describe('the rows', () => {
  it('come back as they were sent, and are stored encrypted', async () => {
    const rows: EvaluationRow[] = [
      { prompt: 'raw\ntext', expected: SECRET },
      ...rowsOf(SCORED_ROWS * 2),
      { system: 'Be brief.', user: 'ö', expected: '✓' },
    ];
    const response = await add(rows);
    expect(response.status).toBe(201);
    const view = (await response.json()) as EvaluationView;
    const text = rows.map((row) => JSON.stringify(row)).join('\n');
    expect(view).toMatchObject({ label: 'holdout', rows: rows.length, bytes: Buffer.byteLength(text) });
    expect(await readBack()).toEqual(rows);
    expect(await dump()).not.toContain(SECRET);
    expect((await list()).evaluations).toEqual([view]);
    // The same again is no other evaluation.
    expect((await add(rows)).status).toBe(200);
  });

  it('are replaced by others of the same label, whose scores are none', async () => {
    await add(rowsOf(20));
    await scoreAll();
    expect((await list()).scores).toHaveLength(1);
    expect((await add(rowsOf(3))).status).toBe(201);
    expect(await readBack()).toEqual(rowsOf(3));
    expect(await list()).toMatchObject({ evaluations: [{ rows: 3 }], scores: [] });
    expect(await dump()).not.toContain('11111111111111111111');
    batches = [];
    expect(await scoreAll()).toMatchObject({ rows: 3, scored: 3, exact: 3 });
    expect(batches).toEqual([`${short(second)} 3`]);
  });

  it('are refused where they are too many, too long or no rows', async () => {
    const long = (bytes: number): EvaluationRow => ({
      prompt: 'x'.repeat(bytes - JSON.stringify({ prompt: '', expected: 'y' }).length),
      expected: 'y',
    });
    const statuses = async (...all: EvaluationRow[][]) =>
      Promise.all(all.map(async (rows) => (await add(rows)).status));
    expect(await statuses(rowsOf(MAX_KEPT_ROWS))).toEqual([201]);
    expect(await statuses([long(MAX_KEPT_ROW_BYTES)])).toEqual([201]);
    expect(
      await statuses([], rowsOf(MAX_KEPT_ROWS + 1), [{ prompt: 'a', user: 'b', expected: 'c' }]),
    ).toEqual([400, 400, 400]);
    expect(await statuses([long(MAX_KEPT_ROW_BYTES + 1)])).toEqual([413]);
    const eighth = MAX_KEPT_EVALUATION_BYTES / 8;
    const full = Array.from({ length: 8 }, (_, i) => long(i === 0 ? eighth : eighth - 1));
    expect(await statuses(full)).toEqual([201]);
    expect(await readBack()).toEqual(full);
    expect(await statuses([...full, { prompt: '', expected: 'y' }])).toEqual([413]);
    expect((await list()).evaluations).toMatchObject([{ bytes: MAX_KEPT_EVALUATION_BYTES }]);
    expect((await add(rowsOf(1), 'No label')).status).toBe(400);
  });

  it('are eight of a name at most, and none of an alias', async () => {
    for (let i = 0; i < MAX_KEPT_EVALUATIONS; i += 1)
      expect((await add(rowsOf(1), `e${i}`)).status).toBe(201);
    const ninth = await add(rowsOf(1), 'ninth');
    expect([ninth.status, await ninth.json()]).toMatchObject([
      429,
      { error: { code: 'insufficient_quota' } },
    ]);
    expect((await add(rowsOf(2), 'e0')).status).toBe(201);
    const remove = (label: string) =>
      graft.request(`/admin/evaluations?name=${N}&label=${label}`, { method: 'DELETE', key: alice });
    expect((await remove('e1')).status).toBe(204);
    expect((await remove('e1')).status).toBe(404);
    expect((await add(rowsOf(1), 'ninth')).status).toBe(201);
    await graft.request('/admin/alias', { key: alice, body: { name: 'alice/same', target: N } });
    const body = { name: 'alice/same', label: 'x', rows: rowsOf(1) };
    expect((await graft.request('/admin/evaluations', { key: alice, body })).status).toBe(409);
  });

  it('are encrypted with the new secret during a rotation', async () => {
    await add(rowsOf(40));
    const { evaluations } = graft.stores;
    const old = new Uint8Array(32).fill(3);
    const next = new Uint8Array(32).fill(4);
    const sealer = (secret: typeof old, accepted: (typeof old)[] = []) =>
      createTextSealer('graft-evaluation-v1', secret, accepted);
    const readWith = (evaluationSealer: ReturnType<typeof sealer>) =>
      evaluations.part({ name: N, label: 'holdout', first: 0 }).then(async (part) => {
        const { sha256 } = (await evaluations.get({ name: N, label: 'holdout' }))!;
        return evaluationSealer.open(`alice\n${N}\nholdout\n${sha256}\n0`, part!.sealed);
      });
    expect(await readWith(sealer(next))).toBeNull();
    await resealRows({ evaluations, evaluationSealer: sealer(next) });
    expect(await readWith(sealer(next))).toBeNull();
    const rotating = { evaluations, evaluationSealer: sealer(next, [old, next]) };
    await resealRows(rotating);
    expect(await readWith(sealer(next))).toContain(SECRET);
    const sealed = await dump();
    await resealRows(rotating);
    expect(await dump()).toBe(sealed);
    // Nothing is left to do.
    expect(await evaluations.sealedBy({ secrets: await sealer(old).secretIds(), limit: 9 })).toEqual([]);
    const unreadable = await scorePage();
    expect([unreadable.status, await unreadable.text()]).toEqual([
      404,
      expect.stringContaining('GRAFT_MAC_KEY'),
    ]);
  });
});

describe('a score', () => {
  it('grows part by part, and is asked for once', async () => {
    const rows = rowsOf(2 * SCORED_ROWS + 5);
    score = (_, { user }) => (user === 'question 3' || user === 'question 35' ? wrong : right);
    await add(rows);
    const steps = [];
    for (let i = 0; i < 4; i += 1) steps.push(await read<EvaluationScore>(scorePage()));
    expect(steps.map(({ scored, exact }) => [scored, exact])).toEqual([
      [16, 15],
      [32, 31],
      [37, 35],
      [37, 35],
    ]);
    expect(batches).toEqual([`${short(second)} 16`, `${short(second)} 16`, `${short(second)} 5`]);
    expect(steps.at(-1)).toMatchObject({ rows: 37, missed: [4, 36] });
    expect(steps.at(-1)?.mean_nll).toBeCloseTo((35 * 2 * 0.5 + 2 * 4 * 1) / (35 * 2 + 2 * 4), 12);
    expect(await read(scorePage({ again: true }))).toMatchObject({ scored: 16 });
  });

  it('is each version’s own, against the live one, and stays after a rollback', async () => {
    score = (digest, { user = '' }) => {
      const row = Number(user.split(' ')[1]);
      return digest === first.digest ? (row < 6 ? right : wrong) : row < 2 ? wrong : right;
    };
    await add(rowsOf(10));
    expect((await list()).scores).toEqual([]);
    await scoreAll();
    await scoreAll({ adapter: `${N}@1` });
    const { live, scores } = await list();
    expect(live).toBe(2);
    expect(scores.map(({ version, exact, against_live }) => ({ version, exact, against_live }))).toEqual([
      { version: 2, exact: 8, against_live: { better: 0, worse: 0 } },
      { version: 1, exact: 6, against_live: { better: 2, worse: 4 } },
    ]);
    await graft.request('/admin/rollback', { key: alice, body: { name: N } });
    batches = [];
    await scoreAll();
    expect(batches).toEqual([]);
    expect((await list()).scores).toMatchObject([
      { version: 2, against_live: { better: 4, worse: 2 } },
      { version: 1, against_live: { better: 0, worse: 0 } },
    ]);
  });

  it('of an uploaded file becomes that of the version which it is published as', async () => {
    await add(rowsOf(4));
    const early = await scorePage({ digest: third.digest });
    expect([early.status, await early.json()]).toMatchObject([422, { error: { reason: 'blob_missing' } }]);
    await upload(third);
    expect(await scoreAll({ digest: third.digest })).toMatchObject({ exact: 4 });
    expect((await list()).scores).toEqual([]);
    await publish(third, { stage: true });
    expect((await list()).scores).toMatchObject([{ version: 3, exact: 4, against_live: null }]);
    expect(batches).toEqual([`${short(third)} 4`]);
  });

  it('of a file that was never published is forgotten a day later', async () => {
    await add(rowsOf(2));
    await upload(third);
    await scoreAll({ digest: third.digest });
    graft.clock.advance(25 * 3_600_000);
    await scoreAll();
    const { results } = await graft.db.prepare('SELECT chain_id FROM evaluation_scores').all();
    expect(results).toHaveLength(1);
  });

  it('of two requests at once counts each row once', async () => {
    await add(rowsOf(40));
    const both = await Promise.all([scoreAll(), scoreAll()]);
    for (const one of both) expect(one).toMatchObject({ scored: 40, exact: 40 });
  });

  it('says which row cannot be scored, and why there is none', async () => {
    await add(rowsOf(20));
    score = (_, { user }) => (user === 'question 17' ? { error: 'It is too long.' } : right);
    await read(scorePage());
    const refused = await scorePage();
    expect([refused.status, await refused.json()]).toMatchObject([
      400,
      {
        error: { message: expect.stringContaining("Row 18 of 'holdout' cannot be scored. It is too long.") },
      },
    ]);
    expect((await list()).scores).toMatchObject([{ scored: 16 }]);
    graft.origin.answer = () => new Response('', { status: 503 });
    expect((await scorePage()).status).toBe(503);
    for (const [body, status] of [
      [{ adapter: `${N}@9` }, 404],
      [{ label: 'none' }, 404],
      [{ adapter: `${N}@1`, digest: third.digest }, 400],
      [{ parent: N }, 400],
    ] as const)
      expect([body, (await scorePage(body)).status]).toEqual([body, status]);
    await graft.request('/admin/retire', { key: alice, body: { name: N, version: 1 } });
    expect((await scorePage({ adapter: `${N}@1` })).status).toBe(409);
  });
});

describe('rows with labels', () => {
  const LABELS = ['no', 'yes', 'perhaps'];
  const labelled = (count: number): LabelledRow[] =>
    Array.from({ length: count }, (_, i) => ({ text: `${SECRET} ${i}`, label: LABELS[i % 3] ?? '' }));
  const classified = (row: LabelledRow, got: string): RowScore =>
    got === row.label ? { exact: true, nll: 0.2, tokens: 1 } : { exact: false, nll: 1.4, tokens: 1, got };

  beforeEach(() => {
    classify = (digest, row) => classified(row, digest === first.digest ? 'no' : row.label);
  });

  it('come back as they were sent, conversations too', async () => {
    const rows: LabelledRow[] = [
      ...labelled(2),
      { prompt: 'raw', label: '1' },
      { messages: [{ role: 'user', content: SECRET }], label: 'no' },
    ];
    expect((await add(rows)).status).toBe(201);
    expect(await readBack()).toEqual(rows);
    expect(await dump()).not.toContain(SECRET);
    expect((await list()).evaluations).toMatchObject([{ labelled: true, judge: null }]);
  });

  it.each([
    ['some rows without a label', [...labelled(2), ...rowsOf(1)], {}, 'rows.2.label'],
    ['a judge', labelled(1), { judge: 'base' }, 'judge'],
    ['an answer, too', [{ text: 'a', label: 'b', expected: 'c' }], {}, 'rows.0.expected'],
    ['a text without a label', [{ text: 'a' }], {}, 'rows.0.text'],
    ['two texts', [{ text: 'a', prompt: 'a', label: 'b' }], {}, 'rows.0'],
  ])('are refused with %s', async (_, rows, more, param) => {
    const body = { name: N, label: 'holdout', rows, ...more };
    const answer = await graft.request('/admin/evaluations', { key: alice, body });
    expect([answer.status, await answer.json()]).toMatchObject([400, { error: { param } }]);
  });

  it('give a version its accuracy, macro F1 and confusion, part by part, against the live one', async () => {
    // More than one request scores.
    await add(labelled(SCORED_ROWS + 2));
    classify = (digest, row) =>
      classified(row, digest === first.digest ? 'no' : row.label === 'perhaps' ? 'yes' : row.label);
    const live = (await scoreAll()) as ScoredEvaluation;
    expect(batches).toEqual([`${short(second)} 16`, `${short(second)} 2`]);
    expect(live).toMatchObject({ labelled: true, rows: 18, exact: 12 });
    expect(live.confusion).toEqual({
      labels: ['no', 'perhaps', 'yes'],
      counts: [
        [6, 0, 0],
        [0, 0, 6],
        [0, 0, 6],
      ],
    });
    // F1: 1 for no, 0 for perhaps, 2/3 for yes.
    expect(live.macro_f1).toBeCloseTo(5 / 9, 12);
    expect(live.mean_nll).toBeCloseTo((12 * 0.2 + 6 * 1.4) / 18, 12);
    await scoreAll({ adapter: `${N}@1` });
    const { scores } = await list();
    expect(scores).toMatchObject([
      { version: 2, exact: 12, macro_f1: live.macro_f1 },
      { version: 1, exact: 6, against_live: { better: 0, worse: 6 } },
    ]);
    expect(scores[1]?.macro_f1).toBeCloseTo(0.5 / 3, 12);
    for (const one of scores) expect(one).not.toHaveProperty('confusion');
  });

  it('pass on that the adapter has no head', async () => {
    await add(labelled(1));
    const error = {
      code: 'wrong_endpoint',
      message: 'This model has no classification head.',
      param: 'model',
    };
    graft.origin.answer = () => Response.json({ error }, { status: 400 });
    const refused = await scorePage();
    expect([refused.status, await refused.json()]).toMatchObject([400, { error }]);
  });

  it('are refused by a code of its own if the head lacks the label', async () => {
    await add(labelled(3));
    classify = (_, row) =>
      row.label === 'perhaps'
        ? { error: "The classifier has no class 'perhaps', but no, yes.", code: 'label_unknown' }
        : classified(row, row.label);
    const refused = await scorePage();
    expect([refused.status, await refused.json()]).toMatchObject([
      400,
      {
        error: {
          code: 'label_unknown',
          param: 'label',
          message: expect.stringContaining(
            "Row 3 of 'holdout' cannot be scored. The classifier has no class",
          ),
        },
      },
    ]);
    expect((await list()).scores).toEqual([]);
  });
});

describe('another tenant', () => {
  it('sees nothing of it, and the operator no row', async () => {
    await add(rowsOf(2));
    const paths = [`/admin/evaluations?name=${N}`, `/admin/evaluations/rows?name=${N}&label=holdout`];
    await graft.request('/admin/grants', { key: alice, body: { scope: 'alice/**', tenant: 'bob' } });
    for (const path of paths)
      expect([path, (await graft.request(path, { key: bob })).status]).toEqual([path, 404]);
    expect((await add(rowsOf(1), 'mine', bob)).status).toBe(404);
    expect((await scorePage({}, bob)).status).toBe(404);
    const removed = { method: 'DELETE', key: bob };
    expect((await graft.request(`/admin/evaluations?name=${N}&label=holdout`, removed)).status).toBe(404);
    const { adminKey: root } = graft;
    expect((await graft.request(paths[0]!, { key: root })).status).toBe(200);
    expect((await graft.request(paths[1]!, { key: root })).status).toBe(404);
  });

  it('takes the name after an erasure, and finds no evaluation', async () => {
    await add(rowsOf(30));
    await scoreAll();
    const erased = await read<{ erased: object }>(
      graft.request('/admin/erase', { key: alice, body: { name: N, cascade: true } }),
    );
    expect(erased.erased).toMatchObject({ evaluations: 1 });
    for (const table of ['evaluations', 'evaluation_rows', 'evaluation_scores'])
      expect((await graft.db.prepare(`SELECT * FROM ${table}`).all()).results, table).toEqual([]);
  });
});

describe('an erasure that has begun', () => {
  it('leaves what the name keeps since, however wrong a clock is', async () => {
    await add(rowsOf(20));
    await add(rowsOf(5), 'second');
    await scoreAll();
    const { erasures } = graft.stores;
    // By an isolate whose clock is late.
    const at = graft.clock.now() - 50_000;
    const target = { kind: 'name', target: N, owner: 'alice' } as const;
    const { id, counts } = await erasures.plan({ ...target, cascade: true, usage: false, at });
    expect(counts.evaluations).toBe(2);
    expect(await erasures.begin({ id, cascade: true, record: true, actor: 'bootstrap', at })).toBe(true);
    expect((await add(rowsOf(3))).status).toBe(404);
    await publish(third);
    expect(await list()).toMatchObject({ evaluations: [], scores: [] });
    expect((await scorePage()).status).toBe(404);
    expect((await add(rowsOf(4))).status).toBe(201);
    const erasure = (await erasures.get(id))!;
    const erased = await erasures.forgetNames(erasure, await erasures.names(erasure, 9), 1);
    expect(erased.evaluations).toBe(1);
    expect((await list()).evaluations).toMatchObject([{ label: 'holdout', rows: 4 }]);
    expect(await readBack()).toEqual(rowsOf(4));
    const { results } = await graft.db.prepare('SELECT label FROM evaluation_rows').all();
    expect(results).toEqual([{ label: 'holdout' }]);
  });
});

describe('a removed name', () => {
  const remove = () => graft.request('/admin/remove', { key: alice, body: { name: N } });
  const left = async () => (await graft.db.prepare('SELECT * FROM evaluation_rows').all()).results.length;

  it('has its evaluations again when it is restored', async () => {
    await add(rowsOf(30));
    await scoreAll();
    expect((await remove()).status).toBe(200);
    expect((await graft.request(`/admin/evaluations?name=${N}`, { key: alice })).status).toBe(404);
    expect((await graft.request('/admin/restore', { key: alice, body: { name: N } })).status).toBe(200);
    expect(await list()).toMatchObject({ evaluations: [{ rows: 30 }], scores: [{ exact: 30 }] });
  });

  it('loses them when it can no longer be restored', async () => {
    await add(rowsOf(30));
    await remove();
    await graft.schedule(() => undefined);
    expect(await left()).toBe(2);
    graft.clock.advance(8 * 24 * 3_600_000);
    await graft.schedule(() => undefined);
    expect(await left()).toBe(0);
  });
});

describe('an experiment with require_scores', () => {
  const make = async (): Promise<string> => {
    const variants = [
      { key: 'control', adapter: `${N}@1`, weight: 0.5 },
      { key: 'treatment', adapter: `${N}@2`, weight: 0.5 },
    ];
    const made = graft.request('/admin/experiments', { key: alice, body: { name: N, variants } });
    return (await read<{ id: string }>(made)).id;
  };
  const start = async (id: string, body: object = { require_scores: true }) => {
    const response = await graft.request(`/admin/experiments/${id}/start`, { key: alice, body });
    const { error } = (await response.json()) as { error?: { message: string; param: string } };
    return [response.status, error?.message];
  };

  it('starts only when every variant is scored and none is worse than control', async () => {
    const id = await make();
    expect(await start(id)).toEqual([409, expect.stringContaining('has no evaluations')]);
    await add(rowsOf(20));
    expect(await start(id)).toEqual([409, expect.stringContaining(`'${N}@1' has no complete score`)]);
    await scoreAll({ adapter: `${N}@1` });
    await read(scorePage({ adapter: `${N}@2` }));
    expect(await start(id)).toEqual([409, expect.stringContaining(`'${N}@2' has no complete score`)]);
    score = () => wrong;
    await scoreAll({ adapter: `${N}@2` });
    expect(await start(id)).toEqual([
      409,
      `'${N}@2' answers 16 of 20 rows of 'holdout' exactly, and control 20.`,
    ]);
    score = () => right;
    await read(scorePage({ adapter: `${N}@2`, again: true }));
    await scoreAll({ adapter: `${N}@2` });
    expect(await start(id)).toEqual([200, undefined]);
  });

  it('starts without, whatever the scores', async () => {
    expect(await start(await make(), {})).toEqual([200, undefined]);
  });
});
