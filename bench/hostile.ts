/** `npm run bench -- hostile`: what requests that mean harm cost the origin's main thread, and others their tokens. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { startOrigin } from '../cli/local/origin-process.ts';
import { LOOPBACK, needFreePort } from '../cli/local/ports.ts';
import { createOutput } from '../cli/output.ts';
import { parseSigningKeys } from '../protocol/signature.ts';
import {
  harmless,
  hostileRequests,
  KEYWORDS,
  type HostileRequest,
  type Keyword,
} from './hostile/requests.ts';
import { signForOrigin, type SignedOrigin } from './load/sign-for-origin.ts';
import { describeMachine } from './machine.ts';

const USAGE = `npm run bench -- hostile [flags]
  Starts an origin, and sends it requests made to be expensive while another tenant reads a stream. Linux only.
  Prints the worst of each keyword: CPU time of the origin's main thread, and the neighbour's time a token beside it.
  Both are compared with the same request without the keyword, and long prompts with ordinary ones of as many tokens.
  --requests N         requests to send (default 500; about 6 minutes)
  --seed N             other requests of the same kinds (default 1)
  --only a,b           keywords: ${KEYWORDS.join(', ')} (default: all)
  --base PATH          base model (default: the pinned one, from the cache)`;

/** A request that takes more of the main thread than this, ms of CPU, is one too many. */
const MOST_CPU_MS = 100;
/** … or makes the neighbour's tokens take so many times as long. */
const MOST_SLOWDOWN = 3;
/** The neighbour's tokens that a measurement waits for at least. */
const LEAST_TOKENS = 8;
/** Longer than any limit of the origin's. */
const GIVE_UP_MS = 60_000;
const SLOTS = 4;
/** More than the pinned base's context: its prompt is refused, as the hostile one was. */
const TOO_MANY_TOKENS = 10_000;
const WARM_UPS = 5;

export interface HostileRow {
  keyword: Keyword;
  attempt: string;
  /** HTTP status; 0 = none came in time. */
  status: number;
  /** Of the origin's main thread, less what the neighbour's tokens and the harmless request take. */
  cpuMs: number;
  /** The neighbour's time a token, to that beside a harmless request. */
  slowdown: number;
}

/** @throws Error that names the flag. */
export async function benchHostile(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      requests: { type: 'string', default: '500' },
      seed: { type: 'string', default: '1' },
      only: { type: 'string', default: KEYWORDS.join(',') },
      base: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const count = Number(values.requests);
  if (!Number.isInteger(count) || count < 1)
    throw new Error(`--requests ${values.requests}: not a whole number from 1`);
  const wanted = values.only.split(',').map((name) => name.trim());
  const unknown = wanted.find((name) => !KEYWORDS.some((keyword) => keyword === name));
  if (unknown !== undefined) throw new Error(`--only: unknown keyword '${unknown}' (${KEYWORDS.join(', ')})`);
  const requests = hostileRequests(count, Number(values.seed)).filter(({ keyword }) =>
    wanted.includes(keyword),
  );
  const cache = cacheFolder(process.env);
  const output = createOutput({ json: false });
  const base = await findBase({ base: values.base, cache, env: process.env, output });
  const rows = await measureHostile({ base, cache, requests, signal });
  const machine = await describeMachine();
  console.log(formatHostile(rows));
  console.log(
    JSON.stringify({ date: new Date().toISOString(), machine, seed: Number(values.seed), hostile: rows }),
  );
}

