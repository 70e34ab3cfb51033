// The same two versions by judged pairs: nobody gets version 2, nobody rates, and no user is named:
// `node examples/ab-test/pairs.mjs`, in the folder where `npm start` runs. README.md shows what it prints.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const NAME = 'support/intent';
const CONTROL = `${NAME}@1`;
const TREATMENT = `${NAME}@2`;
const MAX_PROMPTS = 80;
const PROMPTS_A_LOOK = 8;
/** Asked at the same time. */
const AT_ONCE = 2;
/** The longest expected answer is shorter. */
const MAX_TOKENS = 48;
/** What was just read is remembered for a second. */
const SEEN_MS = 2_000;
/** A pair that is not judged by then was left out. */
const JUDGED_MS = 20_000;

const here = path.dirname(fileURLToPath(import.meta.url));
const local = JSON.parse(readFileSync('.graft/local.json', 'utf8'));
const prompts = readFileSync(path.join(here, 'rows.jsonl'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line).user);

let judge = null;
const stop = (why) => {
  judge?.kill();
  console.error(`not as expected: ${why}`);
  process.exit(1);
};

async function send(method, url, key, body) {
  const response = await fetch(local.url + url, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer = await response.json();
  if (!response.ok) stop(`${method} ${url}: ${response.status} ${answer.error?.message}`);
  return { answer, headers: response.headers };
}
const admin = async (method, url, body) => (await send(method, `/admin${url}`, local.adminKey, body)).answer;

/** A port for the judge, whose address the experiment has before the judge has its secret. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

const { experiments } = await admin('GET', `/experiments?name=${NAME}`);
for (const { id, document } of experiments) {
  if (document.status === 'archived') continue;
  if (document.status !== 'decided' && document.status !== 'draft')
    stop(`the experiment ${id} is ${document.status}; \`graft experiment stop ${NAME}\` ends it`);
  await admin('POST', `/experiments/${id}/archive`, {});
}
await admin('POST', '/promote', { name: NAME, version: 1, why: 'judged pairs from the start' });
console.log(`${CONTROL} is live, ${TREATMENT} answers beside`);

const port = await freePort();
const { id } = await admin('POST', '/experiments', {
  name: NAME,
  variants: [
    { key: 'control', adapter: CONTROL, weight: 0.5 },
    { key: 'treatment', adapter: TREATMENT, weight: 0.5 },
  ],
  coverage: 0,
  shadow: { adapter: TREATMENT, sample: 1 },
  judge: { url: `http://127.0.0.1:${port}/` },
});
const { secret } = await admin('GET', `/experiments/${id}/judge-secret`);
judge = spawn(process.execPath, [path.join(here, 'judge.mjs')], {
  env: { ...process.env, JUDGE_SECRET: secret, JUDGE_PORT: String(port) },
  stdio: ['ignore', 'pipe', 'inherit'],
});
await once(judge.stdout, 'data');
await admin('POST', `/experiments/${id}/start`, {});
console.log(`experiment ${id} runs, judge.mjs judges`);
await sleep(SEEN_MS);

const look = async () => (await admin('POST', `/experiments/${id}/evaluate`, {})).evaluation;
const judged = ({ wins, ties, losses, failures }) =>
  wins + ties + losses + Object.values(failures).reduce((sum, count) => sum + count, 0);

/** Few at a time: a shadow runs only where there is room. */
async function ask(content) {
  const { headers } = await send('POST', '/v1/chat/completions', local.key, {
    ...{ model: NAME, temperature: 0, max_tokens: MAX_TOKENS },
    messages: [{ role: 'user', content }],
  });
  const served = headers.get('x-graft-adapter');
  if (served !== CONTROL || headers.get('x-graft-variant') !== null) stop(`a user got ${served}`);
}

const percent = (value) => `${(100 * value).toFixed(0)} %`;
let decision = null;
let known = 0;
for (let asked = 0; asked < MAX_PROMPTS && decision?.action !== 'propose_winner'; asked += PROMPTS_A_LOOK) {
  let evaluation = null;
  for (let from = asked; from < asked + PROMPTS_A_LOOK; from += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => ask(prompts[(from + i) % prompts.length])));
    const until = Date.now() + JUDGED_MS;
    do {
      await sleep(200);
      evaluation = await look();
    } while (judged(evaluation.pairs) < known + AT_ONCE && Date.now() < until);
    known = judged(evaluation.pairs);
  }
  const { wins, ties, losses, win_rate: rate, failures } = evaluation.pairs;
  if (Object.keys(failures).length > 0) stop(`not judged: ${JSON.stringify(failures)}`);
  decision = evaluation.decision;
  const shown = rate === null ? '' : `, ${percent(rate.low)} to ${percent(rate.high)} of wins`;
  const why = decision.reason ?? decision.variant ?? '';
  console.log(`${wins} won, ${ties} tied, ${losses} lost${shown}: ${decision.action} (${why})`);
}
if (decision?.action !== 'propose_winner' || decision.variant !== 'treatment')
  stop(`the winner is ${decision?.variant ?? 'open'}`);

await admin('POST', `/experiments/${id}/promote`, {});
console.log(`promoted: ${NAME} is ${TREATMENT} for everybody`);
judge.kill();
