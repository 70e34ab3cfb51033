/** Training in the console: rows are checked, an origin trains, the result is tried and put to the test. */
import { expect, it } from 'vitest';
import type { NewKey } from '../../protocol/admin-api/keys.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';

const rig = useDashboard(['--train']);

const ANSWERS = ['sky blue', 'grass green', 'snow white', 'coal black', 'sun gold', 'sea grey'];
const ROWS = ANSWERS.flatMap((pair) => {
  const [user, expected] = pair.split(' ');
  return [`${user}?`, `the ${user}`].map((asked) => JSON.stringify({ user: asked, expected }));
});
const file = (name: string, lines: readonly string[]) => ({
  name,
  mimeType: 'application/jsonl',
  buffer: Buffer.from(lines.join('\n')),
});

/** As from the file manager. */
const drop = (...files: ReturnType<typeof file>[]) =>
  rig.page.evaluate(`(() => {
    const data = new DataTransfer();
    for (const [name, text] of ${JSON.stringify(files.map(({ name, buffer }) => [name, buffer.toString()]))})
      data.items.add(new File([text], name));
    const target = document.querySelector('.drop');
    for (const type of ['dragover', 'drop'])
      target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  })()`);
const start = () => rig.page.getByRole('button', { name: 'Start the training' });
const state = (words: string) => rig.page.locator('.state', { hasText: new RegExp(`^${words}$`) }).first();

it('says what a training needs while there is none', async () => {
  const { page } = rig;
  await rig.signIn();
  await rig.goTo('Training');
  await page.getByText('it needs an origin that was started with --train').waitFor();
  await rig.look('training-none');
});

it('says which row is wrong, and sends nothing before all are good', async () => {
  const { page } = rig;
  const sent: string[] = [];
  page.on('request', (request) => {
    if (request.method() === 'POST') sent.push(new URL(request.url()).pathname);
  });
  await rig.open(`#/adapters/${NAME}`);
  await page.getByRole('link', { name: 'Train it' }).waitFor();
  await rig.look('adapter-train');
  await page.getByRole('link', { name: 'Train it' }).click();
  await page.getByRole('heading', { name: 'Train an adapter', level: 1 }).waitFor();
  expect(await page.getByLabel('Train on').inputValue()).toBe('base');
  expect(await page.getByLabel('Name of the result').inputValue()).toBe(NAME);
  const suggested = (list: string, value: string) => page.locator(`#${list} option[value="${value}"]`);
  await suggested('results', NAME).waitFor({ state: 'attached' });
  expect(await suggested('results', NAME).getAttribute('label')).toBe(`${NAME}: @1 live, newest @2`);
  expect(await suggested('parents', `${NAME}@1`).count()).toBe(0);
  await page.getByLabel('Train on').fill(NAME);
  await suggested('parents', `${NAME}@1`).waitFor({ state: 'attached' });
  const labels = await Promise.all(
    [1, 2].map((version) => suggested('parents', `${NAME}@${version}`).getAttribute('label')),
  );
  expect(labels).toEqual([`${NAME}@1: live`, `${NAME}@2: staged`]);
  await page.getByLabel('Train on').fill('base');
  await rig.look('train-form');
  await drop(file('bad.jsonl', [ROWS[0]!, '{"user": "sky?", "expected": ""}', '{"user": 1', ROWS[1]!, '']));
  const problems = page.getByRole('region', { name: 'Problems of the rows' });
  await problems.getByRole('row', { name: '2 Invalid value for' }).waitFor();
  await problems.getByRole('row', { name: '3 The line is not JSON.' }).waitFor();
  await page.getByRole('status').filter({ hasText: '2 problems. Correct the file' }).waitFor();
  expect(await page.getByLabel('Choose a file of rows').getAttribute('aria-invalid')).toBe('true');
  expect(await start().isDisabled()).toBe(true);
  await rig.look('train-bad-rows');
  const rows = file('rows.jsonl', ROWS);
  await drop(rows, rows);
  await page.getByText('Choose one file.').waitFor();
  // Rows of the other method choose it.
  await drop(file('pairs.jsonl', ['{"user": "sky?", "chosen": "blue", "rejected": "red"}']));
  await page.getByText('1 row, each with a chosen and a rejected answer.').waitFor();
  expect(await page.getByLabel('Method').inputValue()).toBe('dpo');
  await page.getByText('More settings').click();
  await page.getByLabel('Beta').waitFor();
  await page.getByLabel('Method').selectOption('supervised');
  await problems.getByText('The row has two answers').waitFor();
  // A table of values is one, too.
  await drop(file('rows.csv', ['user,expected', 'sky?,blue']));
  await page.getByText('rows.csv (23 B): 1 row.').waitFor();
  expect(sent).toEqual([]);
});

