/** `graft eval`'s arguments, and what is said before an experiment starts, against the real app. */
import { PassThrough } from 'node:stream';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { createApiClient, type ApiClient } from '../../../cli/api-client.ts';
import { listText, missedLines, parseEval } from '../../../cli/commands/eval.ts';
import { runAction } from '../../../cli/commands/experiment.ts';
import { confusionText, scoreTable } from '../../../cli/evaluations/score-evaluations.ts';
import { createOutput } from '../../../cli/output.ts';
import type { EvaluationList, VersionScore } from '../../../protocol/admin-api/evaluations.ts';
import { EvaluateRequest } from '../../../protocol/origin-wire.ts';
import { writtenTo } from '../../fixtures/written-to.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../../worker/app-harness.ts';

const N = 'support/intent';

describe('parseEval', () => {
  const plain = { version: null, file: '', label: null, judge: null, adapter: null, again: false };
  it.each([
    [{ action: N }, { action: 'score', name: N }],
    [{ action: `${N}@3` }, { action: 'score', name: N, version: 3 }],
    [
      { action: 'score', name: 'list' },
      { action: 'score', name: 'list' },
    ],
    [
      { action: 'list', name: N },
      { action: 'list', name: N },
    ],
    [
      { action: 'add', name: N, file: 'dir/Holdout.v2.jsonl', as: 'x' },
      { action: 'add', name: N, file: 'dir/Holdout.v2.jsonl', label: 'x' },
    ],
    [
      { action: 'add', name: N, file: 'dir/Rows.jsonl' },
      { action: 'add', name: N, file: 'dir/Rows.jsonl', label: 'rows' },
    ],
    [
      { action: 'add', name: N, file: 'tone.jsonl', judge: 'medicine' },
      { action: 'add', name: N, file: 'tone.jsonl', label: 'tone', judge: 'medicine' },
    ],
    [
      { action: N, again: true, as: 'x' },
      { action: 'score', name: N, label: 'x', again: true },
    ],
    [
      { action: N, adapter: 'other@2' },
      { action: 'score', name: N, adapter: 'other@2' },
    ],
  ])('reads %j', (args, wish) => {
    expect(parseEval(args)).toEqual({ ...plain, ...wish });
  });

  it.each([
    [{ action: 'list' }, 'Which name? For example graft eval list support/intent.'],
    [{ action: 'lits', name: N }, "'lits' is not one of add, list, show, remove, score. Did you mean"],
    [{ action: 'add', name: N }, 'Which rows? Give a file: graft eval add support/intent rows.jsonl.'],
    [{ action: 'add', name: N, file: '2024 rows.jsonl' }, "The label '2024 rows' must be 1 to 32 of"],
    [{ action: 'add', name: `${N}@2`, file: 'rows.jsonl' }, `'${N}@2'`],
    [{ action: 'show', name: N }, 'Which evaluation? Give its label with --as'],
    [{ action: 'list', name: N, file: 'x' }, "`graft eval list` takes no 'x'."],
    [{ action: 'list', name: N, again: true }, '--again is not a flag of `graft eval list`.'],
    [{ action: N, judge: 'base' }, '--judge is not a flag of `graft eval score`.'],
    [{ action: 'add', name: N, file: 'rows.jsonl', judge: 'Medicine@' }, "'Medicine"],
    [{ action: N, adapter: 'other' }, '--adapter other: give one version'],
    [{ action: `${N}@1`, adapter: 'other@2' }, '--adapter other@2: give one version'],
  ])('refuses %j', (args, message) => {
    expect(() => parseEval(args)).toThrow(message);
  });
});

