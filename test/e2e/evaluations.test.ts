/** Kept evaluations by the command line, on a tiny base: kept, scored, asked for by a publication and an experiment. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EvaluationList, EvaluationScore } from '../../protocol/admin-api/evaluations.ts';
import { TINY_ADAPTERS, TINY_LLAMA, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

const NAME = 'support/intent';
/** More than one request scores. */
const ROWS = 18;

let stack: TinyStack;
const graft = (...args: string[]) => stack.graft(...args);
const adapter = (folder: string, kind: string): string => {
  writeTinyAdapter(path.join(stack.folder, folder), TINY_ADAPTERS[kind] as TinyAdapter);
  return folder;
};
async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await graft(...args, '--json');
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as T;
}
const rowsFile = (file: string, rows: readonly object[]) =>
  writeFile(path.join(stack.folder, file), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));

const rows = Array.from({ length: ROWS }, (_, i) => ({ user: `row ${i}`, expected: `answer ${i}` }));

beforeAll(async () => {
  // A judge reads its rules, the question and an answer of up to 512 tokens.
  stack = await startTinyStack('', [], { ...TINY_LLAMA, context: 2_048 });
  await rowsFile('holdout.jsonl', rows);
  await rowsFile('hard.jsonl', [{ prompt: 'a', expected: 'b' }]);
  await rowsFile('long.jsonl', [...rows.slice(0, 17), { prompt: 'a'.repeat(9_000), expected: 'b' }]);
  await json('publish', adapter('one', 'attention'), '--name', NAME);
});
afterAll(() => stack.remove());

describe('graft eval', () => {
  it('keeps rows, and prints them again', async () => {
    const none = await graft('eval', NAME);
    expect([none.code, none.stderr]).toEqual([3, expect.stringContaining('has no evaluations. Add one')]);
    const added = await graft('eval', 'add', NAME, 'holdout.jsonl');
    expect([added.code, added.stdout]).toEqual([0, `${NAME} keeps 18 rows as holdout\n`]);
    expect((await graft('eval', 'add', NAME, 'holdout.jsonl')).stdout).toContain('nothing changed');
    await json('eval', 'add', NAME, 'hard.jsonl', '--as', 'second');
    const shown = await graft('eval', 'show', NAME, '--as', 'holdout');
    expect(
      shown.stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as object),
    ).toEqual(rows);
    expect((await graft('eval', 'list', NAME)).stdout).toMatch(
      /^EVALUATION .*\nholdout +18 .*\nsecond +1 .*\n\nno scores; score the live version: graft eval support\/intent\n$/,
    );
  });

  it('scores the live version and the newest staged one, once', async () => {
    await json('publish', adapter('two', 'everything'), '--name', NAME, '--stage');
    const { scores } = await json<EvaluationList>('eval', NAME);
    expect(scores.map(({ version, label, scored }) => [version, label, scored])).toEqual([
      [2, 'holdout', 18],
      [2, 'second', 1],
      [1, 'holdout', 18],
      [1, 'second', 1],
    ]);
    const [staged] = scores;
    expect(staged).toMatchObject({ exact: 0, missed: Array.from({ length: 18 }, (_, i) => i + 1) });
    expect(staged?.mean_nll).toBeGreaterThan(0);
    const again = await graft('eval', `${NAME}@2`, '--as', 'holdout');
    expect(again.stdout).toMatch(
      /^VERSION +STATE +EVALUATION +EXACT .*\n2 +staged +holdout +0 of 18 \(0 %\) +0 to 18 % +\+0\.0 \(.*\) +\d+\.\d+\n1 +live +holdout +0 of 18/,
    );
    expect(again.stderr).toContain(`${NAME}@2 differs from holdout in rows 1, 2, 3, 4, 5 and 13 more`);
    const after = await json<EvaluationList>('eval', 'list', NAME);
    expect(after.scores).toEqual(scores);
  });

  it('says which row no origin can score', async () => {
    await json('eval', 'add', NAME, 'long.jsonl');
    const { code, stderr } = await graft('eval', NAME, '--as', 'long');
    expect([code, stderr]).toEqual([1, expect.stringContaining("Row 18 of 'long' cannot be scored.")]);
    expect((await graft('eval', 'remove', NAME, '--as', 'long')).code).toBe(0);
    expect((await graft('eval', 'remove', NAME, '--as', 'long')).code).toBe(3);
  });
});

