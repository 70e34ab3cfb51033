/** A classification head from PEFT's folder to its answers, against a whole stack with a tiny base. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ClassifyAnswer } from '../../protocol/classify.ts';
import type { ErrorBody } from '../../protocol/api-error.ts';
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