it('trains a new version, which is tried beside the live one and put to the test', async () => {
  const { page } = rig;
  // By keyboard: the file, and from field to field.
  await page.getByLabel('Choose a file of rows').focus();
  await page.keyboard.press('Tab');
  expect(await page.evaluate('document.activeElement.textContent')).toBe(`A new version of ${NAME}`);
  await page.getByLabel('Choose a file of rows').setInputFiles(file('rows.jsonl', ROWS));
  await page.getByText('12 rows.').waitFor();
  await page.getByRole('button', { name: `An adapter on top of ${NAME}` }).click();
  expect(await page.getByLabel('Train on').inputValue()).toBe(NAME);
  await start().click();
  await page.getByText(/^A name/).waitFor();
  await page.getByRole('button', { name: `A new version of ${NAME}` }).click();
  await page.getByLabel('Rank').fill('many');
  await page.getByLabel('Held out').fill('90');
  await start().click();
  await page.getByText('A whole number from 1 to 256.').waitFor();
  await page.getByText('A number from 0 to 50.').waitFor();
  await rig.look('train-wrong-settings');
  await page.getByLabel('Rank').fill('4');
  await page.getByLabel('Held out').fill('20');
  await page.getByLabel('Learning rate factor').fill('2');
  await rig.look('train-ready');
  await start().press('Enter');
  await page.getByRole('heading', { name: NAME, level: 1 }).waitFor();
  await page.getByText(`${NAME}@3 is staged.`).waitFor();
  await state('done').waitFor();
  await page.getByRole('img', { name: /^Loss over 60 steps; training: from .*, held out: from / }).waitFor();
  await page.getByRole('region', { name: 'Settings' }).getByText('Answers (SFT)').waitFor();
  await page.getByText(/Created\. The result will be a staged version/).waitFor();
  await rig.look('training-done');

  // A reload finds it, and so does the list.
  await page.reload();
  await page.getByText(`${NAME}@3 is staged.`).waitFor();
  await page.getByRole('link', { name: 'All trainings' }).click();
  await page.getByRole('link', { name: `${NAME}@3` }).click();

  await page.getByRole('link', { name: 'Try it beside the live version' }).click();
  const left = page.getByRole('region', { name: 'Left side' });
  const right = page.getByRole('region', { name: 'Right side' });
  await expect.poll(() => left.getByRole('combobox').inputValue()).toBe(NAME);
  await expect.poll(() => right.getByRole('combobox').inputValue()).toBe(`${NAME}@3`);
  await page.getByLabel('Prompt').fill('sky?');
  await page.getByRole('button', { name: 'Ask both' }).click();
  for (const side of [left, right]) await side.getByText('done', { exact: true }).waitFor();
  await right.getByText('blue', { exact: true }).waitFor();
  await rig.look('training-tried');

  await page.goBack();
  await page.getByRole('link', { name: 'Start an experiment' }).click();
  await page.getByRole('heading', { name: 'New experiment' }).waitFor();
  await expect.poll(() => page.getByLabel('Name that applications call').inputValue()).toBe(NAME);
  await expect.poll(() => page.getByLabel('Treatment, version').inputValue()).toBe('3');
  await page.getByRole('button', { name: 'Create a draft' }).click();
  await page.getByRole('button', { name: 'Start', exact: true }).waitFor();
  await page.getByText(`${NAME}@3`).first().waitFor();
});