describe('the table', () => {
  const HASH = 'a'.repeat(64);
  const score = (more: Partial<VersionScore>): VersionScore => ({
    ...{
      label: 'holdout',
      sha256: HASH,
      rows: 50,
      scored: 50,
      exact: 46,
      mean_nll: 0.3144,
      missed: [],
      at: 1,
    },
    ...{ judge: null, labelled: false, macro_f1: null, unclear: 0, version: 1 },
    ...{ against_live: { better: 0, worse: 0 } },
    ...more,
  });
  const list: EvaluationList = {
    name: N,
    live: 1,
    evaluations: [
      {
        ...{ label: 'holdout', rows: 50, bytes: 12_345, sha256: HASH, judge: null, labelled: false },
        ...{ created_at: 0, created_by: 'key_1' },
      },
    ],
    scores: [
      score({ version: 3, scored: 16, exact: 16, against_live: null }),
      score({ version: 2, exact: 48, against_live: { better: 3, worse: 1 } }),
      score({}),
    ],
  };

  it('has the macro F1 of classifiers, and which classes they confuse', () => {
    const scores = [score({ labelled: true, macro_f1: 0.87654 }), score({ label: 'text' })];
    const [head, ...rows] = scoreTable({ ...list, scores }, () => 'live').split('\n');
    expect(head).toMatch(/^VERSION +STATE +EVALUATION +RIGHT +95 % +AGAINST LIVE, POINTS +NLL +MACRO F1$/);
    expect(rows).toEqual([
      expect.stringMatching(/^1 +live +holdout +46 of 50 .* 0\.314 +0\.877$/),
      expect.stringMatching(/^1 +live +text +46 of 50 .* 0\.314 +-$/),
    ]);
    const confusion = confusionText({
      labels: ['no', 'yes'],
      counts: [
        [12, 1],
        [0, 9],
      ],
    });
    expect(confusion.split('\n')).toEqual([
      expect.stringMatching(/^LABEL +no +yes$/),
      expect.stringMatching(/^no +12 +1$/),
      expect.stringMatching(/^yes +0 +9$/),
    ]);
  });

  it('has shares with their intervals, and the difference from the live version', () => {
    const stateOf = (version: number) => (version === 1 ? 'live' : 'staged');
    expect(scoreTable(list, stateOf).split('\n').slice(1)).toEqual([
      expect.stringMatching(/^3 +staged +holdout +16 of 50 scored +- +- +0\.314$/),
      expect.stringMatching(
        /^2 +staged +holdout +48 of 50 \(96 %\) +87 to 99 % +\+4\.0 \(−5\.4 to \+14\.6\) +0\.314$/,
      ),
      expect.stringMatching(/^1 +live +holdout +46 of 50 \(92 %\) +81 to 97 % +- +0\.314$/),
    ]);
    expect(listText(list, stateOf)).toMatch(
      /^EVALUATION .*\nholdout +50 +13 kB +1970-01-01 00:00Z +key_1 +a{12}\n\n/,
    );
  });

  it('names the judges, if there are some', () => {
    const judge = 'medicine@2';
    const [kept] = list.evaluations;
    const judged = {
      ...list,
      evaluations: [kept!, { ...kept!, label: 'tone', judge }],
      scores: [score({ label: 'tone', judge, mean_nll: null }), score({})],
    };
    const [evaluations, scores] = listText(judged, String).split('\n\n');
    expect(evaluations).toMatch(/^EVALUATION +JUDGE +ROWS .*\nholdout +- +50 .*\ntone +medicine@2 +50 /);
    expect(scores?.split('\n')).toEqual([
      expect.stringMatching(/^VERSION +STATE +EVALUATION +JUDGE +EXACT OR ACCEPTED +95 % /),
      expect.stringMatching(/^1 +1 +tone +medicine@2 +46 of 50 \(92 %\) .* -$/),
      expect.stringMatching(/^1 +1 +holdout +- +46 of 50 \(92 %\) .* 0\.314$/),
    ]);
  });

  it('is followed by the rows that were missed', () => {
    const missed = [1, 2, 3, 4, 5, 6, 7];
    const rows = { missed, exact: 43 };
    expect(missedLines('a@2', score(rows))).toEqual([
      'a@2 differs from holdout in rows 1, 2, 3, 4, 5 and 2 more',
    ]);
    expect(missedLines('a@2', score({ ...rows, labelled: true }))).toEqual([
      'a@2 gives other classes than holdout in rows 1, 2, 3, 4, 5 and 2 more',
    ]);
    expect(missedLines('a@2', score({ ...rows, judge: 'base', unclear: 2 }))).toEqual([
      'base does not accept the answers of a@2 to holdout, rows 1, 2, 3, 4, 5 and 2 more',
      'base gave no clear verdict on 2 of them',
    ]);
    expect(missedLines('a@2', score({ exact: 50 }))).toEqual([]);
  });

  it('says what to do next where there is nothing', () => {
    const none = { ...list, evaluations: [], scores: [] };
    expect(listText(none, String)).toBe('no evaluations; add one: graft eval add support/intent rows.jsonl');
    expect(listText({ ...list, scores: [] }, String)).toContain('no scores; score the live version');
  });
});

