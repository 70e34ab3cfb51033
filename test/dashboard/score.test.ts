/** Scoring on the page: some rows a request, until all are scored, it is stopped, or a request fails. */
import { describe, expect, it } from 'vitest';
import { createClient } from '../../dashboard/api/client.ts';
import { scoreRows, type WantedScore } from '../../dashboard/api/score.ts';
import type { ScoreEvaluation } from '../../protocol/admin-api/evaluations.ts';

const A_REQUEST = 16;

/** An edge that has scored some rows. @param failing fails this request, counted from 1. */
function edge(before: Record<string, number> = {}, failing = 0) {
  const scored = new Map(Object.entries(before));
  const asked: string[] = [];
  const client = createClient('ga_x', (path, init) => {
    expect(path).toBe('/admin/evaluations/score');
    const { name, label, adapter } = JSON.parse(init?.body as string) as ScoreEvaluation;
    expect(name).toBe('a');
    const which = `${adapter} ${label}`;
    asked.push(which);
    if (asked.length === failing) {
      const error = { message: 'No origin answers.', code: 'origin_unavailable' };
      return Promise.resolve(Response.json({ error }, { status: 503 }));
    }
    const now = Math.min(40, (scored.get(which) ?? 0) + A_REQUEST);
    scored.set(which, now);
    return Promise.resolve(
      Response.json({
        ...{ label, sha256: 'a'.repeat(64), rows: 40, scored: now, exact: now },
        ...{ mean_nll: 1, missed: [], at: 1, judge: null, unclear: 0 },
        ...{ labelled: true, macro_f1: 1, confusion: { labels: ['yes'], counts: [[now]] } },
      }),
    );
  });
  return { client, asked };
}

const want = (version: number, label = 'easy', scored = 0): WantedScore => ({
  ...{ adapter: `a@${version}`, label, rows: 40, scored },
});

async function run(
  { client }: ReturnType<typeof edge>,
  wanted: readonly WantedScore[],
  isStopped = (): boolean => false,
) {
  const told: string[] = [];
  const answer = await scoreRows(client, {
    ...{ name: 'a', wanted, isStopped },
    onProgress: ({ done, total }) => told.push(`${done} of ${total}`),
  });
  return { answer, told };
}

describe('scoreRows', () => {
  it('repeats the request until each score is complete, and counts all rows', async () => {
    const server = edge();
    const { answer, told } = await run(server, [want(2), want(1)]);
    expect(server.asked).toEqual([
      ...Array<string>(3).fill('a@2 easy'),
      ...Array<string>(3).fill('a@1 easy'),
    ]);
    expect(told).toEqual(['0 of 80', '16 of 80', '32 of 80', '40 of 80', '56 of 80', '72 of 80', '80 of 80']);
    const complete = { scored: 40, macro_f1: 1, confusion: { labels: ['yes'], counts: [[40]] } };
    expect(answer).toMatchObject({ ok: true, value: [complete, complete] });
  });

  it('begins with what is scored already', async () => {
    const { told } = await run(edge({ 'a@2 easy': 32 }), [want(2, 'easy', 32), want(2, 'hard')]);
    expect(told).toEqual(['32 of 80', '40 of 80', '56 of 80', '72 of 80', '80 of 80']);
  });

  it('returns the failure, and goes on from there', async () => {
    const server = edge({}, 2);
    const failed = await run(server, [want(2)]);
    expect(failed.told).toEqual(['0 of 40', '16 of 40']);
    expect(failed.answer).toMatchObject({ ok: false, error: { code: 'origin_unavailable', status: 503 } });
    const again = await run(server, [want(2, 'easy', 16)]);
    expect(again.told).toEqual(['16 of 40', '32 of 40', '40 of 40']);
  });

  it('asks nothing more once it is stopped', async () => {
    const server = edge();
    const { answer } = await run(server, [want(2), want(1)], () => server.asked.length === 2);
    expect(answer).toEqual({ ok: true, value: null });
    expect(server.asked).toEqual(['a@2 easy', 'a@2 easy']);
  });

  it('asks nothing when nothing is missing', async () => {
    const server = edge();
    expect((await run(server, [])).answer).toEqual({ ok: true, value: [] });
    expect(server.asked).toEqual([]);
  });
});
