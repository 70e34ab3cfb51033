import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ErrorBody } from '../../../protocol/api-error.ts';
import { type RowScore, MAX_EVALUATION_ROWS } from '../../../protocol/origin-wire.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { sha256, startTestOrigin, type Origin } from '../http/harness.ts';

interface Verified {
  ok: boolean;
  reason: string | null;
  prompt: string;
  base: { id: number; logprob: number; token: string }[];
  below: { id: number; logprob: number }[];
  adapter: { id: number; logprob: number }[];
  kl: number | null;
  max_difference: number;
  base_digest: string;
  weights: string;
  error?: ErrorBody['error'];
}

let origin: Origin;
/** Deltas whose rows come out as NaN. */
let poisoned: (delta: string) => boolean;
let duringStep: () => Promise<void> | void;
let invocation: (digest: string) => readonly number[] | null;
beforeEach(async () => {
  poisoned = () => false;
  duringStep = () => undefined;
  invocation = () => null;
  origin = await startTestOrigin({
    maxQueue: 64,
    runner: {
      poisoned: (_, delta) => poisoned(delta),
      duringStep: () => duringStep(),
      invocation: (digest) => invocation(digest),
    },
  });
});
afterEach(() => origin.stop());

const post = async (path: string, body: unknown, digest = origin.adapter) =>
  fetch(`${origin.url}/adapters/${digest}/${path}`, {
    method: 'POST',
    body: body === undefined ? '' : JSON.stringify(body),
  });
const verify = async (body?: unknown): Promise<Verified> =>
  (await (await post('verify', body)).json()) as Verified;
const own = (scale: number) => ({ digest: origin.adapter, scale });

async function secondAdapter(): Promise<string> {
  const file = new TextEncoder().encode('another adapter');
  await origin.store.put(sha256(file), file);
  return sha256(file);
}