async function measureHostile(params: {
  base: string;
  cache: string;
  requests: readonly HostileRequest[];
  signal: AbortSignal;
}): Promise<HostileRow[]> {
  const { base, cache, requests, signal } = params;
  const port = await needFreePort({ port: 0, what: 'origin', flag: '--port' });
  const keys = `bench:${randomBytes(32).toString('base64')}`;
  const id = 'hostile';
  const flags = ['--port', String(port), '--base', base, '--cache', cache, '--slots', String(SLOTS)];
  const started = await startOrigin({
    args: [...flags, '--origin-id', id],
    env: { GRAFT_ORIGIN_KEYS: keys },
    signal,
  });
  const ended = new AbortController();
  const stop = AbortSignal.any([signal, ended.signal]);
  void started.failed.then((reason) => ended.abort(new Error(reason)));
  const origin: SignedOrigin = {
    url: `http://${LOOPBACK}:${port}`,
    id,
    signingKey: parseSigningKeys(keys)[0]!,
  };
  const neighbour = new Neighbour(origin, stop);
  try {
    const cpu = () => mainThreadMs(started.pid);
    // Code that has not run before is slower by itself.
    for (let i = 0; i < WARM_UPS; i += 1) await send(origin, harmless(TOO_MANY_TOKENS), stop);
    // The neighbour alone: what a token of its own costs.
    await neighbour.tokens(LEAST_TOKENS);
    const alone = await watch(neighbour, cpu, () => neighbour.tokens(4 * LEAST_TOKENS));
    const tokenCpuMs = alone.cpuMs / alone.tokens;
    const rows: HostileRow[] = [];
    for (const { keyword, attempt, body } of requests) {
      stop.throwIfAborted();
      let answer: Answer = { status: 0, promptTokens: 0 };
      const beside = await watch(neighbour, cpu, async () => {
        answer = await send(origin, body, stop);
      });
      // A long prompt is read for as long as one of as many ordinary words.
      const twin = harmless(keyword === 'messages' ? (answer.promptTokens ?? TOO_MANY_TOKENS) : 0);
      const without = await watch(neighbour, cpu, () => send(origin, twin, stop));
      const moreCpuMs = beside.cpuMs - without.cpuMs - (beside.tokens - without.tokens) * tokenCpuMs;
      rows.push({
        ...{ keyword, attempt, status: answer.status },
        cpuMs: Math.max(0, moreCpuMs),
        slowdown: beside.tokenMs / without.tokenMs,
      });
      const { cpuMs, slowdown } = rows.at(-1)!;
      const figures = `${cpuMs.toFixed(0)} ms of CPU, neighbour ${slowdown.toFixed(1)} x`;
      process.stderr.write(
        `${rows.length}/${requests.length} ${keyword}, ${attempt}: ${answer.status}, ${figures}\n`,
      );
    }
    return rows;
  } finally {
    neighbour.stop();
    await started.stop();
  }
}

/** What passes while `work` does, and until the neighbour has had some tokens. */
async function watch(neighbour: Neighbour, cpu: () => Promise<number>, work: () => Promise<unknown>) {
  const [before, count, start] = [await cpu(), neighbour.count, performance.now()];
  await Promise.all([work(), neighbour.tokens(LEAST_TOKENS)]);
  const tokens = neighbour.count - count;
  return { cpuMs: (await cpu()) - before, tokens, tokenMs: (performance.now() - start) / tokens };
}

/** Another tenant, who reads one stream after another. */
class Neighbour {
  count = 0;
  readonly #own = new AbortController();
  readonly #ended: Promise<never>;
  #waiting: (() => void)[] = [];

