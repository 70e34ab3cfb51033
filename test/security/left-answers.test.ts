/** Clients that leave before the end pay for what was run, through the real edge and a real origin. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { mostTokens } from '../../worker/completions/routes.ts';
import type { FakeStep } from '../gpu-origin/fake-runner.ts';
import { startConformanceStack, type ConformanceStack } from '../conformance/stack.ts';
import { KEY, signedFetch } from '../gpu-origin/http/harness.ts';
import { UsageMemory } from '../../gpu-origin/http/run-prompts.ts';
import { TINY_BASE } from '../fakes/tiny-adapters.ts';

const BUDGET = 100_000;
/** Steps of a request's row before its client leaves. */
const STEPS = 25;
const CHUNK = 8;

let stack: ConformanceStack;
/** Held while it is there: the model is in the middle of a step. */
let gate: { promise: Promise<void>; open: () => void } | null = null;
let atStep: ((steps: number) => void) | null = null;
let steps = 0;
/** Tokens that the model was fed, of all rows; the last token of an answer never is. */
let ran = 0;

function hold(): void {
  let open: () => void = () => undefined;
  const promise = new Promise<void>((resolve) => (open = resolve));
  gate = { promise, open };
}
const release = (): void => {
  gate?.open();
  gate = null;
};

async function start(options: Parameters<typeof startConformanceStack>[0] = {}): Promise<void> {
  [steps, ran, atStep, gate] = [0, 0, null, null];
  stack = await startConformanceStack({
    ...options,
    runner: {
      slots: 4,
      chunk: CHUNK,
      ...options.runner,
      async duringStep({ kind, rows }: FakeStep) {
        steps += 1;
        const fed = rows[0]?.tokens.length ?? 0;
        // Chunks of a prompt end at fixed borders.
        ran += kind === 'decode' ? rows.length : ((fed - 1) % CHUNK) + 1;
        atStep?.(steps);
        await gate?.promise;
      },
    },
  });
  const answer = stack.edge.origin.answer;
  stack.edge.origin.answer = (method, path, init, url) => {
    // The answer waits for the end of the row, which is in the middle of a step.
    if (path.startsWith('/cancel/')) setTimeout(release, 20);
    return answer(method, path, init, url);
  };
}
afterEach(async () => {
  release();
  await stack.stop();
});

