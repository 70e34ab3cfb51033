/** Kept evaluations: added, scored by a click, stopped, continued, and asked for before an experiment starts. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type {
  EvaluationScore,
  ScoreEvaluation,
  ScoredEvaluation,
} from '../../protocol/admin-api/evaluations.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';

/** Each score takes two requests, of 16 rows and of the rest. */
const ROWS = 18;
const SCORE = '**/admin/evaluations/score';

const rig = useDashboard();
const region = (name: string) => rig.page.getByRole('region', { name, exact: true });
const rowOf = (version: number) => region('Scores').getByRole('row', { name: new RegExp(`^${version} `) });

const rowsText = (label: string): string =>
  Array.from({ length: ROWS }, (_, i) => JSON.stringify({ user: `${label} ${i}`, expected: 'yes' })).join(
    '\n',
  );

async function keep(label: string): Promise<void> {
  const file = `${label}.jsonl`;
  await writeFile(path.join(rig.stack.folder, file), rowsText(label));
  const added = await rig.stack.graft('eval', 'add', NAME, file);
  expect(added.code, added.stderr).toBe(0);
}

const drop = (name: string, text: string) =>
  rig.page.evaluate(`(() => {
    const data = new DataTransfer();
    data.items.add(new File([${JSON.stringify(text)}], ${JSON.stringify(name)}));
    for (const type of ['dragover', 'drop'])
      document.querySelector('.drop').dispatchEvent(
        new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  })()`);

it('keeps a file of rows that is dropped, after the checks of the command line', async () => {
  const { page } = rig;
  await rig.open(`#/adapters/${NAME}`);
  await region('Evaluations').getByText('There are none. Add rows with expected answers').waitFor();
  const dialog = page.getByRole('dialog');
  await drop('Holdout.jsonl', '{"user":"a","expected":"b"}\n{"user":"a"}\nno');
  await dialog.getByText('Holdout.jsonl, line 2: "expected" must be a text; line 3: not JSON.').waitFor();
  await dialog.getByText('Correct the file and choose it again.').waitFor();
  await rig.look('evaluation-refused');
  await drop('Holdout.jsonl', rowsText('holdout'));
  await dialog.getByText('Holdout.jsonl: 18 rows.').waitFor();
  expect(await dialog.getByLabel('Label').inputValue()).toBe('holdout');
  await dialog.getByLabel('Label').fill('Hold out');
  await dialog.getByText('A label must be 1 to 32 of').waitFor();
  await dialog.getByLabel('Label').fill('holdout');
  await rig.look('evaluation');
  await rig.confirm('Keep the rows');
  await page.getByText(`${NAME} keeps 18 rows as holdout.`).waitFor();
  await region('Evaluations').getByText('holdout: 18 rows').waitFor();
  const shown = await rig.stack.graft('eval', 'show', NAME, '--as', 'holdout');
  expect(shown.stdout.trim()).toBe(rowsText('holdout'));

  await page.getByRole('button', { name: 'Add rows' }).click();
  await dialog.getByLabel('Label').fill('holdout');
  await dialog.getByText('It replaces the rows of holdout, which lose their scores.').waitFor();
  await dialog.getByRole('button', { name: 'Keep the rows' }).click();
  await dialog.getByText('Choose a file of rows.', { exact: true }).waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  expect(rig.complaints).toEqual([]);
});

