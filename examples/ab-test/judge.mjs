// An application that judges pairs of answers: it knows what is right, and says which answer has more of it.
// `pairs.mjs` starts it; alone: `JUDGE_SECRET=whsec_… node examples/ab-test/judge.mjs` with the secret that
// `graft experiment secret support/intent` prints.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const secret = Buffer.from((process.env.JUDGE_SECRET ?? '').replace(/^whsec_/, ''), 'base64');
if (secret.length === 0) throw new Error('JUDGE_SECRET is not set');
/** An older call is somebody's who has caught one. */
const MAX_AGE_S = 300;
const MAX_BYTES = 1024 * 1024;

/** What is expected, by what the user asks. */
const expected = new Map(
  readFileSync(path.join(here, 'rows.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .map((row) => [row.user, JSON.parse(row.expected)]),
);

/** As Standard Webhooks has it; one of several signatures is enough. */
function isGenuine(headers, body) {
  const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signatures = '' } = headers;
  if (!(Math.abs(Date.now() / 1000 - Number(at)) <= MAX_AGE_S)) return false;
  const right = Buffer.from(createHmac('sha256', secret).update(`${id}.${at}.${body}`).digest('base64'));
  return signatures.split(' ').some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ''));
    return given.length === right.length && timingSafeEqual(given, right);
  });
}

/** How many of the expected fields an answer has. */
function score(text, fields) {
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    return 0;
  }
  return Object.entries(fields).filter(([key, value]) => answer?.[key] === value).length;
}

function judge({ prompt, answers }) {
  const fields = expected.get(prompt.at(-1).content);
  // Nothing but a choice counts: of what it cannot judge it says nothing.
  if (fields === undefined) return {};
  const [a, b] = [score(answers.a, fields), score(answers.b, fields)];
  return { choice: a === b ? 'tie' : a > b ? 'a' : 'b' };
}

const server = createServer(async (request, response) => {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) return void response.writeHead(413).end();
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks).toString();
  if (!isGenuine(request.headers, body)) return void response.writeHead(401).end();
  response.setHeader('content-type', 'application/json').end(JSON.stringify(judge(JSON.parse(body))));
});
server.listen(Number(process.env.JUDGE_PORT ?? 0), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/`);
});