it('pauses, resumes and cancels a training that runs, which its name’s page shows', async () => {
  const { page } = rig;
  await rig.open('#/new-training');
  await page.getByLabel('Choose a file of rows').setInputFiles(file('rows.jsonl', ROWS));
  await page.getByLabel('Name of the result').fill(`${NAME}/child`);
  await page.getByLabel('Train on').fill(`${NAME}@1`);
  await page.getByText('More settings').click();
  await page.getByLabel('Steps at least').fill('1000000');
  await start().click();
  await page.getByText('It waits for a free origin').waitFor();
  await rig.look('training-waiting');
  await state('running').waitFor();
  await page.getByText(/^Step [\d,]+ of 1,000,000, about \d+ (min|h|d) left$/).waitFor();
  await page.getByRole('progressbar', { name: 'Steps' }).waitFor();
  await page.getByText(`Trains on ${NAME}@1`).waitFor();
  await rig.look('training-running');
  await page.getByRole('button', { name: 'Pause' }).click();
  await state('paused').waitFor();
  await rig.look('training-paused');
  await page.getByRole('button', { name: 'Resume' }).click();
  await state('running').waitFor();

  await rig.goTo('Adapters');
  await page.getByRole('link', { name: 'child' }).click();
  await page.getByText('A new version is being trained.').waitFor();
  await rig.look('adapter-in-training');

  await rig.goTo('Training');
  const rows = page.getByRole('region', { name: 'Trainings' }).getByRole('row');
  expect(await rows.nth(1).innerText()).toContain(`${NAME}/child`);
  expect(await rows.nth(2).innerText()).toContain(`${NAME}@3`);
  await rig.look('trainings');
  await page.getByRole('link', { name: `${NAME}/child`, exact: true }).click();
  await page.getByRole('button', { name: 'Cancel it' }).click();
  await page.getByText('what is trained so far is deleted').waitFor();
  await rig.look('training-cancel');
  await rig.confirm('End the training');
  await state('cancelled').waitFor();
  await page.getByText('There is no result.').waitFor();
  await page.getByRole('link', { name: 'Train again' }).click();
  expect(await page.getByLabel('Name of the result').inputValue()).toBe(`${NAME}/child`);
  expect(await page.getByLabel('Train on').inputValue()).toBe(`${NAME}@1`);
});

it('recognizes rows with labels, trains a classifier, and tries it', async () => {
  const { page } = rig;
  await rig.open('#/new-training');
  const labelled = Array.from({ length: 24 }, (_, at) =>
    JSON.stringify({
      text: `${at} ${at % 2 === 0 ? 'rain' : 'bread'}`,
      label: at % 2 === 0 ? 'weather' : 'food',
    }),
  );
  await drop(file('mixed.jsonl', [labelled[0]!, ROWS[0]!]));
  const problems = page.getByRole('region', { name: 'Problems of the rows' });
  await problems.getByText('The row has no label, unlike others.').waitFor();
  await drop(file('labels.jsonl', labelled));
  await page.getByText('A classifier of 2 classes, asked at /v1/classify: food, weather.').waitFor();
  await page.getByLabel('Name of the result').fill(`${NAME}-topic`);
  await page.getByText('More settings').click();
  await page.getByLabel('Learning rate factor').fill('5');
  await rig.look('train-classifier');
  await start().click();
  await page.getByText(`${NAME}-topic@1 is`).waitFor();
  await page.getByLabel('Text to classify').fill('7 bread');
  await page.getByRole('button', { name: 'Classify it' }).click();
  await page.getByText(/^“7 bread”: food, \d+/).waitFor();
  expect(await page.getByRole('link', { name: /^Try it beside/ }).count()).toBe(0);
  await rig.look('classifier-tried');
});

