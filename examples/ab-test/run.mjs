// A/B test of two versions of one adapter, from the first user to the last: `node examples/ab-test/run.mjs`, in the
// folder where `npm start` runs. README.md beside this file shows what it prints.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** `npm start` publishes both. */
const NAME = 'support/intent';
const CONTROL = `${NAME}@1`;
const TREATMENT = `${NAME}@2`;
const USERS = 400;
const USERS_A_LOOK = 20;
/** Users who ask at the same time. */
const AT_ONCE = 16;
/** The longest expected answer is shorter. */
const MAX_TOKENS = 48;
/** What was just read is remembered for a second. */
const SEEN_MS = 2_000;
/** What an experiment without a ramp needs before its winner is proposed. */
const MIN_UNITS = 200;
/** Who gets what follows from it, so it is the same each time. Left out, there is a random one. */
const SEED = 'ab-test';

const here = path.dirname(fileURLToPath(import.meta.url));
const local = JSON.parse(readFileSync('.graft/local.json', 'utf8'));
const rows = readFileSync(path.join(here, 'rows.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));

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
    if (response.ok) return { answer, headers: response.headers };
    if (response.status !== 503 || tries === 4)
      stop(`${method} ${url}: ${response.status} ${answer.error?.message}`);
    await sleep(1_000);
  }
}
const admin = async (method, url, body) => (await send(method, `/admin${url}`, local.adminKey, body)).answer;

const ask = ({ user: content }, user) =>
  send('POST', '/v1/chat/completions', local.key, {
    ...{ model: NAME, user, temperature: 0, max_tokens: MAX_TOKENS },
    messages: [{ role: 'user', content }],
  });

/** Share of the expected fields that the answer has. */
function score(text, expected) {
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    return 0;
  }
  const wanted = Object.entries(JSON.parse(expected));
  return wanted.filter(([key, value]) => answer?.[key] === value).length / wanted.length;
}

/** Everyone asks about something else, every other user twice. */
const questionsOf = (i) =>
  [rows[(2 * i) % rows.length], rows[(2 * i + 1) % rows.length]].slice(0, 1 + (i % 2));

/** Asks and says how good the answers were. */
async function playUser(i) {
  for (const row of questionsOf(i)) {
    const { answer, headers } = await ask(row, `user-${i}`);
    if (!headers.has('x-graft-variant')) stop(`user-${i} is not in the experiment`);
    const value = score(answer.choices[0].message.content, row.expected);
    await send('POST', '/v1/feedback', local.key, { id: answer.id, metric: 'fields', value });
  }
}

/** @param users their numbers. */
async function together(users, play) {
  const waiting = [...users];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let user = waiting.shift(); user !== undefined; user = waiting.shift()) await play(user);
    }),
  );
}
const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

const percent = (value) => `${(100 * value).toFixed(0)} %`;
const points = (value) => (100 * value).toFixed(0);

const { experiments } = await admin('GET', `/experiments?name=${NAME}`);
for (const { id, document } of experiments) {
  if (document.status === 'archived') continue;
  if (document.status !== 'decided' && document.status !== 'draft')
    stop(`the experiment ${id} is ${document.status}; \`graft experiment stop ${NAME}\` ends it`);
  await admin('POST', `/experiments/${id}/archive`, {});
}

const { versions } = await admin('GET', `/versions?name=${NAME}`);
for (const version of [1, 2])
  if (!versions.some((row) => row.version === version && row.retired_at == null))
    stop(`${NAME} has no version ${version}; run \`npm start\` in a new folder`);
await admin('POST', '/promote', { name: NAME, version: 1, why: 'A/B test from the start' });
console.log(`${CONTROL} is live, ${TREATMENT} is the treatment`);
// Control is the live version, half of the users each, and what guards most experiments guards this one.
const graft = path.join(here, '../../bin/graft.mjs');
const flags = ['--metric', 'fields:proportion:up', '--expect-units', '10k', '--seed', SEED, '--start'];
const create = [graft, 'experiment', 'create', NAME, '@2', ...flags];
const made = await promisify(execFile)(process.execPath, create).catch((error) => stop(error.message));
console.log(made.stdout.trimEnd());
const { experiments: all } = await admin('GET', `/experiments?name=${NAME}`);
const { id } = all.find(({ document }) => document.status === 'running');
await sleep(SEEN_MS);

let winner = null;
let asked = 0;
while (asked < USERS && winner === null) {
  await together(range(asked, asked + USERS_A_LOOK), playUser);
  asked += USERS_A_LOOK;
  const { evaluation } = await admin('POST', `/experiments/${id}/evaluate`, {});
  const { units, decision, comparisons } = evaluation;
  const [comparison] = comparisons;
  const difference = comparison?.difference;
  const shown =
    difference == null
      ? 'no difference to show'
      : `${percent(comparison.control.mean)} against ${percent(comparison.treatment.mean)}, ` +
        `difference ${points(difference.low)} to ${points(difference.high)} points`;
  const why = decision.reason ?? decision.variant ?? '';
  console.log(`units ${units.control ?? 0} + ${units.treatment ?? 0}: ${shown}: ${decision.action} (${why})`);
  const total = Object.values(units).reduce((sum, count) => sum + count, 0);
  if (decision.action === 'propose_winner') {
    if (total < MIN_UNITS) stop(`called with ${total} units`);
    winner = decision.variant;
  } else if (decision.action !== 'wait') stop(`the decision is to ${decision.action}`);
}
if (winner !== 'treatment') stop(`the winner is ${winner ?? 'open'}`);

await admin('POST', `/experiments/${id}/promote`, {});
console.log(`promoted: ${NAME} is ${TREATMENT} for everybody`);
if (asked === USERS) process.exit();
await sleep(SEEN_MS);
let right = 0;
await together(range(asked, USERS), async (i) => {
  const [row] = questionsOf(i);
  const { answer, headers } = await ask(row, `user-${i}`);
  const served = headers.get('x-graft-adapter');
  if (served !== TREATMENT || headers.get('x-graft-experiment') !== null)
    stop(`user-${i} was answered by ${served}`);
  right += score(answer.choices[0].message.content, row.expected);
});
console.log(
  `users ${asked + 1} to ${USERS}: all by ${TREATMENT}, ${percent(right / (USERS - asked))} of fields right`,
);
