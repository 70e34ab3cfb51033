import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compareNames, type CompareWish } from '../../../cli/compare/compare-names.ts';
import type { ComparisonRow } from '../../../cli/compare/ask-answers.ts';
import { createResults, openResults, type Heading } from '../../../cli/compare/results-file.ts';
import { createOutput } from '../../../cli/output.ts';
import { fakeCompletions, questionIn, type FakeCompletions } from './fake-completions.ts';

const SETTINGS = { max_tokens: 16, temperature: 0, seed: 1 };
const HEADING: Heading = { kind: 'graft_compare', sha256: 'aa', ...SETTINGS };

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-compare-'));
  file = path.join(folder, 'results.jsonl');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const prompts = (rows: ComparisonRow[]): CompareWish['prompts'] => ({
  rows: rows.map((row, i) => ({ line: i + 1, row })),
  sha256: 'aa',
});

const wish = (
  fake: FakeCompletions,
  rows: ComparisonRow[],
  rest: Partial<CompareWish> = {},
): CompareWish => ({
  client: fake.client,
  base: 'tiny',
  names: ['a', 'b'],
  prompts: prompts(rows),
  judge: 'exact',
  settings: SETTINGS,
  results: createResults(),
  parallel: 3,
  output: createOutput({ json: true }),
  ...rest,
});

/** `a` counts up, `b` says "no", the base repeats; versions are 3 and 4. */
const echo = fakeCompletions.bind(null, (body) => {
  if (body.model.startsWith('a')) return { text: `${questionIn(body)}+`, adapter: 'a@3' };
  if (body.model.startsWith('b')) return { text: 'no', adapter: 'b@4' };
  return { text: questionIn(body), adapter: 'base' };
});