describe('verify', () => {
  it('says what the base is and what changes', async () => {
    const seen = await verify();
    expect(seen).toMatchObject({ ok: true, reason: null, kl: null });
    expect([seen.base_digest, seen.weights]).toEqual([origin.runner.base.digest, 'fake']);
    expect([seen.base.length, seen.below.length, seen.adapter.length]).toEqual([20, 20, 20]);
    expect(seen.base).toEqual(seen.below);
    expect(seen.max_difference).toBeGreaterThan(0);
    expect(await verify({ chain: [own(1)] })).toEqual(seen);
  });

  it('finds that the last adapter has no effect, on the base and on a parent with one', async () => {
    const child = await secondAdapter();
    expect(await verify({ chain: [own(0)] })).toMatchObject({ ok: false, reason: 'no_change' });
    const chain = [own(1), { digest: child, scale: 0 }];
    const silent = (await (await post('verify', { chain }, child)).json()) as Verified;
    expect(silent).toMatchObject({ ok: false, reason: 'no_change', max_difference: 0 });
    expect(silent.below).not.toEqual(silent.base);
    const heard = await post('verify', { chain: [own(1), { digest: child, scale: 1 }] }, child);
    expect(await heard.json()).toMatchObject({ ok: true });
  });

  it('activates an activated adapter: its tokens follow the prompt', async () => {
    const tokens = [5, 6];
    const { bytes, digest } = tinyAdapter({ seed: 1, invocation: tokens });
    await origin.store.put(digest, new Uint8Array(bytes));
    invocation = (of) => (of === digest ? tokens : null);
    const read = async () => (await (await post('verify', undefined, digest)).json()) as Verified;
    const seen = await read();
    expect(seen).toMatchObject({ ok: true, reason: null });
    expect(seen.max_difference).toBeGreaterThan(0);
    // What it waits for is in no prompt.
    await origin.engine.drop(new Set([digest]));
    invocation = (of) => (of === digest ? [7, 7, 7, 7] : null);
    expect(await read()).toMatchObject({ ok: false, reason: 'no_change' });
  });

  it('tries further prompts before it calls an adapter a no-op, and only then', async () => {
    const loud = await verify();
    const silent = await verify({ chain: [own(0)] });
    expect(silent.prompt).not.toBe(loud.prompt);
  });

  it('finds output that is not finite, of the adapter and not of the base', async () => {
    poisoned = (delta) => delta !== '';
    expect(await verify()).toMatchObject({ ok: false, reason: 'non_finite', adapter: [], kl: null });
    poisoned = () => true;
    expect((await post('verify', undefined)).status).toBe(500);
  });

  it('compares with the expectation, on its prompt', async () => {
    const { adapter, prompt } = await verify();
    const tokens = adapter.map(({ id, logprob }) => ({ id, logprob }));
    expect(await verify({ expected: { prompt, tokens } })).toMatchObject({ ok: true, kl: 0 });
    expect(await verify({ expected: { tokens } })).toMatchObject({ ok: true, kl: 0 });
    const other = await verify({ expected: { prompt: 'Something else?', tokens } });
    expect(other).toMatchObject({ ok: false, reason: 'proof_mismatch', prompt: 'Something else?' });
    const moved = tokens.map(({ id, logprob }, i) => ({
      id: tokens[tokens.length - 1 - i]?.id ?? id,
      logprob,
    }));
    const tampered = await verify({ expected: { prompt, tokens: moved } });
    expect(tampered).toMatchObject({ ok: false, reason: 'proof_mismatch' });
    expect(tampered.kl).toBeGreaterThan(0.05);
  });

  it.each([
    ['a chain that ends with another adapter', { chain: [{ digest: 'd'.repeat(64), scale: 1 }] }],
    ['an empty chain', { chain: [] }],
    ['a field that is not known', { chains: [] }],
    ['no tokens', { expected: { tokens: [] } }],
    ['21 tokens', { expected: { tokens: Array.from({ length: 21 }, (_, id) => ({ id, logprob: -1 })) } }],
    ['a token that is none', { expected: { tokens: [{ id: -1, logprob: -1 }] } }],
    [
      'a prompt that is too long',
      { expected: { prompt: 'x'.repeat(1_025), tokens: [{ id: 1, logprob: -1 }] } },
    ],
  ])('refuses %s', async (_, body) => {
    expect((await post('verify', body)).status).toBe(400);
  });
});

