/** A classification head from PEFT's folder to its answers, against a whole stack with a tiny base. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ClassifyAnswer, RerankAnswer, ScoreAnswer } from '../../protocol/classify.ts';
import type { ErrorBody } from '../../protocol/api-error.ts';
import type { TrainingCard } from '../../protocol/training.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

let stack: TinyStack;
/** What transformers makes of the prompt (test/fixtures/make-classifier-reference.py). */
let saved: { length: number; offset: number; scores: number[] };
beforeAll(async () => {
  const reference = await readFile(fixture('tiny-classifier-reference.json'), 'utf8');
  ({ saved } = JSON.parse(reference) as { saved: typeof saved });
  stack = await startTinyStack('', ['--weights', 'f32']);
  await cp(fixture('peft-classifier'), path.join(stack.folder, 'intent'), { recursive: true });
});
afterAll(() => stack.remove());

const post = (route: string, body: object) =>
  fetch(stack.local.url + route, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.local.key}` },
    body: JSON.stringify({ model: 'clinic/intent', ...body }),
  });
const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error;

it('is published as PEFT saved it, and answers with transformers’ scores', async () => {
  const published = await stack.graft('publish', 'intent', '--name', 'clinic/intent', '--json');
  expect([published.code, published.stderr]).toEqual([0, expect.any(String)]);
  expect((await stack.graft('versions', 'clinic/intent')).stdout).toContain('2 3 classes');
  expect((await stack.graft('show', 'intent')).stdout).toMatch(/classes\s+3: no, yes, perhaps/);
  const ids = Array.from(
    { length: saved.length },
    (_, i) => 3 + ((i * i * 37 + i * 11 + saved.offset) % 256),
  );
  const response = await post('/v1/classify', { input: ids, use_activation: false });
  expect([response.status, response.headers.get('x-graft-adapter')]).toEqual([200, 'clinic/intent@1']);
  const { data, usage } = (await response.json()) as ClassifyAnswer;
  expect([data[0]?.label, usage.prompt_tokens]).toEqual(['yes', saved.length]);
  data[0]!.probs.forEach((score, at) => expect(Math.abs(score - saved.scores[at]!)).toBeLessThan(1e-4));
});

it('is refused for text, and for scores, which need a head of one class', async () => {
  const chat = await post('/v1/chat/completions', { messages: [{ role: 'user', content: 'hello' }] });
  expect([chat.status, await errorOf(chat)]).toMatchObject([
    ...[400, { code: 'wrong_endpoint', param: 'model', message: expect.stringContaining('/v1/classify') }],
  ]);
  const rerank = await post('/v1/rerank', { query: 'a', documents: ['b', 'c'] });
  expect([rerank.status, await errorOf(rerank)]).toMatchObject([
    ...[400, { code: 'wrong_endpoint', message: expect.stringContaining('3 classes') }],
  ]);
  const base = await post('/v1/classify', { model: 'base', input: 'hello' });
  expect([base.status, (await errorOf(base)).code]).toEqual([400, 'wrong_endpoint']);
});

it('is trained by graft from rows with labels, and classifies as it was taught', async () => {
  const words = { weather: 'rain', food: 'bread' };
  const rows = Array.from({ length: 40 }, (_, at) => {
    const [label, word] = Object.entries(words)[at % 2]!;
    return `${JSON.stringify({ text: `${at % 7} ${word} ${at * 5}`, label })}\n`;
  });
  await writeFile(path.join(stack.folder, 'labels.jsonl'), rows.join(''));
  const trained = await stack.graft(
    ...['train', 'labels.jsonl', '--name', 'clinic/topic', '--base', 'tiny-base', '--json'],
    ...['--rate', '0.01', '--least-steps', '40', '--batch', '8'],
  );
  expect([trained.code, trained.stderr]).toEqual([0, '']);
  expect((await stack.graft('promote', 'clinic/topic')).code).toBe(0);
  const input = ['3 bread 999', '5 rain 1'];
  const response = await post('/v1/classify', { model: 'clinic/topic', input });
  expect(response.status).toBe(200);
  const { data } = (await response.json()) as ClassifyAnswer;
  expect(data.map(({ label }) => label)).toEqual(['food', 'weather']);
});

it('is evaluated by accuracy, F1 and confused classes, and refused labels that it lacks', async () => {
  const rows = ['weather', 'food', 'food', 'weather'].map((label, at) => ({
    text: `${at} ${at < 2 ? 'rain' : 'bread'} 1`,
    label,
  }));
  const write = (file: string, all: object[]) =>
    writeFile(path.join(stack.folder, file), all.map((row) => `${JSON.stringify(row)}\n`).join(''));
  await write('holdout.jsonl', rows);
  expect((await stack.graft('eval', 'add', 'clinic/topic', 'holdout.jsonl')).stdout).toContain(
    'keeps 4 rows',
  );
  const { code, stdout, stderr } = await stack.graft('eval', 'clinic/topic');
  expect([code, stderr]).toEqual([
    0,
    expect.stringContaining('gives other classes than holdout in rows 2, 4'),
  ]);
  expect(stdout).toMatch(/\n1 +live +holdout +2 of 4 \(50 %\) .* 0\.500\n/);
  expect(stdout).toMatch(
    /classes that clinic\/topic@1 gives holdout:\nLABEL +food +weather\nfood +1 +1\nweather +1 +1/,
  );
  const json = await stack.graft('eval', 'clinic/topic', '--json');
  expect(JSON.parse(json.stdout)).toMatchObject({
    scores: [{ labelled: true, exact: 2, macro_f1: 0.5 }],
    confusions: [{ adapter: 'clinic/topic@1', label: 'holdout', labels: ['food', 'weather'] }],
  });

  await write('others.jsonl', [{ text: 'a', label: 'sport' }]);
  await stack.graft('eval', 'add', 'clinic/topic', 'others.jsonl');
  const refused = await stack.graft('eval', 'clinic/topic', '--as', 'others');
  expect([refused.code, refused.stderr]).toEqual([
    ...[1, expect.stringContaining("has no class 'sport', but food, weather.")],
  ]);
  await write('text.jsonl', [{ prompt: 'a', expected: 'b' }]);
  await stack.graft('eval', 'add', 'clinic/topic', 'text.jsonl');
  expect((await stack.graft('eval', 'clinic/topic', '--as', 'text')).stderr).toContain('/v1/classify');

  const low = await stack.graft(
    ...['publish', 'intent', '--name', 'clinic/intent', '--eval', 'holdout.jsonl', '--json'],
  );
  expect([low.code, low.stderr]).toEqual([2, expect.stringContaining('label_unknown')]);
});

describe('a head of one output', () => {
  const train = async (rows: object[], ...flags: string[]) => {
    await writeFile(
      path.join(stack.folder, 'scores.jsonl'),
      rows.map((row) => `${JSON.stringify(row)}\n`).join(''),
    );
    return stack.graft(
      ...['train', 'scores.jsonl', '--base', 'tiny-base'],
      ...['--rate', '0.01', '--least-steps', '60', '--batch', '8', ...flags],
    );
  };
  const queries = { weather: 'rain', food: 'bread' };
  const pairs = Array.from({ length: 48 }, (_, at) => {
    const query = at % 2 === 0 ? 'weather' : 'food';
    const isRelevant = at % 4 < 2;
    const word = Object.values(queries)[Number(isRelevant ? at % 2 : (at + 1) % 2)]!;
    return { query: `${query} `, document: `${at % 7} ${word}`, score: isRelevant ? 1 : 0 };
  });

  it('is trained on pairs by the binary cross-entropy, and reranks', async () => {
    const trained = await train(
      ...([pairs, '--name', 'clinic/relevance', '--problem-type', 'multi_label_classification'] as const),
    );
    expect([trained.code, trained.stdout]).toEqual([0, expect.stringContaining('POST /v1/rerank')]);
    expect((await stack.graft('promote', 'clinic/relevance')).code).toBe(0);
    const rerank = async (query: string) => {
      const documents = ['3 bread', '5 rain'];
      const response = await post('/v1/rerank', { model: 'clinic/relevance', query, documents });
      expect(response.status).toBe(200);
      return ((await response.json()) as RerankAnswer).results.map(({ index, relevance_score: score }) => [
        index,
        Math.round(score),
      ]);
    };
    expect([await rerank('weather '), await rerank('food ')]).toEqual([
      [
        [1, 1],
        [0, 0],
      ],
      [
        [0, 1],
        [1, 0],
      ],
    ]);
  });

  it('is trained on numbers by the squared error, and scores by them', async () => {
    const rows = Array.from({ length: 40 }, (_, at) => ({
      text: `${at % 7} ${at % 2 === 0 ? 'rain' : 'bread'}`,
      score: at % 2 === 0 ? 4.5 : -2,
    }));
    const trained = await train(rows, '--name', 'clinic/degrees', '--json');
    expect([trained.code, trained.stderr]).toEqual([0, '']);
    const { training } = JSON.parse(trained.stdout) as { training: TrainingCard };
    expect(training.settings.problem_type).toBe('regression');
    expect(training.scores).toMatchObject({ exact: null });
    expect((await stack.graft('promote', 'clinic/degrees')).code).toBe(0);
    const asked = { model: 'clinic/degrees', text_1: '3 ', text_2: ['rain', 'bread'] };
    const response = await post('/v1/score', asked);
    expect(response.status).toBe(200);
    const { data } = (await response.json()) as ScoreAnswer;
    expect(Math.abs(data[0]!.score - 4.5)).toBeLessThan(0.5);
    expect(Math.abs(data[1]!.score + 2)).toBeLessThan(0.5);
  });

  it.each([
    [[{ text: 'a', score: 2 }], ['--problem-type', 'multi_label_classification'], 'is not from 0 to 1'],
    [
      [
        { text: 'a', label: 'b' },
        { text: 'a', label: 'c' },
      ],
      ['--problem-type', 'regression'],
      'for rows with a score',
    ],
    [
      [
        { text: 'a', score: 2 },
        { text: 'a', label: 'b' },
      ],
      [],
      'Line 2: The row has no score',
    ],
  ])('is not trained on %j with %j', async (rows, flags, message) => {
    const { code, stderr } = await train(rows, '--out', 'nothing', ...flags);
    expect(code).not.toBe(0);
    expect(stderr).toContain(message);
  });
});

it('cannot be the parent of another one', async () => {
  const child = await stack.graft(
    'publish',
    'intent',
    '--name',
    'clinic/intent/a',
    '--parent',
    'clinic/intent',
  );
  expect(child.code).toBe(5);
  expect(child.stderr).toContain('classifier_unsupported');
});