  constructor(origin: SignedOrigin, signal: AbortSignal) {
    const stop = AbortSignal.any([signal, this.#own.signal]);
    const read = async (): Promise<never> => {
      for (;;) await this.#read(origin, stop);
    };
    this.#ended = read();
    // Whoever waits for tokens hears of it.
    this.#ended.catch(() => undefined);
  }

  /** Resolves when there are so many more. */
  async tokens(more: number): Promise<void> {
    const enough = this.count + more;
    while (this.count < enough)
      await Promise.race([this.#ended, new Promise<void>((resolve) => this.#waiting.push(resolve))]);
  }

  stop(): void {
    this.#own.abort(new Error('the measurement has ended'));
  }

  async #read(origin: SignedOrigin, signal: AbortSignal): Promise<void> {
    const messages = [{ role: 'user', content: 'Tell me a long story.' }];
    const response = await ask(
      origin,
      { tenant: 'neighbour', body: { messages, stream: true, max_tokens: 1_000, ignore_eos: true } },
      signal,
    );
    if (!response.ok) throw new Error(`the neighbour got ${response.status}: ${await response.text()}`);
    const decoder = new TextDecoder();
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      const found = decoder.decode(chunk, { stream: true }).split('"content":"').length - 1;
      this.count += found;
      if (found === 0) continue;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const resolve of waiting) resolve();
    }
  }
}

interface Answer {
  /** 0 = the answer was not whole in time. */
  status: number;
  /** null = refused before they were counted. */
  promptTokens: number | null;
}

async function send(origin: SignedOrigin, body: object, signal: AbortSignal): Promise<Answer> {
  const late = AbortSignal.timeout(GIVE_UP_MS);
  try {
    const response = await ask(origin, { tenant: 'hostile', body }, AbortSignal.any([signal, late]));
    const { usage } = (await response.json()) as { usage?: { prompt_tokens: number } };
    return { status: response.status, promptTokens: usage?.prompt_tokens ?? null };
  } catch (error) {
    if (late.aborted) return { status: 0, promptTokens: null };
    throw error;
  }
}

async function ask(
  origin: SignedOrigin,
  { tenant, body }: { tenant: string; body: object },
  signal: AbortSignal,
): Promise<Response> {
  const path = '/v1/chat/completions';
  const requestId = randomBytes(8).toString('hex');
  const request = { model: 'base', ...body };
  const { text, headers } = await signForOrigin(origin, {
    ...{ path, request, chain: [], model: 'base', requestId, tenant },
  });
  return fetch(origin.url + path, {
    ...{ method: 'POST', body: text, signal },
    headers: { 'content-type': 'application/json', ...headers },
  });
}

/** CPU time of a process's main thread, ms. */
async function mainThreadMs(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/task/${pid}/schedstat`, 'utf8');
  return Number(text.split(' ')[0]) / 1e6;
}

/** @returns a table of the worst of each keyword, and all that cost too much. */
export function formatHostile(rows: readonly HostileRow[]): string {
  const table = new Table({
    head: ['keyword', 'requests', 'answered', 'refused', 'CPU ms worst', 'of', 'neighbour worst', 'of'],
    style: { head: [], border: [] },
  });
  for (const keyword of KEYWORDS) {
    const own = rows.filter((row) => row.keyword === keyword);
    if (own.length === 0) continue;
    const dearest = own.reduce((one, other) => (other.cpuMs > one.cpuMs ? other : one));
    const slowest = own.reduce((one, other) => (other.slowdown > one.slowdown ? other : one));
    const count = (status: number): number => own.filter((row) => row.status === status).length;
    table.push([
      ...[keyword, own.length, count(200), count(400)],
      ...[dearest.cpuMs.toFixed(0), dearest.attempt, `${slowest.slowdown.toFixed(1)} x`, slowest.attempt],
    ]);
  }
  const over = rows.filter(({ cpuMs, slowdown }) => cpuMs > MOST_CPU_MS || slowdown > MOST_SLOWDOWN);
  const odd = rows.filter(({ status }) => status !== 200 && status !== 400);
  const limits = `${MOST_CPU_MS} ms of CPU or ${MOST_SLOWDOWN} times the neighbour's time a token`;
  return [
    table.toString(),
    `${over.length} of ${rows.length} took more than ${limits}`,
    ...over.map(
      ({ keyword, attempt, cpuMs, slowdown }) =>
        `OVER ${keyword}, ${attempt}: ${cpuMs.toFixed(0)} ms, ${slowdown.toFixed(1)} x`,
    ),
    ...odd.map(({ keyword, attempt, status }) => `PROBLEM ${keyword}, ${attempt}: status ${status}`),
  ].join('\n');
}