describe('compareNames', () => {
  it('exact: the exact answer wins, both or neither is a tie, a truncated answer is not exact', async () => {
    const fake = fakeCompletions((body) => {
      const question = questionIn(body);
      if (question === 'cut') return { text: 'x', finish: body.model === 'a' ? 'length' : 'stop' };
      return question === 'both' || (question === 'first') === (body.model === 'a') ? 'x' : 'y';
    });
    const rows = ['first', 'second', 'both', 'cut'].map((user) => ({ user, expected: 'x' }));
    const summary = await compareNames(wish(fake, rows));
    expect(summary.pairs).toMatchObject([{ names: ['a', 'b'], wins: 1, ties: 1, losses: 2 }]);
    expect(summary.names).toMatchObject([
      { name: 'a', exact: { right: 2, of: 4 } },
      { name: 'b', exact: { right: 3, of: 4 } },
    ]);
    expect(summary.position).toBeNull();
  });

  it('requests chats and texts, strictly, greedily, each name at the version that answered first', async () => {
    const fake = echo();
    const rows = [
      { user: 'u', system: 's', expected: 'x' },
      { prompt: 'p', expected: 'x' },
      { user: 'v', expected: 'x' },
    ];
    const summary = await compareNames(wish(fake, rows, { names: ['a', 'base'] }));
    expect(summary.names.map(({ adapter }) => adapter)).toEqual(['a@3', 'base']);
    const of = (model: string) => fake.asked.filter((body) => body.model === model);
    expect(of('a')).toHaveLength(1);
    expect(of('a@3')).toHaveLength(2);
    expect(of('tiny')).toHaveLength(3);
    expect(of('a')[0]).toEqual({
      path: '/v1/chat/completions',
      model: 'a',
      strict: true,
      messages: [
        { role: 'system', content: 's' },
        { role: 'user', content: 'u' },
      ],
      max_tokens: 16,
      temperature: 0,
    });
    expect(of('a@3').find(({ prompt }) => prompt === 'p')).toMatchObject({ path: '/v1/completions' });
  });

  it('sends the seed when it samples', async () => {
    const fake = echo();
    const settings = { max_tokens: 4, temperature: 0.7, seed: 9 };
    await compareNames(wish(fake, [{ user: 'u', expected: 'x' }], { settings }));
    expect(fake.asked[0]).toMatchObject(settings);
  });

  it('refuses answers of another version than before', async () => {
    let version = 1;
    const fake = fakeCompletions(() => ({ text: 'x', adapter: `a@${version++}` }));
    const rows = ['1', '2'].map((user) => ({ user, expected: 'x' }));
    await expect(compareNames(wish(fake, rows, { names: ['a', 'b'], parallel: 1 }))).rejects.toMatchObject({
      code: 'other_adapter',
    });
  });

  it('continues an interrupted run, and asks nothing twice', async () => {
    const rows = Array.from({ length: 6 }, (_, i) => ({ user: `q${i}`, expected: 'no' }));
    let left = 5;
    const failing = fakeCompletions((body) =>
      left-- > 0 ? { text: 'no', adapter: `${body.model[0]}@1` } : 404,
    );
    const first = await openResults(file, HEADING);
    await expect(compareNames(wish(failing, rows, { results: first, parallel: 1 }))).rejects.toMatchObject({
      code: 'refused_here',
      message: expect.stringMatching(/^line 3, b: refused here/) as string,
    });
    const fake = fakeCompletions((body) => ({ text: 'no', adapter: `${body.model[0]}@1` }));
    const again = await openResults(file, HEADING);
    const summary = await compareNames(wish(fake, rows, { results: again }));
    expect(fake.asked).toHaveLength(12 - 5);
    expect(fake.asked.every(({ model }) => model.endsWith('@1'))).toBe(true);
    expect(summary.pairs[0]).toMatchObject({ wins: 0, ties: 6, losses: 0 });

    const silent = fakeCompletions(() => 500);
    const results = await openResults(file, HEADING);
    expect(await compareNames(wish(silent, rows, { results }))).toEqual(summary);
    expect(silent.asked).toEqual([]);
  });

  it('reuses existing answers for a further name and another judge', async () => {
    const rows = [{ user: 'u' }, { user: 'v' }];
    const judging = fakeCompletions((body) => {
      if (body.model !== 'judge') return { text: `by ${body.model[0]}`, adapter: `${body.model[0]}@1` };
      const [, a, b] = /\[Answer A\]\n(.*)\n\n\[Answer B\]\n(.*)\n/.exec(questionIn(body)) ?? [];
      return (a ?? '') > (b ?? '') ? 'A' : 'B';
    });
    const results = await openResults(file, HEADING);
    const two = await compareNames(wish(judging, rows, { results, judge: 'judge' }));
    expect(two.pairs).toMatchObject([{ wins: 0, ties: 0, losses: 2 }]);
    expect(judging.asked.filter(({ model }) => model === 'judge')).toHaveLength(4);

    const before = judging.asked.length;
    const reopened = await openResults(file, HEADING);
    const names = ['b', 'c', 'a'];
    const three = await compareNames(wish(judging, rows, { results: reopened, judge: 'judge', names }));
    // Two answers of c, and both orders of the two new pairs.
    expect(judging.asked.length - before).toBe(2 + 2 * 2 * 2);
    expect(three.pairs).toMatchObject([
      { names: ['b', 'c'], losses: 2 },
      { names: ['b', 'a'], wins: 2 },
      { names: ['c', 'a'], wins: 2 },
    ]);
    const strengths = three.names.map(({ strength }) => strength.estimate);
    expect(strengths[1]).toBeGreaterThan(strengths[0]!);
    expect(strengths[0]).toBeGreaterThan(strengths[2]!);
  });

  it('a judge with a position bias decides nothing, and is reported', async () => {
    const rows = Array.from({ length: 20 }, (_, i) => ({ user: `q${i}` }));
    const fake = fakeCompletions((body) => (body.model === 'judge' ? 'A.' : body.model));
    const summary = await compareNames(wish(fake, rows, { judge: 'judge' }));
    expect(summary.pairs).toMatchObject([{ wins: 0, ties: 20, losses: 0 }]);
    expect(summary.position).toMatchObject({
      to_first: 20,
      neutral: 0,
      to_second: 0,
      changed: 20,
      unclear: 0,
    });
    expect(summary.position!.rate!.low).toBeGreaterThan(0.5);
  });

  it('does not ask about identical answers', async () => {
    const fake = fakeCompletions(() => 'same');
    const summary = await compareNames(wish(fake, [{ user: 'u' }], { judge: 'judge' }));
    expect(fake.asked.map(({ model }) => model)).toEqual(['a', 'b']);
    expect(summary.pairs).toMatchObject([{ ties: 1 }]);
  });

  it('a person: keys decide, the order is by seed, skipped pairs are not counted, and stopping keeps the results', async () => {
    const rows = Array.from({ length: 5 }, (_, i) => ({ user: `q${i}` }));
    const results = await openResults(file, HEADING);
    let shown = '';
    /** Presses a key that means nothing, prefers a on whichever side it is; then skips one, ties one, and ends. */
    async function* keys(): AsyncGenerator<string> {
      for (let i = 0; i < 2; i++) {
        yield 'x';
        yield sideOfA(shown);
      }
      yield* ['S', 't', 'q'];
    }
    const sideOfA = (text: string): string => (text.lastIndexOf('+') < text.lastIndexOf('no') ? '1' : '2');
    const summary = await compareNames(
      wish(echo(), rows, { results, judge: 'me', keys, show: (text) => (shown += text) }),
    );
    expect(summary.pairs).toMatchObject([{ wins: 2, ties: 1, losses: 0, skipped: 1 }]);
    expect(shown).not.toMatch(/a@3|b@4/);
    expect((await readFile(file, 'utf8')).match(/"verdict"/g)).toHaveLength(4);

    shown = '';
    const rest = await openResults(file, HEADING);
    const more = await compareNames(
      wish(echo(), rows, {
        results: rest,
        judge: 'me',
        keys: async function* () {
          yield sideOfA(shown);
        },
        show: (text) => (shown += text),
      }),
    );
    expect(shown).toContain('1 of 1, line 5');
    expect(more.pairs).toMatchObject([{ wins: 3, ties: 1, losses: 0, skipped: 1 }]);
  });

  it('Ctrl-C stops and keeps the results', async () => {
    const ending = new AbortController();
    const fake = fakeCompletions((body) => {
      if (questionIn(body) === 'q2') ending.abort(new Error('interrupted'));
      return { text: 'x', adapter: `${body.model[0]}@1` };
    });
    const client = {
      ...fake.client,
      sendAccepting: async (...args: Parameters<typeof fake.client.sendAccepting>) => {
        args[2].signal?.throwIfAborted();
        return fake.client.sendAccepting(...args);
      },
    };
    const rows = Array.from({ length: 5 }, (_, i) => ({ user: `q${i}`, expected: 'x' }));
    const results = await openResults(file, HEADING);
    await expect(
      compareNames({ ...wish(fake, rows, { results, client, parallel: 1 }), signal: ending.signal }),
    ).rejects.toThrow('interrupted');
    const kept = (await readFile(file, 'utf8')).match(/"answer"/g) ?? [];
    expect(kept).toHaveLength(fake.asked.length);
    expect(kept.length).toBeLessThan(10);
  });
});