async function makeKey(): Promise<{ id: string; key: string }> {
  const limits = { tokens_per_minute: BUDGET, concurrent: 4 };
  const made = await stack.edge.request('/admin/keys', { body: { tenant: 'alice', limits } });
  return (await made.json()) as { id: string; key: string };
}
const ask = (key: string, path: string, body: object, signal?: AbortSignal) =>
  fetch(`${stack.baseURL}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: stack.models[1], ...body }),
    ...(signal === undefined ? {} : { signal }),
  });

const chat = { messages: [{ role: 'user', content: 'hello there' }], max_tokens: 400, ignore_eos: true };

/** Leaves once the request's row has been run for so many steps, in the middle of the last of them. */
async function leave(key: string, path: string, body: object, after = STEPS): Promise<void> {
  const leaving = new AbortController();
  atStep = (now) => {
    if (now < after) return;
    atStep = null;
    hold();
    leaving.abort();
  };
  steps = 0;
  const answering = ask(key, path, body, leaving.signal).then((response) => response.text());
  await expect(answering).rejects.toThrow();
}
/** What the key's counter holds, when all that was left is counted. */
async function counted({ key, id }: { key: string; id: string }, requests: number) {
  const settled = () => stack.edge.quotas.calls.filter((call) => call === `settle ${id}`).length;
  await vi.waitUntil(() => settled() === requests);
  const usage = await stack.edge.request('/admin/usage?by=key');
  const { rows } = (await usage.json()) as {
    rows: { group: string; total_tokens: number; errors: number }[];
  };
  const seen = await ask(key, '/chat/completions', { ...chat, model: 'nobody/nothing' });
  const remaining = Number(seen.headers.get('x-ratelimit-remaining-tokens'));
  const row = rows.find(({ group }) => group === id);
  return { budget: BUDGET - remaining, usage: row?.total_tokens, errors: row?.errors };
}

describe('an answer that is left before its end', () => {
  const responses = { input: 'hello there', max_output_tokens: 400, ignore_eos: true };
  const prompt = { prompt: 'hello there', max_tokens: 400, ignore_eos: true };
  it.each<[string, string, object]>([
    ['whole chat', '/chat/completions', chat],
    ['whole text', '/completions', prompt],
    ['whole response', '/responses', responses],
    ['streamed chat', '/chat/completions', { ...chat, stream: true }],
    ['streamed text', '/completions', { ...prompt, stream: true }],
    ['streamed response', '/responses', { ...responses, stream: true }],
  ])('%s: counts what was run for it, in the budget and in the usage', async (_what, path, body) => {
    await start();
    const made = await makeKey();
    for (let i = 0; i < 3; i += 1) {
      await leave(made.key, path, body);
      // Each row ends with one token that was chosen and not fed.
      ran += 1;
      await vi.waitUntil(() => stack.origin.runner.occupied.length === 0);
    }
    expect(await counted(made, 3)).toEqual({ budget: ran, usage: ran, errors: 0 });
    expect(ran).toBeGreaterThan(3 * 20);
  });

  it('in the middle of a long prompt, counts what was prefilled of it', async () => {
    await start();
    const made = await makeKey();
    const long = { ...chat, max_tokens: 10, messages: [{ role: 'user', content: 'word '.repeat(60) }] };
    await leave(made.key, '/chat/completions', long, 3);
    expect(await counted(made, 1)).toEqual({ budget: 3 * CHUNK, usage: 3 * CHUNK, errors: 0 });
    expect(ran).toBe(3 * CHUNK);
  });

  it('with several choices, counts all of them and the prompt once', async () => {
    await start();
    const made = await makeKey();
    await leave(made.key, '/chat/completions', { ...chat, n: 3 }, 40);
    await vi.waitUntil(() => stack.origin.runner.occupied.length === 0);
    const { budget, usage } = await counted(made, 1);
    const fed = ran;
    // Each choice runs the prompt itself and has one token that was not fed.
    const prompted = (await (
      await ask(made.key, '/chat/completions', { ...chat, max_tokens: 1 })
    ).json()) as {
      usage: { prompt_tokens: number };
    };
    const { prompt_tokens: once } = prompted.usage;
    expect([budget, usage]).toEqual([fed - 2 * once + 3, budget]);
  });

  it('with several prompts, counts those that ran and no other', async () => {
    await start();
    const made = await makeKey();
    const prompts = Array.from({ length: 20 }, () => 'hello there');
    await leave(made.key, '/completions', { ...prompt, prompt: prompts }, 40);
    await vi.waitUntil(() => stack.origin.runner.occupied.length === 0);
    const { budget, usage } = await counted(made, 1);
    expect(usage).toBe(budget);
    // Eight at a time, each with one token that was chosen and not fed.
    expect(budget).toBeGreaterThan(ran);
    expect(budget).toBeLessThanOrEqual(ran + 8);
  });

  it('that waits in the queue costs nothing', async () => {
    await start({ runner: { slots: 1 } });
    const [busy, made] = [await makeKey(), await makeKey()];
    const leaving = new AbortController();
    hold();
    const running = ask(busy.key, '/chat/completions', { ...chat, max_tokens: 2 });
    await vi.waitUntil(() => stack.origin.engine.stats().running === 1);
    const left = ask(made.key, '/chat/completions', chat, leaving.signal);
    await vi.waitUntil(() => stack.origin.engine.stats().waiting === 1);
    leaving.abort();
    await expect(left).rejects.toThrow();
    expect(await counted(made, 1)).toEqual({ budget: 0, usage: 0, errors: 0 });
    await (await running).text();
  });

  it('whose origin does not say what it used, costs the most that it can have been', async () => {
    await start();
    const made = await makeKey();
    const { answer } = stack.edge.origin;
    stack.edge.origin.answer = (method, path, init, url) => {
      if (!path.startsWith('/cancel/')) return answer(method, path, init, url);
      release();
      return Response.json({ error: { message: 'No such path.', code: 'not_found' } }, { status: 404 });
    };
    await leave(made.key, '/chat/completions', chat);
    const { promptTokens, completionTokens } = mostTokens(
      { ...chat, model: stack.models[1] } as Parameters<typeof mostTokens>[0],
      TINY_BASE.context,
    );
    const most = promptTokens + completionTokens;
    expect(await counted(made, 1)).toEqual({ budget: most, usage: most, errors: 0 });
    expect(most).toBeGreaterThanOrEqual(Math.min(TINY_BASE.context, 400));
  });
});

describe('a cancellation', () => {
  const other = '00000000-0000-4000-8000-000000000000';
  const nothing = () => undefined;

  it('is for the edge that sent the request, by an id of its own making', async () => {
    await start();
    for (const path of [`/cancel/${other}`, '/cancel/x'])
      expect((await fetch(stack.origin.url + path, { method: 'POST' })).status).toBe(401);
    const cancelled = async (id: string, key = KEY) => {
      const signed = { key, originId: 'o1', now: stack.edge.clock.now() };
      const answer = await signedFetch(stack.origin, `/cancel/${id}`, { method: 'POST' }, signed);
      return (await answer.json()) as { state?: string };
    };
    const { usage } = stack.origin.context;
    let ends = 0;
    const running = usage.begin(other, KEY.kid, 1, () => {
      ends += 1;
      running.ended({ promptTokens: 3, completionTokens: 4 });
    });
    expect(await usage.cancel(other, 'k9')).toMatchObject({ state: 'unknown', prompt_tokens: 0 });
    expect(ends).toBe(0);
    for (let times = 0; times < 2; times += 1)
      expect(await cancelled(other)).toEqual({ state: 'ended', prompt_tokens: 3, completion_tokens: 4 });
    expect(ends).toBe(1);
    expect(await cancelled('11111111-1111-4111-8111-111111111111')).toMatchObject({ state: 'unknown' });
    expect(await cancelled('x')).toMatchObject({ error: { code: 'invalid_request' } });
  });

  it('ends a request whose connection stays open, at the next step', async () => {
    await start();
    const id = '22222222-2222-4222-8222-222222222222';
    const signed = { key: KEY, originId: 'o1', now: stack.edge.clock.now() };
    const body = JSON.stringify({
      request: { model: 'base', ...chat },
      graft: { chain: [], tenant: 'alice', request_id: 'r1', model: 'base' },
    });
    let cancelled: Promise<Response> | null = null;
    atStep = (now) => {
      if (now < STEPS) return;
      atStep = null;
      cancelled = signedFetch(stack.origin, `/cancel/${id}`, { method: 'POST' }, signed);
    };
    const path = `/v1/chat/completions?cancel=${id}`;
    const answer = await signedFetch(stack.origin, path, { method: 'POST', body }, signed);
    expect(answer.status).toBe(503);
    await vi.waitUntil(() => cancelled !== null);
    const usage = (await (await cancelled!).json()) as { prompt_tokens: number; completion_tokens: number };
    expect(usage).toMatchObject({ state: 'ended' });
    // The last token was chosen and not fed.
    expect(usage.prompt_tokens + usage.completion_tokens).toBe(ran + 1);
    expect(steps).toBeLessThan(400);
  });

  it('that overtakes its request keeps it from being run, and so do those of its tries that are over', () => {
    const memory = new UsageMemory(() => 0);
    const begun = (id: string) => {
      let stopped = false;
      const running = memory.begin(id, 'k', 1, () => (stopped = true));
      running.refused();
      return stopped;
    };
    void memory.cancel('a', 'k');
    void memory.cancel('b', 'k9');
    expect([begun('a'), begun('a'), begun('b'), begun('c')]).toEqual([true, true, false, false]);
    void memory.cancel('c', 'k');
    expect(begun('c')).toBe(true);
  });

  it('is bounded in what it costs: a minute, and a number of requests', async () => {
    let now = 0;
    const memory = new UsageMemory(() => now, { keptMs: 60_000, entries: 3, waitMs: 1 });
    const begin = (id: string) => memory.begin(id, 'k', 1, nothing);
    const state = async (id: string) => (await memory.cancel(id, 'k')).state;
    const running = begin('a');
    for (const id of ['b', 'c', 'd', 'e']) begin(id).ended({ promptTokens: 1, completionTokens: 1 });
    expect([await state('a'), await state('d'), await state('e')]).toEqual(['running', 'ended', 'ended']);
    expect(await state('b')).toBe('unknown');
    // What never came is remembered as well, in the place of the oldest.
    expect([await state('d'), await state('b'), await state('e')]).toEqual(['unknown', 'ended', 'unknown']);
    running.refused();
    now = 60_000;
    begin('f').refused();
    expect([await state('a'), await state('f')]).toEqual(['unknown', 'ended']);
  });
});

describe('the most that a request can use', () => {
  const ask = (more: object) =>
    ({ model: 'm', messages: [{ role: 'user', content: 'é'.repeat(100) }], ...more }) as Parameters<
      typeof mostTokens
    >[0];
  const sum = (more: object, context: number) => {
    const { promptTokens, completionTokens } = mostTokens(ask(more), context);
    return promptTokens + completionTokens;
  };

  it('is bounded by the context for each answer, by the limit, and by the bytes of the prompt', () => {
    expect(sum({}, 512)).toBe(512);
    expect(sum({ n: 3 }, 512)).toBe(3 * 512);
    expect(sum({ max_tokens: 100_000 }, 512)).toBe(512);
    const texts = (more: object) =>
      mostTokens({ model: 'm', prompt: Array<string>(10).fill('a'.repeat(100)), ...more }, 512);
    expect(texts({ max_tokens: 512, n: 2 }).completionTokens).toBeGreaterThan(10 * 2 * 300);
    expect(texts({}).completionTokens).toBe(10 * 16);
    expect(texts({}).promptTokens).toBeGreaterThanOrEqual(1_000);
    expect(sum({ max_tokens: 100 }, 512)).toBeGreaterThanOrEqual(300);
    expect(sum({ max_tokens: 100 }, 512)).toBeLessThan(400);
    expect(sum({ max_tokens: 100, max_completion_tokens: 50, n: 2 }, 100_000)).toBeLessThan(410);
  });
});
