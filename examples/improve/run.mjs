// Improves an adapter until it is good, with simulated users: `node examples/improve/run.mjs`, in the folder where
// `npm start` runs. README.md beside this file shows what it prints.
//   --rounds N    at most, default 3
//   --plot FILE   also draws the shares of right answers as an SVG
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { CHOICES, messages } from './messages.mjs';
import { plot } from './plot.mjs';

const NAME = 'support/triage';
/** At the beginning fewer are right, at the end more. */
const AT_FIRST = 0.6;
const GOAL = 0.85;
/** Messages that decide nothing and that nobody is trained on. */
const TESTED = 100;
/** Decisions of one round, and users who are asked for them at most. */
const DECISIONS = 80;
const MAX_ASKED = 400;
/** Answers that a user sees who wants a right one, and how different they are. */
const MOST_ANSWERS = 6;
const TEMPERATURE = 1.2;
const USERS_A_LOOK = 20;
const MAX_IN_EXPERIMENT = 600;
/** Users who ask at the same time. */
const AT_ONCE = 16;
/** What was just read is remembered for a second, what was kept is written within 5 s, a new key is known within a minute. */
const SEEN_MS = 2_000;
const KEPT_MS = 6_000;

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, plot: { type: 'string' } },
});
const here = path.dirname(fileURLToPath(import.meta.url));
const local = JSON.parse(readFileSync('.graft/local.json', 'utf8'));
const percent = (share) => `${(100 * share).toFixed(0)} %`;
const stop = (why) => {
  console.error(`not as expected: ${why}`);
  process.exit(1);
};

/** Sends JSON. A server that is busy says 503, and that the same request may be sent again. */
async function send(method, url, key, body) {
  for (let tries = 1; ; tries++) {
    const response = await fetch(local.url + url, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const answer = await response.json();
    if (response.ok) return { answer, id: response.headers.get('x-request-id') };
    if (response.status !== 503 || tries === 8)
      stop(`${method} ${url}: ${response.status} ${answer.error?.message}`);
    await sleep(1_000);
  }
}
const admin = async (method, url, body) => (await send(method, `/admin${url}`, local.adminKey, body)).answer;
async function graft(...args) {
  const run = promisify(execFile)(process.execPath, [path.join(here, '../../bin/graft.mjs'), ...args]);
  return (await run.catch((error) => stop(error.message))).stdout;
}

// The application's key: what it asks is kept, and may improve adapters.
const key = (await admin('POST', '/keys', { label: 'examples/improve', keep_prompts: 24, improve: true }))
  .key;

async function ask(message, user, temperature, model = NAME) {
  const { answer, id } = await send('POST', '/v1/chat/completions', key, {
    ...{ model, user, temperature, structured_outputs: { choice: CHOICES } },
    messages: [{ role: 'user', content: message.user }],
  });
  return { id, answer: answer.id, right: answer.choices[0].message.content.trim() === message.expected };
}

/** Some at a time. */
async function together(items, play) {
  const waiting = [...items];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await play(item);
    }),
  );
}

/** Share of the tested messages that a version answers rightly. */
async function test(model) {
  let right = 0;
  await together(messages(7, TESTED), async (message) => {
    if ((await ask(message, 'tester', 0, model)).right) right += 1;
  });
  return right / TESTED;
}

/** Users see two answers, or more until one is right, and report it as better than a wrong one. */
async function collect(round) {
  let decided = 0;
  let asked = 0;
  while (decided < DECISIONS && asked < MAX_ASKED) {
    const some = messages(1_000 * round + asked, AT_ONCE).map((message, i) => [message, asked + i]);
    await together(some, async ([message, number]) => {
      const again = () => ask(message, `user-${round}-${number}`, TEMPERATURE);
      const answers = await Promise.all([again(), again()]);
      while (answers.length < MOST_ANSWERS && !answers.some(({ right }) => right))
        answers.push(await again());
      const [good, bad] = [true, false].map((wanted) => answers.find(({ right }) => right === wanted));
      if (good === undefined || bad === undefined) return;
      await send('POST', '/v1/preferences', key, { chosen: good.id, rejected: bad.id });
      decided += 1;
    });
    asked += AT_ONCE;
  }
  return { decided, asked };
}

/** Users ask and rate, until the experiment says what is better. */
async function experiment(round, id) {
  for (let asked = 0; asked < MAX_IN_EXPERIMENT; asked += USERS_A_LOOK) {
    const some = messages(100_000 * round + asked, USERS_A_LOOK).map((message, i) => [message, asked + i]);
    await together(some, async ([message, number]) => {
      const { answer, right } = await ask(message, `visitor-${round}-${number}`, 0);
      await send('POST', '/v1/feedback', key, { id: answer, metric: 'right', value: right ? 1 : 0 });
    });
    const { evaluation } = await admin('POST', `/experiments/${id}/evaluate`, {});
    const { decision, comparisons, units } = evaluation;
    const [{ control, treatment } = {}] = comparisons;
    const shown =
      control === undefined ? '' : `: ${percent(control.mean)} right against ${percent(treatment.mean)}`;
    if (decision.action === 'propose_winner') {
      console.log(`  ${asked + USERS_A_LOOK} users${shown}: ${decision.variant} wins`);
      return decision.variant;
    }
    if (decision.action !== 'wait') stop(`the decision is to ${decision.action} (${JSON.stringify(units)})`);
  }
  return null;
}

if (
  (
    await fetch(`${local.url}/admin/versions?name=${NAME}`, {
      headers: { authorization: `Bearer ${local.adminKey}` },
    })
  ).ok
)
  stop(`${NAME} exists already; run this in a new folder`);
console.log('training a first version on 8 rows');
const few = ['--val', '0', '--epochs', '1', '--least-steps', '8'];
await graft('train', path.join(here, 'first.jsonl'), '--name', NAME, ...few);
await graft('promote', `${NAME}@1`);
await sleep(SEEN_MS);
const shares = [await test(NAME)];
console.log(`${NAME}@1 is live: ${percent(shares[0])} of ${TESTED} answers are right`);
if (shares[0] >= AT_FIRST) stop('the first version is too good');

for (let round = 1; round <= Number(values.rounds) && shares.at(-1) < GOAL; round++) {
  const { decided, asked } = await collect(round);
  console.log(`round ${round}: ${decided} of ${asked} users preferred one answer to another`);
  await sleep(KEPT_MS);
  const improve = ['--yes', '--start', '--metric', 'right:proportion:up', '--expect-units', '10k'];
  const training = ['--val', '0', '--epochs', '2', '--least-steps', '24'];
  const made = JSON.parse(await graft('improve', NAME, ...improve, ...training, '--json'));
  console.log(`  trained ${NAME}@${made.version} on ${made.rows} rows, ${made.new_rows} of them new`);
  await sleep(SEEN_MS);
  if ((await experiment(round, made.experiment.id)) !== 'treatment') stop('the new version did not win');
  await admin('POST', `/experiments/${made.experiment.id}/promote`, {});
  await sleep(SEEN_MS);
  shares.push(await test(NAME));
  console.log(`  ${NAME}@${made.version} is live: ${percent(shares.at(-1))} of ${TESTED} answers are right`);
}
if (values.plot !== undefined) writeFileSync(values.plot, plot(shares, { from: AT_FIRST, goal: GOAL }));
if (shares.at(-1) < GOAL) stop(`after ${shares.length - 1} rounds ${percent(shares.at(-1))} are right`);