describe('graft eval with a judge', () => {
  const OWN = 'support/tone';

  it('keeps questions without answers, and has a version of another name judge', async () => {
    await json('publish', 'two', '--name', 'critic');
    await json('publish', 'one', '--name', OWN);
    await rowsFile('tone.jsonl', [{ user: 'a' }, { user: 'b', expected: 'c' }, { system: 's', user: 'd' }]);
    const wrong = await graft('eval', 'add', OWN, 'hard.jsonl', '--judge', 'critic');
    expect([wrong.code, wrong.stderr]).toEqual([
      2,
      expect.stringContaining('hard.jsonl, line 1: "user" must be a text'),
    ]);
    const added = await graft('eval', 'add', OWN, 'tone.jsonl', '--judge', 'critic');
    expect([added.code, added.stdout]).toEqual([0, `${OWN} keeps 3 rows as tone, judged by critic@1\n`]);
    const unknown = await graft('eval', 'add', OWN, 'tone.jsonl', '--judge', 'nobody');
    expect([unknown.code, unknown.stderr]).toEqual([
      3,
      expect.stringContaining("The judge 'nobody' does not"),
    ]);
  });

  it('has each answer judged, and never an unclear verdict', async () => {
    const { scores } = await json<EvaluationList>('eval', OWN);
    expect(scores).toMatchObject([
      { label: 'tone', judge: 'critic@1', scored: 3, unclear: 0, mean_nll: null },
    ]);
    const { exact = 0, missed } = scores[0] ?? {};
    expect(missed).toHaveLength(3 - exact);
    const listed = await graft('eval', 'list', OWN);
    expect(listed.stdout).toMatch(/^EVALUATION +JUDGE +ROWS .*\ntone +critic@1 +3 /);
    expect(listed.stdout).toMatch(new RegExp(`\\n1 +live +tone +critic@1 +${exact} of 3 `));
    const base = await json<{ scores: EvaluationScore[] }>('eval', 'score', OWN, '--adapter', 'critic@1');
    expect(base.scores).toMatchObject([{ judge: 'critic@1', scored: 3 }]);
  });

  it('is scored before a version is published, and names a judge that is gone', async () => {
    const published = await graft('publish', 'two', '--name', OWN, '--scores', '--stage');
    expect(published.code, published.stderr).toBe(0);
    expect(published.stdout).toMatch(/\ntone: \d of 3 \(\d+ %\) accepted by critic@1\n/);
    await json('rm', 'critic', '--yes');
    const { code, stderr } = await graft('eval', OWN, '--again');
    expect([code, stderr]).toEqual([3, expect.stringContaining("The judge 'critic@1' does not exist")]);
  });
});

describe('graft publish --scores', () => {
  it('publishes nothing below --min-score', async () => {
    const args = ['publish', adapter('three', 'patterned'), '--name', NAME, '--scores', '--min-score', '0.5'];
    const { code, stderr } = await graft(...args);
    expect([code, stderr]).toEqual([
      5,
      expect.stringContaining('Nothing was published: holdout: 0 of 18 (0 %) answered exactly'),
    ]);
    expect((await json<{ versions: object[] }>('versions', NAME)).versions).toHaveLength(2);
  });

  it('keeps the scores with the version', async () => {
    const args = ['publish', adapter('three', 'patterned'), '--name', NAME, '--scores', '--stage'];
    const { code, stdout, stderr } = await graft(...args);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^support\/intent@3 is staged .*\nholdout: 0 of 18 .*\nsecond: 0 of 1 /);
    const { scores } = await json<EvaluationList>('eval', 'list', NAME);
    expect(scores.slice(0, 2)).toMatchObject([
      { version: 3, label: 'holdout', scored: 18 },
      { version: 3, label: 'second', scored: 1 },
    ]);
  });

  it('says that a name has no evaluations, and refuses it where a score is required', async () => {
    const args = ['publish', 'three', '--name', 'new', '--scores'];
    const refused = await graft(...args, '--min-score', '0.5');
    expect([refused.code, refused.stderr]).toEqual([5, expect.stringContaining("'new' has no evaluations")]);
    const published = await graft(...args);
    expect([published.code, published.stderr]).toEqual([
      0,
      expect.stringContaining("'new' has no evaluations, so nothing was scored"),
    ]);
  });
});

describe('graft experiment start', () => {
  it('scores the variants first, and starts if none is worse', async () => {
    await json('experiment', 'create', NAME, '@2');
    const { code, stdout, stderr } = await graft('experiment', 'start', NAME, '--require-scores');
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('is running');
    expect(stderr).toContain(`treatment (${NAME}@2) answers 0 of 18 (0 %) of holdout exactly\n`);
  });
});
