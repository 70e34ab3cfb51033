import { describe, expect, it } from 'vitest';
import { ScoredRows } from '../../../protocol/origin-wire.ts';
import { createApiClient } from '../../../cli/api-client.ts';
import { EXIT } from '../../../cli/cli-error.ts';
import {
  batches,
  evaluateUpload,
  failedText,
  refuseLowScore,
  scoreText,
} from '../../../cli/publish/evaluate-upload.ts';

const rowsOf = (count: number, text = 'x') =>
  Array.from({ length: count }, (_, i) => ({
    line: i + 1,
    row: { prompt: text, expected: `answer ${i + 1}` },
  }));

interface Body {
  digest: string;
  parent?: string;
  rows: { expected: string }[];
}

function evaluate(score: (expected: string) => unknown, count = 40, parent: string | null = null) {
  const bodies: Body[] = [];
  const progress: number[] = [];
  const client = createApiClient({
    url: 'http://edge',
    key: 'ga_x',
    fetchFn: async (_input, init) => {
      const body = JSON.parse(String(init?.body)) as Body;
      ScoredRows.parse(body.rows);
      bodies.push(body);
      return Response.json({ rows: body.rows.map(({ expected }) => score(expected)) });
    },
  });
  const done = evaluateUpload({
    client,
    digest: 'd'.repeat(64),
    parent,
    rows: { rows: rowsOf(count), sha256: 's' },
    onProgress: (rows) => progress.push(rows),
  });
  return { done, bodies, progress };
}

describe('batches', () => {
  it('keep the order, at most 16 rows and the bytes of a request', () => {
    const rows = rowsOf(40);
    expect(batches(rows).map((batch) => batch.length)).toEqual([16, 16, 8]);
    expect(batches(rows).flat()).toEqual(rows);
    const long = batches(rowsOf(5, 'x'.repeat(200_000)));
    expect(long.map((batch) => batch.length)).toEqual([2, 2, 1]);
    expect(batches([])).toEqual([]);
  });
});

describe('evaluateUpload', () => {
  it('sums up the answers: exact by rows, likelihood by tokens', async () => {
    const short = { exact: true, nll: 1, tokens: 1 };
    const long = { exact: false, nll: 3, tokens: 3, got: 'other' };
    const { done, bodies, progress } = evaluate(
      (expected) => (/ [1-9]$/.test(expected) ? long : short),
      40,
      'p',
    );
    const { evaluation, failed } = await done;
    expect(evaluation).toEqual({
      rows: 40,
      exact_match: 31 / 40,
      mean_nll: (31 * 1 + 9 * 9) / (31 + 27),
      sha256: 's',
    });
    expect(failed.map(({ line }) => line)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(failed[0]).toEqual({ line: 1, expected: 'answer 1', got: 'other' });
    expect(progress).toEqual([0, 16, 32, 40]);
    expect(bodies.every(({ parent }) => parent === 'p')).toBe(true);
    expect(evaluate(() => short).bodies.every((body) => !('parent' in body))).toBe(true);
  });

  it('stops at a row that cannot be scored, and at an invalid answer', async () => {
    const odd = evaluate((expected) =>
      expected === 'answer 20' ? { error: 'Too long.' } : { exact: true, nll: 0, tokens: 1 },
    );
    await expect(odd.done).rejects.toMatchObject({
      exitCode: EXIT.usage,
      code: 'row_invalid',
      message: expect.stringMatching(/line 20 cannot be evaluated. Too long\./) as string,
    });
    await expect(evaluate(() => 7).done).rejects.toThrow();
  });
});

describe('refuseLowScore', () => {
  const failed = Array.from({ length: 5 }, (_, i) => ({
    line: i + 1,
    expected: `${'long '.repeat(20)}\n${i}`,
    got: null,
  }));
  const evaluated = {
    evaluation: { rows: 10, exact_match: 0.5, mean_nll: 1.23456, sha256: 's' },
    macroF1: null,
    failed,
  };

  it('accepts a score that is high enough, or any without a minimum', () => {
    expect(() => refuseLowScore(evaluated, null)).not.toThrow();
    expect(() => refuseLowScore(evaluated, 0.5)).not.toThrow();
  });

  it('shows the score and the first failed rows', () => {
    expect(() => refuseLowScore(evaluated, 0.51)).toThrow(
      expect.objectContaining({ exitCode: EXIT.refused, code: 'score_too_low' }),
    );
    expect(() => refuseLowScore(evaluated, 0.51)).toThrow(
      /score 0\.5 \(5 of 10 .*1\.235 nats.*--min-score is 0\.51.*\n {2}line 1: expected "long .*…"\n.*\n.*\n {2}and 2 more$/,
    );
  });

  it('shows actual and expected answers, from shortly before the difference', () => {
    const row = (line: number, expected: string, got: string | null) => ({ line, expected, got });
    const long = 'as it was before '.repeat(8);
    expect(
      failedText([row(3, 'billing', 'account'), row(12, `${long}yes`, `${long}no`), row(13, 'a b', '')], {
        labelled: false,
      }),
    ).toBe(
      [
        'Different from expected:',
        '  line 3: expected "billing"',
        '               got "account…"',
        '  line 12: expected "…re as it was before yes"',
        '                got "…re as it was before no…"',
        '  line 13: expected "a b"',
        '                got "" (ended)',
      ].join('\n'),
    );
  });

  it('does not round a score up', () => {
    const { evaluation } = evaluated;
    expect(scoreText({ ...evaluation, rows: 10_000, exact_match: 0.7999 }, null)).toContain('score 0.799 ');
    expect(scoreText({ ...evaluation, exact_match: 0.3 }, null)).toContain('score 0.3 ');
  });
});