it('says why a training failed, and what to do', async () => {
  const { page } = rig;
  await rig.open(`#/new-training?name=${NAME}/child`);
  await page.getByLabel('Choose a file of rows').setInputFiles(file('rows.jsonl', ROWS));
  await page.getByText('More settings').click();
  await page.getByLabel('Longest row, tokens').fill('16');
  await start().click();
  await state('failed').waitFor();
  const why = page.getByRole('alert').filter({ hasText: 'The training failed.' });
  await why.getByText('No row can be used; line 1: The row has more than 16 tokens.').waitFor();
  await why.getByText('Use shorter rows').waitFor();
  await rig.look('training-failed');
  // What the edge refuses stands beside its field, and the rows are not sent twice.
  await why.getByRole('link', { name: 'Train again' }).click();
  await page.getByLabel('Choose a file of rows').setInputFiles(file('rows.jsonl', ROWS));
  await page.getByLabel('Train on').fill('nobody/there');
  await start().click();
  await page.getByRole('alert').filter({ hasText: 'nobody/there' }).waitFor();
  const sent: string[] = [];
  page.on('request', (request) => sent.push(new URL(request.url()).pathname));
  await page.getByLabel('Train on').fill('base');
  await page.getByLabel('Name of the result').fill('first/of-all');
  await page.getByText('More settings').click();
  await page.getByLabel('Checkpoints').selectOption('epochs');
  await start().click();
  await page.getByText('first/of-all@3 is staged.').waitFor();
  const steps = page.getByRole('region', { name: 'Checkpoints' }).getByRole('row');
  await steps.nth(3).waitFor();
  expect(await steps.allInnerTexts()).toEqual([
    expect.stringMatching(/^Version/),
    expect.stringMatching(/^first\/of-all@3\s+60\s+\d.*Beside the base$/),
    expect.stringMatching(/^first\/of-all@2\s+40\s+\d.*Beside the result$/),
    expect.stringMatching(/^first\/of-all@1\s+20\s+\d.*Beside the result$/),
  ]);
  await rig.look('training-checkpoints');
  expect(sent).not.toContain('/v1/files');
  // Nothing is live to compare it with.
  await page.getByRole('link', { name: 'Try it beside the base' }).waitFor();
  await page.getByRole('button', { name: 'Promote' }).click();
  await rig.confirm('Promote');
  await page.getByText('first/of-all@3 is live.').waitFor();
  await rig.look('training-promoted');
});

it('starts it also for whoever has left the form, and leaves them where they are', async () => {
  const { page } = rig;
  await rig.open('#/new-training');
  await page.getByLabel('Choose a file of rows').setInputFiles(file('rows.jsonl', ROWS));
  await page.getByLabel('Name of the result').fill('left/behind');
  let letIn = (): void => undefined;
  const sending = new Promise<void>((resolve) => (letIn = resolve));
  await page.route('**/v1/files', async (route) => {
    await sending;
    await route.continue();
  });
  await start().click();
  await page.getByText('Sending the rows …').waitFor();
  await rig.goTo('Usage');
  letIn();
  await page.getByText('The training of left/behind is created.').waitFor();
  await page.getByRole('heading', { name: 'Usage', level: 1 }).waitFor();
  await page.unrouteAll();
});

it('tells a key that may not train who gives it the right', async () => {
  const { page, stack } = rig;
  const made = await stack.graft('keys', 'create', '--admin', '--tenant', 'acme', '--json');
  const key = JSON.parse(made.stdout) as NewKey;
  await page.getByRole('button', { name: 'Sign out' }).click();
  await rig.signIn(key.key);
  await rig.goTo('Training');
  await page.getByText('This key may not train.').waitFor();
  await page.getByText(`graft keys change ${key.id} --train`).waitFor();
  expect(await page.getByRole('link', { name: 'Train an adapter' }).count()).toBe(0);
  await rig.look('training-no-right');
  const given = await stack.graft('keys', 'change', key.id, '--train');
  expect(given.stderr + given.stdout).not.toContain('error');
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByText('Nothing has been trained yet.').waitFor();
  await page.getByRole('link', { name: 'Train an adapter' }).click();
  await page.getByLabel('Choose a file of rows').waitFor();
  expect(rig.complaints).toEqual([]);
});