describe('evaluate', () => {
  const evaluate = async (rows: unknown, more: object = {}) => {
    const response = await post('evaluate', { rows, ...more });
    expect(response.status).toBe(200);
    return ((await response.json()) as { rows: RowScore[] }).rows;
  };
  /** What the model really says, greedily, and whether it ends there. */
  const greedy = async (prompt: string) => {
    const response = await fetch(`${origin.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: origin.adapter, prompt, max_tokens: 4, temperature: 0 }),
    });
    const { choices, usage } = (await response.json()) as {
      choices: { text: string; finish_reason: string }[];
      usage: { completion_tokens: number };
    };
    const { text = '', finish_reason: finish } = choices[0] ?? {};
    return { prompt, text, ends: finish === 'stop', tokens: usage.completion_tokens };
  };

  it('gives each token of the answer and its end the log-probability that an echo gives it', async () => {
    const [prompt, expected] = ['hello there', ' general'];
    const [score] = await evaluate([{ prompt, expected }]);
    const { tokenizer } = origin;
    const ids = [
      ...tokenizer.prefixIds,
      ...tokenizer.encode(prompt, { allowSpecial: true }),
      ...tokenizer.encode(expected, { allowSpecial: false }),
      tokenizer.eosIds[0] as number,
    ];
    const echo = await fetch(`${origin.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: origin.adapter, prompt: ids, max_tokens: 0, echo: true, logprobs: 1 }),
    });
    const { choices } = (await echo.json()) as { choices: { logprobs: { token_logprobs: number[] } }[] };
    const tokens = tokenizer.encode(expected, { allowSpecial: false }).length + 1;
    const own = choices[0]?.logprobs.token_logprobs.slice(-tokens) ?? [];
    const nll = -own.reduce((sum, value) => sum + value, 0) / tokens;
    expect(score).toMatchObject({ exact: false, tokens });
    expect((score as { nll: number }).nll).toBeCloseTo(nll, 10);
  });

  it('answers each row in its place, and errors where a row cannot be scored', async () => {
    const long = 'x y '.repeat(400);
    const rows = await evaluate([
      { user: 'hello', expected: 'world' },
      { user: long, expected: 'world' },
      { user: 'hello', system: 'Be brief.', expected: 'world' },
      { prompt: 'hello', expected: long },
      { prompt: 'hello', expected: 'world' },
      { user: 'hello', expected: 'world' },
    ]);
    expect(rows.map((row) => ('error' in row ? 'error' : 'score'))).toEqual([
      'score',
      'error',
      'score',
      'error',
      'score',
      'score',
    ]);
    expect(rows[5]).toEqual(rows[0]);
    expect(new Set([rows[0], rows[2], rows[4]].map((row) => (row as { nll: number }).nll)).size).toBe(3);
  });

  it('sees no special tokens in an expected answer', async () => {
    const special = [...origin.tokenizer.controlTokens.keys()][0] as string;
    const [score] = await evaluate([{ prompt: 'hello', expected: special }]);
    const { length } = origin.tokenizer.encode(special, { allowSpecial: false });
    expect(score).toMatchObject({ tokens: length + 1 });
  });

  it('is exact where greedy decoding gives just this answer and ends, and nowhere else', async () => {
    const answers = [];
    for (let i = 0; i < 3_000 && answers.filter(({ ends }) => ends).length < 3; i += 1) {
      const answer = await greedy(`prompt ${i}`);
      const written = origin.tokenizer.encode(answer.text, { allowSpecial: false }).length;
      // Its tokens must be the ones that its text is written with.
      if (written > 0 && written === answer.tokens - (answer.ends ? 1 : 0)) answers.push(answer);
    }
    const rows = [...answers.slice(0, 9), ...answers.filter(({ ends }) => ends)];
    expect(rows.some(({ ends }) => ends)).toBe(true);
    const scores = await evaluate(rows.map(({ prompt, text }) => ({ prompt, expected: text })));
    expect(scores.map((score) => 'exact' in score && score.exact)).toEqual(rows.map(({ ends }) => ends));
    const other = rows.map(({ prompt }) => ({ prompt, expected: 'q' }));
    expect((await evaluate(other)).some((score) => 'exact' in score && score.exact)).toBe(false);

    // What is said instead: as far as it is as expected, and one token.
    const plain = answers.filter(({ text }) => /^[ -pr-~]{2,}$/.test(text)).slice(0, 3);
    expect(plain).not.toHaveLength(0);
    const begun = await evaluate(plain.map(({ prompt, text }) => ({ prompt, expected: `${text[0]}qq` })));
    expect(begun.map((score) => 'exact' in score && score.got)).toEqual(
      plain.map(({ text }) => text.slice(0, 2)),
    );
    expect(scores.map((score) => 'exact' in score && score.got === undefined)).toEqual(
      rows.map(({ ends }) => ends),
    );
  });

  it('reports what is wrong with a file that does not load, with its code', async () => {
    await origin.store.put(sha256(''), new Uint8Array(0));
    const tried = await post('verify', {}, sha256(''));
    expect(await tried.json()).toMatchObject({
      ok: false,
      reason: 'The file is empty.',
      code: 'truncated_file',
      adapter: [],
    });
  });

  it('reports a missing or failing adapter as a whole', async () => {
    const missing = await post('evaluate', { rows: [{ prompt: 'a', expected: 'b' }] }, 'd'.repeat(64));
    expect(missing.status).toBe(409);
    await origin.store.put(sha256(''), new Uint8Array(0));
    const broken = await post('evaluate', { rows: [{ prompt: 'a', expected: 'b' }] }, sha256(''));
    expect(broken.status).toBe(422);
  });

  it('ends with the time that it was given, and when the client goes', async () => {
    duringStep = () => new Promise((resolve) => setTimeout(resolve, 5));
    const rows = Array.from({ length: 40 }, () => ({ prompt: 'hello', expected: 'world' }));
    const late = await post('evaluate', { rows, budget_ms: 20 });
    expect(late.status).toBe(503);
    expect(await late.json()).toMatchObject({ error: { code: 'deadline_exceeded' } });
    const gone = new AbortController();
    const cut = fetch(`${origin.url}/adapters/${origin.adapter}/evaluate`, {
      method: 'POST',
      body: JSON.stringify({ rows }),
      signal: gone.signal,
    });
    await expect.poll(() => origin.engine.stats().running).toBeGreaterThan(0);
    gone.abort();
    await expect(cut).rejects.toThrow();
    await expect.poll(() => origin.engine.stats()).toMatchObject({ running: 0, waiting: 0, loading: 0 });
  });

  it.each([
    ['no rows', []],
    [
      'too many rows',
      Array.from({ length: MAX_EVALUATION_ROWS + 1 }, () => ({ prompt: 'a', expected: 'b' })),
    ],
    ['a row without a prompt', [{ expected: 'b' }]],
    ['a row with both', [{ prompt: 'a', user: 'a', expected: 'b' }]],
    ['a system text without a user', [{ prompt: 'a', system: 'a', expected: 'b' }]],
    ['an empty answer', [{ prompt: 'a', expected: '' }]],
    ['a field that is not known', [{ prompt: 'a', expected: 'b', weight: 1 }]],
  ])('refuses %s', async (_, rows) => {
    expect((await post('evaluate', { rows })).status).toBe(400);
  });

  it('accepts as many rows as documented', async () => {
    const rows = Array.from({ length: MAX_EVALUATION_ROWS }, (_, i) => ({ prompt: `${i}`, expected: 'b' }));
    expect(await evaluate(rows)).toHaveLength(MAX_EVALUATION_ROWS);
  });
});