it('scores a version row by row, and keeps what is scored when it is stopped or fails', async () => {
  const { page } = rig;
  let requests = 0;
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  await page.route(SCORE, async (route) => {
    requests += 1;
    if (requests === 1) return route.continue();
    await held;
    return route.abort();
  });
  await rig.open(`#/adapters/${NAME}`);
  await rowOf(1).getByText('–').waitFor();
  await region('Evaluations').getByText('holdout: 18 rows').waitFor();
  await rig.look('scores-none');
  await page.getByRole('button', { name: 'Score version 2' }).click();
  await page.getByText('Scoring version 2: 16 of 18 rows').waitFor();
  expect(await page.getByRole('button', { name: 'Score all' }).count()).toBe(0);
  await rig.look('scores-running');
  await region('Evaluations').getByRole('button', { name: 'Stop' }).click();
  release();
  await rowOf(2).getByText('16 of 18 scored').waitFor();
  expect(await page.getByText('Scoring version 2').count()).toBe(0);
  await page.unrouteAll();

  await page.route(SCORE, (route) => {
    const error = { message: 'No origin answers.', code: 'origin_unavailable' };
    return route.fulfill({ status: 503, json: { error } });
  });
  await page.getByRole('button', { name: 'Score all' }).click();
  const failed = region('Evaluations').getByRole('alert');
  await failed.getByText('No origin answers.').waitFor();
  await failed.getByText('Check on the Origins page').waitFor();
  await failed.getByText('16 of 36 rows are scored, and kept.').waitFor();
  await rig.look('scores-failed');
  await page.unrouteAll();
  await failed.getByRole('button', { name: 'Try again' }).click();
  await page.getByText('Versions 2 and 1 are scored.').waitFor();
  for (const version of [2, 1]) await rowOf(version).getByText('0 of 18').waitFor();
  await failed.waitFor({ state: 'detached' });
  expect(await page.getByRole('button', { name: /^Score / }).count()).toBe(0);
  await rig.look('scores-complete');
  expect(rig.complaints).toEqual([]);
});

it('scores the variants before an experiment starts, and asks about one that is worse', async () => {
  const { page } = rig;
  await keep('second');
  await rig.open(`#/new-experiment/${NAME}`);
  await page.getByLabel('Treatment, version').fill('2');
  await page.getByRole('button', { name: 'Create a draft' }).click();
  const start = page.getByRole('button', { name: 'Start', exact: true });
  const scores = region('Scores before the start');
  const dialog = page.getByRole('dialog');

  const list = '**/admin/evaluations?*';
  const error = { message: 'The registry does not answer.', code: 'registry_unavailable' };
  await page.route(list, (route) => route.fulfill({ status: 503, json: { error } }));
  await start.click();
  await scores.getByText('The registry does not answer.').waitFor();
  await rig.look('start-failed');
  await scores.getByRole('button', { name: 'Start without scores' }).click();
  await dialog.getByText('From now on users').waitFor();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await page.unrouteAll();

  let answering = false;
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  await page.route(SCORE, async (route) => {
    if (!answering) await held;
    const answer = await route.fetch();
    const { adapter, label } = route.request().postDataJSON() as ScoreEvaluation;
    const score = (await answer.json()) as EvaluationScore;
    // An untrained base answers nothing exactly.
    const isBetter = answering && adapter === `${NAME}@1` && label === 'second';
    return route.fulfill({ json: isBetter ? { ...score, exact: 5 } : score });
  });
  await start.click();
  await scores.getByText('Scoring the variants first: 0 of 72 rows').waitFor();
  expect(await start.isDisabled()).toBe(true);
  await rig.look('start-scoring');
  await scores.getByRole('button', { name: 'Start without scores' }).click();
  await dialog.getByText('From now on users').waitFor();
  expect(await dialog.getByText('exactly').count()).toBe(0);
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  expect(await scores.count()).toBe(0);

  answering = true;
  release();
  await start.click();
  const words = `treatment (${NAME}@2) answers 0 of 18 (0 %) of second exactly, control 5.`;
  await dialog.getByRole('alert').getByText(words).waitFor();
  await dialog.getByRole('row', { name: 'second 5 of 18 0 of 18' }).waitFor();
  await dialog.getByRole('row', { name: 'holdout 0 of 18 0 of 18' }).waitFor();
  expect(await dialog.getByRole('button', { name: 'Start', exact: true }).count()).toBe(0);
  await rig.look('start-worse');
  await dialog.getByRole('button', { name: 'Cancel' }).click();

  await page.unrouteAll();
  await start.click();
  await dialog.getByRole('row', { name: 'second 0 of 18 0 of 18' }).waitFor();
  expect(await dialog.getByRole('alert').count()).toBe(0);
  await rig.look('start-scored');
  await rig.confirm('Start');
  await page.getByText('running', { exact: true }).waitFor();
  expect(rig.complaints).toEqual([]);
});

