/** Kept evaluations: added, scored by a click, stopped, continued, and asked for before an experiment starts. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import type { EvaluationScore, ScoreEvaluation } from '../../protocol/admin-api/evaluations.ts';
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