describe('graft experiment start', () => {
  let graft: AppHarness;
  let client: ApiClient;
  /** Adapters whose answers are wrong. */
  let worse: string[];
  const first = tinyAdapter({ seed: 1 });
  const second = tinyAdapter({ seed: 2 });

  beforeEach(async () => {
    vi.spyOn(console, 'error').mockReturnValue(undefined);
    graft = await createAppHarness();
    worse = [];
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init, url) => {
      if (!path.endsWith('/evaluate')) return answer(method, path, init, url);
      const { chain = [], rows } = EvaluateRequest.parse(JSON.parse(init.body as string));
      const exact = !worse.includes(chain[0]?.digest ?? '');
      return Response.json({ rows: rows.map(() => ({ exact, nll: 1, tokens: 2 })) });
    };
    for (const adapter of [first, second]) expect((await graft.publish(N, adapter)).status).toBe(201);
    const fetchFn: typeof fetch = async (input, init) => {
      const { pathname, search } = new URL(String(input));
      const body = typeof init?.body === 'string' ? (JSON.parse(init.body) as unknown) : undefined;
      return graft.request(pathname + search, {
        method: init?.method ?? 'GET',
        ...(body === undefined ? {} : { body }),
      });
    };
    client = createApiClient({ url: 'http://edge.test', key: graft.adminKey, fetchFn });
    const rows = Array.from({ length: 20 }, (_, i) => ({ prompt: `row ${i}`, expected: 'x' }));
    const kept = await graft.request('/admin/evaluations', { body: { name: N, label: 'holdout', rows } });
    expect(kept.status).toBe(201);
    await action('create', { which: '@1' });
  });

  async function action(
    what: 'create' | 'start',
    flags: object = {},
  ): Promise<{ stdout: string; stderr: string }> {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const output = createOutput({ json: false, stdout, stderr });
    const given = { name: N, rawArgs: [], ...flags };
    await runAction(what, given, { output, connect: async () => client, ask: async () => null });
    return { stdout: writtenTo(stdout), stderr: writtenTo(stderr) };
  }

  it('scores the variants first, and warns of one that is worse', async () => {
    worse = [first.digest];
    const { stdout, stderr } = await action('start');
    expect(stdout).toContain('is running');
    expect(stderr).toContain(`control (${N}@2) answers 20 of 20 (100 %) of holdout exactly\n`);
    expect(stderr).toContain(
      `warning: treatment (${N}@1) answers 0 of 20 (0 %) of holdout exactly, control 20\n`,
    );
  });

  it('does not start with one that is worse where scores are required', async () => {
    worse = [first.digest];
    await expect(action('start', { requireScores: true })).rejects.toThrow(
      `'${N}@1' answers 0 of 20 rows of 'holdout' exactly, and control 20.`,
    );
    worse = [];
    await graft.request('/admin/evaluations/score', {
      body: { name: N, label: 'holdout', adapter: `${N}@1`, again: true },
    });
    expect((await action('start', { requireScores: true })).stdout).toContain('is running');
  });

  it('says why nothing was scored, and starts all the same unless scores are required', async () => {
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init, url) =>
      path.endsWith('/evaluate')
        ? Response.json({ rows: [{ error: 'It is too long.' }] })
        : answer(method, path, init, url);
    await graft.request('/admin/evaluations', {
      body: { name: N, label: 'holdout', rows: [{ prompt: 'long', expected: 'x' }] },
    });
    await expect(action('start', { requireScores: true })).rejects.toThrow('cannot be scored');
    const { stdout, stderr } = await action('start');
    expect(stdout).toContain('is running');
    expect(stderr).toMatch(
      /^warning: the variants are not all scored\. .*cannot be scored\. It is too long\./m,
    );
  });
});