it('keeps questions with a judge, and shows how many answers it accepts', async () => {
  const { page } = rig;
  await rig.open(`#/adapters/${NAME}`);
  await region('Evaluations').getByText('holdout: 18 rows').waitFor();
  const dialog = page.getByRole('dialog');
  await drop('Tone.jsonl', '{"user":"a"}\n{"user":"b","expected":"c"}');
  await dialog.getByText('Tone.jsonl, line 1: "expected" must be a text.').waitFor();
  await dialog.getByLabel('Judge (optional)').fill('Base');
  await dialog.getByText('A judge must be "base", "<name>" or "<name>@<version>".').waitFor();
  await dialog.getByLabel('Judge (optional)').fill('base');
  await dialog.getByText('Tone.jsonl: 2 rows.').waitFor();
  expect(await dialog.getByLabel('Label').inputValue()).toBe('tone');
  await rig.look('evaluation-judged');
  await rig.confirm('Keep the rows');
  await page.getByText(`${NAME} keeps 2 rows as tone, judged by base.`).waitFor();
  const words = 'Rows answered exactly as expected, or accepted by a judge.';
  await region('Evaluations').getByText(words).waitFor();
  await region('Evaluations').getByText('tone: 2 rows').waitFor();
  await page.getByRole('button', { name: 'Score version 1' }).click();
  await rowOf(1)
    .getByText(/[012] of 2 accepted/)
    .waitFor();
  await rig.look('scores-judged');
  expect(rig.complaints).toEqual([]);
});

/** Version 1 (live) and 2 (staged) of a classifier of the classes no, yes and perhaps. @param name theirs. */
async function publishClassifier(name: string): Promise<void> {
  const { stack } = rig;
  const folder = path.join(stack.folder, 'topics');
  await cp(fileURLToPath(new URL('../fixtures/peft-classifier', import.meta.url)), folder, {
    recursive: true,
  });
  const first = await stack.graft('publish', 'topics', '--name', name);
  expect(first.code, first.stderr).toBe(0);
  const config = path.join(folder, 'adapter_config.json');
  await writeFile(config, (await readFile(config, 'utf8')).replace('"lora_alpha": 4', '"lora_alpha": 64'));
  const second = await stack.graft('publish', 'topics', '--name', name, '--stage');
  expect(second.code, second.stderr).toBe(0);
}

