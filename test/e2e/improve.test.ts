/** `graft improve` as a process, on a stack with a tiny base: from users' decisions to a running experiment. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Finished, startGraft } from './graft-process.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

const NAME = 'me/first';
/** Enough to learn a few answers in a few seconds. */
const QUICK = ['--rank', '4', '--rate', '0.02', '--least-steps', '30', '--epochs', '1', '--val', '0'];
const USERS = 22;

let stack: TinyStack;
let key: string;

const graft = (...args: string[]): Promise<Finished> =>
  startGraft(args, {
    cwd: stack.folder,
    env: {
      GRAFT_CACHE: path.join(stack.folder, 'cache'),
      XDG_CONFIG_HOME: path.join(stack.folder, 'config'),
    },
  }).finished;
const json = async (...args: string[]): Promise<unknown> => {
  const { code, stdout, stderr } = await graft(...args, '--json');
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
};
const post = async (route: string, body: object): Promise<{ id: string; answer: string }> => {
  const response = await fetch(stack.local.url + route, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const said = (await response.json()) as { choices?: [{ message: { content: string } }] };
  if (!response.ok) throw new Error(JSON.stringify(said));
  return {
    id: response.headers.get('x-request-id') ?? '',
    answer: said.choices?.[0].message.content ?? '',
  };
};
/** Each sees two answers, of which the first is better. @returns how many differed. */
async function decide(from: number, to: number): Promise<number> {
  let decided = 0;
  for (let user = from; user < to; user += 1) {
    const ask = (seed: number) =>
      post('/v1/chat/completions', {
        ...{ model: NAME, user: `user-${user}`, temperature: 2, max_tokens: 8, seed },
        messages: [{ role: 'user', content: `question ${user}?` }],
      });
    const [one, other] = [await ask(2 * user), await ask(2 * user + 1)];
    if (one.answer.trim() === other.answer.trim() || one.answer.trim() === '') continue;
    await post('/v1/preferences', { chosen: one.id, rejected: other.id });
    decided += 1;
  }
  return decided;
}

beforeAll(async () => {
  stack = await startTinyStack();
  const rows = [
    { user: 'sky?', expected: 'blue' },
    { user: 'snow?', expected: 'white' },
  ];
  await writeFile(path.join(stack.folder, 'rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
  await json('train', 'rows.jsonl', '--name', NAME, '--base', 'tiny-base', ...QUICK);
  await json('promote', `${NAME}@1`);
  ({ key } = (await json('keys', 'create', '--keep-prompts', '1h', '--improve')) as { key: string });
});
afterAll(() => stack.remove());

it('says how many are missing, and trains nothing', async () => {
  await decide(0, 3);
  const end = await graft('improve', NAME, '--base', 'tiny-base', '--yes', ...QUICK);
  expect(end.code).toBe(5);
  expect(end.stderr).toMatch(/new rows? since me\/first@1: at least 20 are needed\. Report which answers/);
});

it('shows and writes rows, asks, trains on the live version, and starts the experiment', async () => {
  await decide(3, USERS + 6);
  // Prompts are written within seconds.
  let end: Finished | null = null;
  await expect
    .poll(
      async () => {
        end = await graft('improve', NAME, '--out', 'made.jsonl', '--force');
        return end.code === 0
          ? (await readFile(path.join(stack.folder, 'made.jsonl'), 'utf8')).split('\n').length
          : 0;
      },
      { interval: 500 },
    )
    .toBeGreaterThan(20);
  expect(end!.stderr).toMatch(/me\/first: \d+ rows of \d+ users, \d+ decided by users and 0 by judges/);
  expect(end!.stderr).toMatch(/ {2}user: question \d+\?\n {2}assistant: /);
  const file = path.join(stack.folder, 'made.jsonl');
  if (process.platform !== 'win32') expect((await stat(file)).mode & 0o077).toBe(0);
  const [first] = (await readFile(file, 'utf8')).split('\n');
  expect(JSON.parse(first!)).toMatchObject({ messages: [{ role: 'user' }, { role: 'assistant' }] });

  const flags = ['--base', 'tiny-base', '--start', '--metric', 'right:proportion:up', ...QUICK];
  // --yes was given for the name before; --ask takes it back.
  const unasked = await graft('improve', NAME, '--ask', ...flags);
  expect(unasked).toMatchObject({
    code: 5,
    stderr: expect.stringMatching(/on top of me\/first@1\?\nNo terminal to confirm at\. Add --yes/) as string,
  });
  const improved = (await json('improve', NAME, '--yes', ...flags)) as { rows: number };
  const { rows } = improved;
  expect(rows).toBeGreaterThanOrEqual(20);
  expect(improved).toMatchObject({
    ...{ name: NAME, version: 2, live: false, rank: 8, new_rows: rows },
    training: {
      rows: { trained: rows },
      settings: { continues: true },
      continued: { sum_rank: 8, relative_error: 0 },
      prompts: { rows, users: rows, by_users: rows, by_judges: 0 },
    },
    experiment: {
      document: {
        status: 'running',
        variants: [{ adapter: `${NAME}@1` }, { adapter: `${NAME}@2` }],
        metrics: [{ key: 'right' }],
      },
    },
  });
  // Nothing of what was said stays on this machine, and nothing is in the card.
  const { versions } = (await json('versions', NAME)) as { versions: object[] };
  expect(JSON.stringify(versions)).not.toContain('question');
  expect((await graft('improve', NAME, '--yes', ...flags)).stderr).toMatch(
    /Its result decides first: graft experiment status/,
  );
});

it('stays with --every, says why it does not train, and ends with Ctrl-C', async () => {
  const env = {
    GRAFT_CACHE: path.join(stack.folder, 'cache'),
    XDG_CONFIG_HOME: path.join(stack.folder, 'config'),
  };
  const staying = startGraft(['improve', NAME, '--every', '1h', '--base', 'tiny-base'], {
    cwd: stack.folder,
    env,
  });
  let said = '';
  await new Promise<void>((resolve) => {
    staying.child.stderr?.on('data', (text: string) => {
      said += text;
      if (said.includes('again at')) resolve();
    });
  });
  expect(said).toMatch(/Its result decides first.*\nagain at 20/);
  staying.child.kill('SIGINT');
  expect((await staying.finished).code).toBe(130);
  const wrong = await graft('improve', NAME, '--every', '5s');
  expect(wrong).toMatchObject({
    code: 2,
    stderr: expect.stringMatching(/--every 5s is not from 1m to 24d/) as string,
  });
});

it('asks before others may use what was made from prompts', async () => {
  const asked = await graft('grant', NAME, '--public');
  expect(asked).toMatchObject({
    code: 5,
    stderr: expect.stringMatching(/me\/first@2 was made from prompts/) as string,
  });
  expect(await json('grant', NAME, '--public', '--made-from-prompts')).toMatchObject({ created: true });
});
