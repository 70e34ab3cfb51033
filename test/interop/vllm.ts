/**
 * `npm run interop -- vllm <url> <folder of its base>`: a real vLLM against what `test/fakes/fake-vllm.ts` says of it,
 * and an origin in front of it against an origin that runs the same base in float32 itself. README.md says how.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Table from 'cli-table3';
import OpenAI from 'openai';
import { z } from 'zod';
import { startOrigin, type OriginProcess } from '../../cli/local/origin-process.ts';
import { LOOPBACK, needFreePort } from '../../cli/local/ports.ts';
import { exampleFolder, inParallel } from '../check/edge-stack.ts';
import { checkForms } from './vllm-forms.ts';
import { checkServing } from './vllm-serving.ts';

/** Rows of each task that are asked, unless it is said how many. */
const ROWS = 40;
const TOKENS = 32;
const CHAINS = {
  medicine: 'medicine',
  cardiology: 'cardiology',
  'dr-lee': 'dr-lee',
  'intent-v1': 'intent',
  'intent-v2': 'intent',
} as const;
const PARENTS = { cardiology: 'medicine', 'dr-lee': 'cardiology' };

const Row = z.object({ user: z.string(), expected: z.string() });
const rowsOf = (task: string, rows: number) =>
  readFileSync(new URL(`../fixtures/tasks/${task}.jsonl`, import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .slice(0, rows)
    .map((line) => Row.parse(JSON.parse(line)));

async function start(
  base: string,
  flags: readonly string[],
): Promise<{ origin: OriginProcess; client: OpenAI }> {
  const port = await needFreePort({ port: 0, what: 'origin', flag: '--port' });
  const cache = mkdtempSync(path.join(tmpdir(), 'graft-vllm-'));
  const adapters = Object.keys(CHAINS).flatMap((name) => ['--adapter', `${name}=${exampleFolder(name)}`]);
  const parents = Object.entries(PARENTS).flatMap(([name, parent]) => ['--parent', `${name}=${parent}`]);
  const common = ['--dev', '--base', base, '--base-id', 'smollm2-135m-instruct', '--cache', cache];
  const origin = await startOrigin({
    args: [...common, '--port', String(port), ...adapters, ...parents, ...flags],
    env: {},
  });
  const stop = async () => {
    await origin.stop();
    rmSync(cache, { recursive: true, force: true });
  };
  const client = new OpenAI({ baseURL: `http://${LOOPBACK}:${port}/v1`, apiKey: 'unused', maxRetries: 0 });
  return { origin: { ...origin, stop }, client };
}

const answer = async (client: OpenAI, model: string, user: string): Promise<string> => {
  const { choices } = await client.chat.completions.create({
    ...{ model, temperature: 0, max_tokens: TOKENS },
    messages: [{ role: 'user', content: user }],
  });
  return choices[0]?.message.content ?? '';
};

/** What the fake says of vLLM, asked of a real one. @returns what is otherwise. */
async function quirks(url: string): Promise<string[]> {
  const problems: string[] = [];
  const send = async (place: string, body?: object) => {
    const response = await fetch(`${url}${place}`, {
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
      headers: { 'content-type': 'application/json' },
    });
    return { status: response.status, text: await response.text() };
  };
  const expectThat = (what: string, is: boolean, seen: unknown): void => {
    console.log(`${is ? 'as the fake' : 'OTHERWISE'}: ${what}`);
    if (!is) problems.push(`${what}: ${JSON.stringify(seen).slice(0, 400)}`);
  };
  const models = await send('/v1/models');
  const Listed = z.object({
    data: z.array(
      z.object({ id: z.string(), parent: z.string().nullable(), max_model_len: z.int().nullish() }),
    ),
  });
  const listed = Listed.parse(JSON.parse(models.text)).data;
  const base = listed.find(({ parent }) => parent === null);
  expectThat('the base has no parent, and a length', base?.max_model_len != null, models);
  const unknown = await send('/v1/unload_lora_adapter', { lora_name: 'no-such-adapter' });
  expectThat(
    'an unknown adapter is not unloaded: 404 with its name',
    unknown.status === 404 && unknown.text.includes('cannot be found'),
    unknown,
  );
  const lost = await send('/v1/completions', { model: 'no-such-model', prompt: [5], max_tokens: 1 });
  expectThat('an unknown model is 404', lost.status === 404 && lost.text.includes('does not exist'), lost);
  const common = { model: base?.id, prompt: [504, 1343, 282], max_tokens: 3, temperature: 0 };
  const streamed = await send('/v1/completions', {
    ...{ ...common, stream: true, logprobs: 2, return_token_ids: true, return_tokens_as_token_ids: true },
    ...{ add_special_tokens: false, cache_salt: 'salt', ignore_eos: true },
  });
  const ids = [...streamed.text.matchAll(/"token_ids":\[([\d,]*)\]/g)].flatMap(([, list]) =>
    (list ?? '').split(','),
  );
  expectThat('a stream has the ids of its tokens', ids.length === 3, streamed);
  expectThat(
    'tokens with scores are written as token_id:<id>',
    /"tokens":\["token_id:\d+"/.test(streamed.text),
    streamed,
  );
  expectThat(
    'so are the likeliest',
    /"top_logprobs":\[\{"token_id:\d+":-?[\d.e-]+,"token_id:\d+"/.test(streamed.text),
    streamed,
  );
  expectThat('a stream ends with [DONE]', streamed.text.trimEnd().endsWith('data: [DONE]'), streamed);
  const many = await send('/v1/completions', { ...common, logprobs: 21 });
  expectThat('more than 20 log-probabilities are refused', many.status === 400, many);
  return problems;
}

/** @returns its exit code. */
export async function runVllm([url, base, rows = String(ROWS)]: readonly string[]): Promise<number> {
  if (url === undefined || base === undefined) {
    console.log(
      'npm run interop -- vllm <url of vLLM> <folder of its base> [rows of each task]; test/interop/README.md says how it is started',
    );
    return 2;
  }
  const problems = await quirks(url);
  const own = await start(base, ['--weights', 'f32']);
  const front = await start(base, [
    ...[
      '--engine',
      'vllm',
      '--engine-url',
      url,
      '--max-loras',
      '4',
      '--max-lora-rank',
      '64',
      '--max-cpu-loras',
      '16',
    ],
  ]);
  try {
    const table = new Table({
      head: ['chain', 'rows', 'as float32 here', 'as expected'],
      style: { head: [], border: [] },
    });
    const asked = Object.entries(CHAINS).flatMap(([model, task]) =>
      rowsOf(task, Number(rows)).map((row) => ({ model, row })),
    );
    // All chains mixed, more of them than have a place at once.
    const answers = await inParallel(asked, 16, async ({ model, row }) => ({
      ...{ model, row },
      vllm: await answer(front.client, model, row.user),
    }));
    const here = await inParallel(asked, 8, ({ model, row }) => answer(own.client, model, row.user));
    for (const model of Object.keys(CHAINS)) {
      const all = answers.map((one, at) => ({ ...one, here: here[at] })).filter((one) => one.model === model);
      const same = all.filter((one) => one.vllm === one.here).length;
      table.push([model, all.length, same, all.filter((one) => one.vllm === one.row.expected).length]);
      for (const one of all)
        if (one.vllm !== one.here)
          problems.push(`${model}: ${JSON.stringify([one.row.user, one.vllm, one.here])}`);
    }
    console.log(table.toString());
    await checkForms(front.client, problems);
    await checkAbort(url, front.client, problems);
    await checkServing({ url, base, maxLoras: 4, maxLoraRank: 64 }, problems);
  } finally {
    await front.origin.stop();
    await own.origin.stop();
  }
  for (const problem of problems) console.error(problem);
  return problems.length === 0 ? 0 : 1;
}

/** A client that goes ends its run at vLLM. */
async function checkAbort(url: string, client: OpenAI, problems: string[]): Promise<void> {
  const running = async () => {
    const text = await (await fetch(`${url}/metrics`)).text();
    return Number(/^vllm:num_requests_running\{[^}]*\} ([\d.]+)/m.exec(text)?.[1] ?? NaN);
  };
  const stream = await client.completions.create({
    ...{ model: 'base', prompt: 'Once upon a time', max_tokens: 900, stream: true },
    ...({ ignore_eos: true } as object),
  });
  let seen = 0;
  let during = 0;
  for await (const part of stream as AsyncIterable<unknown>) {
    if (part !== undefined) seen += 1;
    if (seen === 5) {
      during = await running();
      break;
    }
  }
  const began = Date.now();
  while ((await running()) > 0 && Date.now() - began < 30_000)
    await new Promise((resolve) => setTimeout(resolve, 100));
  const after = await running();
  console.log(`a stream that is left: ${during} running, then ${after} within ${Date.now() - began} ms`);
  if (during < 1 || after !== 0) problems.push(`an abort: ${during} running, then ${after}`);
}