it('shows how often a classifier is right, its macro F1, and which classes it confuses', async () => {
  const { page, stack } = rig;
  const name = 'clinic/intent';
  await publishClassifier(name);
  await rig.open(`#/adapters/${name}`);
  await region('Call it').getByText('/v1/classify').waitFor();
  expect(await page.getByRole('link', { name: 'Try it' }).count()).toBe(0);
  await page.getByRole('button', { name: 'Classify it' }).waitFor();
  const evaluations = region('Evaluations');
  await evaluations.getByText('There are none.').waitFor();
  const rows = Array.from({ length: 9 }, (_, i) =>
    JSON.stringify({ text: `cough ${i * i}`, label: ['no', 'yes', 'perhaps'][i % 3] }),
  );
  await drop('topics.jsonl', rows.join('\n'));
  await rig.confirm('Keep the rows');
  await evaluations.getByText('Rows classified as labelled. topics: 9 rows').waitFor();
  await page.getByRole('button', { name: 'Score version 2' }).click();
  await page.getByText('Version 2 is scored.').waitFor();
  const told = await stack.graft('eval', `${name}@2`, '--json');
  expect(told.code, told.stderr).toBe(0);
  const { scores: ofVersion, confusions } = JSON.parse(told.stdout) as {
    scores: EvaluationScore[];
    confusions: NonNullable<ScoredEvaluation['confusion']>[];
  };
  const { exact, macro_f1: macroF1 } = ofVersion[0]!;
  await rowOf(2)
    .getByText(`${exact} of 9 right, macro F1 ${macroF1!.toFixed(3)}`)
    .waitFor();
  const { labels, counts } = confusions[0]!;
  const lines = [
    ['Label', ...labels].join('\t'),
    ...counts.map((of, row) => [labels[row], ...of].join('\t')),
  ];
  const table = region('Classes that version 2 gives topics');
  await table.waitFor();
  expect(await table.getByRole('row').allInnerTexts()).toEqual(lines);
  await rig.look('scores-classes');

  // Of a page that is opened later, which scores nothing.
  await page.reload();
  await rowOf(2).waitFor();
  expect(await table.count()).toBe(0);
  await page.getByRole('button', { name: 'Classes that version 2 gives topics' }).click();
  await table.waitFor();
  expect(await table.getByRole('row').allInnerTexts()).toEqual(lines);

  await rig.open(`#/new-experiment/${name}`);
  await page.getByLabel('Treatment, version').fill('2');
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('columnheader', { name: 'Right', exact: true }).waitFor();
  await dialog
    .getByText(`macro F1 ${macroF1!.toFixed(3)}`)
    .first()
    .waitFor();
  const scores = dialog.getByRole('region', { name: 'Scores', exact: true });
  expect(await scores.evaluate((one) => one.scrollWidth - one.clientWidth)).toBe(0);
  await dialog.getByText('Which classes they give').click();
  const confused = dialog.getByRole('region', { name: 'Classes that treatment gives topics' });
  expect(await confused.getByRole('row').allInnerTexts()).toEqual(lines);
  await rig.look('start-classes');
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  expect(rig.complaints).toEqual([]);
});

it('lets twelve classes scroll beside their labels on a phone, and shows no more of them', async () => {
  const { page } = rig;
  const labels = Array.from({ length: 12 }, (_, i) => `department-${i + 1}`);
  const counts = labels.map((_, row) => labels.map((__, at) => (row === at ? 100 + at : row + at)));
  await page.route(SCORE, async (route) => {
    const score = (await (await route.fetch()).json()) as ScoredEvaluation;
    return route.fulfill({ json: { ...score, confusion: { labels, counts } } });
  });
  await rig.open('#/adapters/clinic/intent');
  await page.getByRole('button', { name: 'Classes that version 2 gives topics' }).click();
  const table = region('Classes that version 2 gives topics');
  await table.waitFor();
  await rig.look('scores-many-classes');
  await page.setViewportSize({ width: 390, height: 844 });
  await table.evaluate((one) => one.scrollTo(one.scrollWidth, 0));
  const box = async (what: 'rowheader' | 'columnheader', words: string) =>
    (await table.getByRole(what, { name: words, exact: true }).boundingBox())!;
  const [row, column] = [await box('rowheader', 'department-12'), await box('columnheader', 'department-12')];
  expect(row.x).toBeGreaterThanOrEqual(0);
  expect(row.x + row.width).toBeLessThanOrEqual(column.x);
  expect(column.x + column.width).toBeLessThanOrEqual(390);
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.unrouteAll();

  await page.route(SCORE, async (route) => {
    const score = (await (await route.fetch()).json()) as ScoredEvaluation;
    return route.fulfill({ json: { ...score, confusion: null } });
  });
  await page.getByRole('button', { name: 'Classes that version 1 gives topics' }).click();
  await page.getByText('topics has more than 12 classes.').waitFor();
  await page.unrouteAll();

  // Other rows with the same label: the table was not about them.
  expect(await table.count()).toBe(1);
  await drop('topics.jsonl', '{"text":"a","label":"no"}');
  await rig.confirm('Keep the rows');
  await table.waitFor({ state: 'detached' });
  expect(rig.complaints).toEqual([]);
});