describe('verify, of an adapter with a classification head', () => {
  /** What the runner is told of it; the file has a head of its own, which the fake does not read. */
  const head = (weight: number) => ({
    ...{ weight: new Float32Array(16).fill(weight), labels: null, problemType: null },
  });
  let made: Origin;
  const tried = async (weight: number, rank = 8) => {
    const { bytes, digest } = tinyAdapter({ seed: 1, classes: 2 });
    made = await startTestOrigin({
      maxQueue: 64,
      runner: { rank: () => rank, classifier: (of) => (of === digest ? head(weight) : null) },
    });
    await made.store.put(digest, new Uint8Array(bytes));
    const response = await fetch(`${made.url}/adapters/${digest}/verify`, { method: 'POST', body: '' });
    const chain = [{ digest, scale: 0 }];
    const silent = await fetch(`${made.url}/adapters/${digest}/verify`, {
      ...{ method: 'POST', body: JSON.stringify({ chain }) },
    });
    await made.stop();
    return [(await response.json()) as Verified, (await silent.json()) as Verified] as const;
  };

  it('passes, also if only the head was trained', async () => {
    const [seen, silent] = await tried(0.5);
    expect(seen).toMatchObject({ ok: true, reason: null });
    expect(seen.max_difference).toBeGreaterThan(0);
    expect(silent).toMatchObject({ ok: true, reason: null, max_difference: 0 });
  });

  it('finds scores that are not finite', async () => {
    const [seen] = await tried(Infinity);
    expect(seen).toMatchObject({ ok: false, reason: 'non_finite' });
  });
});
