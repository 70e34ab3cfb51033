/** What is tried before it is published, and tried again afterwards: on a tiny base, over HTTP. */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeCanonical, makeLoraModule, type Tensor } from '../../adapters/index.ts';
import { startEdge } from '../../cli/local/edge.ts';
import type { AdapterProof, RowScore } from '../../protocol/origin-wire.ts';
import { seeded, TINY_LLAMA, tinyModules } from '../fixtures/tiny-base.ts';
import { bearer, chatBody, CHAT } from './canary-stack.ts';
import { send, startTinyStack, type Answer, type TinyStack } from './tiny-stack.ts';

interface Version {
  version: number;
  chain_id: string;
  digest: string;
  proof: AdapterProof;
}
interface Verdict {
  ok: boolean;
  reason: string | null;
  kl: number | null;
  max_difference: number | null;
}

let stack: TinyStack;

const admin = (target: string, body?: unknown, method?: string): Promise<Answer> =>
  send(stack.local.url, target, {
    ...(body === undefined ? {} : { body: body instanceof Uint8Array ? body : JSON.stringify(body) }),
    ...(method === undefined ? {} : { method }),
    headers: bearer(stack.local.adminKey),
  });
const json = <T>(answer: Answer): T => JSON.parse(answer.text) as T;

function tensor(rows: number, columns: number, random: () => number, size: number): Tensor {
  const values = Float32Array.from({ length: rows * columns }, () => size * random());
  return { dtype: 'F32', shape: [rows, columns], data: new Uint8Array(values.buffer) };
}

/** An adapter of rank 4 on q and v whose entries are at most `size`. */
function adapter(params: { seed: number; a?: number; b?: number; parent?: string }) {
  const { seed, a = 0.3, b = 0.3, parent = null } = params;
  const random = seeded(seed);
  const modules = [...tinyModules(TINY_LLAMA)]
    .filter(([name]) => /[qv]_proj$/.test(name))
    .map(([name, [inputs, outputs]]) =>
      makeLoraModule({
        name,
        rank: 4,
        alpha: 4,
        a: tensor(4, inputs, random, a),
        b: tensor(outputs, 4, random, b),
      }),
    );
  const bytes = encodeCanonical({ base: 'tiny-base', parent, modules });
  return { bytes, digest: createHash('sha256').update(bytes).digest('hex') };
}

async function upload({ bytes, digest }: { bytes: Uint8Array; digest: string }): Promise<void> {
  expect((await admin(`/admin/blobs/${digest}/parts/0`, bytes, 'PUT')).status).toBe(200);
  const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: digest }] };
  expect((await admin(`/admin/blobs/${digest}`, record)).status).toBe(201);
}

async function publish(
  name: string,
  file: { bytes: Uint8Array; digest: string },
  more: object = {},
): Promise<Answer> {
  await upload(file);
  return admin('/admin/versions', { name, digest: file.digest, ...more });
}

async function verdict(name: string): Promise<Verdict> {
  const answer = await admin('/admin/verify', { name });
  expect(answer.status, answer.text).toBe(200);
  const { origins } = json<{ origins: Verdict[] }>(answer);
  expect(origins).toHaveLength(1);
  return origins[0] as Verdict;
}

async function restart(between: () => Promise<void> = async () => undefined): Promise<void> {
  stack.dev.child.kill('SIGINT');
  expect((await stack.dev.finished).code).toBe(0);
  await between();
  await stack.restart();
}

let live: Version;
beforeAll(async () => {
  stack = await startTinyStack();
  const published = await publish('medicine', adapter({ seed: 1 }));
  expect(published.status, published.text).toBe(201);
  live = json<Version>(published);
});
afterAll(() => stack.remove());

describe('publishing', () => {
  it('keeps the likeliest first tokens, of the base that is served', async () => {
    const { origins } = json<{ origins: { base: { digest: string; weights: string } }[] }>(
      await admin('/admin/origins'),
    );
    expect(live.proof).toMatchObject({
      base_digest: origins[0]?.base.digest,
      weights: origins[0]?.base.weights,
    });
    expect(live.proof.tokens).toHaveLength(20);
    const first = json<{
      choices: { logprobs: { content: { top_logprobs: { logprob: number }[] }[] } }[];
    }>(
      await send(stack.local.url, CHAT, {
        headers: bearer(stack.local.key),
        body: chatBody({
          model: 'medicine',
          messages: [{ role: 'user', content: live.proof.prompt }],
          max_tokens: 1,
          ignore_eos: true,
          logprobs: true,
          top_logprobs: 20,
        }),
      }),
    );
    const top = first.choices[0]?.logprobs.content[0]?.top_logprobs ?? [];
    expect(live.proof.tokens.map(({ logprob }) => logprob)).toEqual(top.map(({ logprob }) => logprob));
  });

  it.each([
    ['zero', { b: 0 }],
    ['too small for float32 to notice', { a: 1e-20, b: 1e-20 }],
  ])('refuses an adapter whose delta is %s', async (_, sizes) => {
    for (const [name, more] of [
      ['silent', {}],
      ['medicine/silent', { parent: live.chain_id }],
    ] as const) {
      const parent = 'parent' in more ? { parent: 'medicine' } : {};
      const answer = await publish(name, adapter({ seed: 2, ...sizes, ...more }), parent);
      expect([answer.status, answer.error.code, answer.error.reason]).toEqual([
        422,
        'adapter_invalid',
        'no_op',
      ]);
      expect((await admin(`/admin/versions?name=${name}`)).status).toBe(404);
    }
  });

  it('takes one that changes next to nothing, on the base and on a parent', async () => {
    const tiny = { a: 1e-3, b: 1e-4 };
    expect((await publish('faint', adapter({ seed: 3, ...tiny }))).status).toBe(201);
    const child = adapter({ seed: 4, ...tiny, parent: live.chain_id });
    expect((await publish('medicine/faint', child, { parent: 'medicine' })).status).toBe(201);
    // int8 rounds it away after the probe's last token, and not after all of the others.
    expect(await verdict('medicine/faint')).toMatchObject({ ok: true, reason: null, kl: 0 });
  });

  it('refuses one whose output is not finite', async () => {
    const answer = await publish('loud', adapter({ seed: 5, a: 9e18, b: 9e18 }));
    expect(answer.status, answer.text).toBe(422);
    expect(answer.error).toMatchObject({
      reason: 'non_finite',
      message: expect.stringContaining('NaN') as string,
    });
  });
});

describe('evaluating', () => {
  const rows = [
    { prompt: 'The heart', expected: ' beats' },
    { user: 'Where does it hurt?', expected: 'Here.' },
    { system: 'Be brief.', user: 'Where does it hurt?', expected: 'é' },
  ];
  const turn = (role: string, text: string) => `<|im_start|>${role}\n${text}<|im_end|>\n`;
  const open = '<|im_start|>assistant\n';
  const prompts = [
    'The heart',
    turn('user', 'Where does it hurt?') + open,
    turn('system', 'Be brief.') + turn('user', 'Where does it hurt?') + open,
  ];

  it('gives what an echo with log-probabilities gives', async () => {
    const digest = adapter({ seed: 1 }).digest;
    const { rows: scores } = json<{ rows: RowScore[] }>(await admin('/admin/evaluate', { digest, rows }));
    for (const [i, { expected }] of rows.entries()) {
      const echo = await send(stack.local.url, '/v1/completions', {
        headers: bearer(stack.local.key),
        body: JSON.stringify({
          model: 'medicine',
          prompt: `${prompts[i]}${expected}<|im_end|>`,
          max_tokens: 0,
          echo: true,
          logprobs: 1,
        }),
      });
      const { choices } = json<{
        choices: { logprobs: { token_logprobs: number[]; top_logprobs: object[] } }[];
      }>(echo);
      // One token a byte.
      const tokens = Buffer.byteLength(expected) + 1;
      const own = choices[0]?.logprobs.token_logprobs.slice(-tokens) ?? [];
      const likeliest = choices[0]?.logprobs.top_logprobs.slice(-tokens) ?? [];
      const best = likeliest.map((top) => Math.max(...Object.values(top as Record<string, number>)));
      const nll = -own.reduce((sum, logprob) => sum + logprob, 0) / tokens;
      const score = scores[i] as { exact: boolean; nll: number; tokens: number };
      expect(score.tokens).toBe(tokens);
      expect(score.exact).toBe(own.every((logprob, at) => logprob === best[at]));
      expect(score.nll).toBeCloseTo(nll, 9);
    }
  });

  it('scores a file before it is published, on its parent', async () => {
    const child = adapter({ seed: 6, parent: live.chain_id });
    await upload(child);
    const before = await admin('/admin/evaluate', { digest: child.digest, parent: 'medicine', rows });
    expect(before.status, before.text).toBe(200);
    expect(
      (await admin('/admin/versions', { name: 'medicine/child', digest: child.digest, parent: 'medicine' }))
        .status,
    ).toBe(201);
    const after = await admin('/admin/evaluate', { digest: child.digest, parent: 'medicine', rows });
    expect(after.text).toBe(before.text);
    const parent = await admin('/admin/evaluate', { digest: adapter({ seed: 1 }).digest, rows });
    expect(parent.text).not.toBe(before.text);
  });

  it('tells which row is too long, and scores the others', async () => {
    const digest = adapter({ seed: 1 }).digest;
    const long = { prompt: 'x', expected: 'y'.repeat(TINY_LLAMA.context) };
    const answer = await admin('/admin/evaluate', { digest, rows: [rows[0], long, rows[1]] });
    const { rows: scores } = json<{ rows: RowScore[] }>(answer);
    expect(scores.map((score) => ('error' in score ? score.error : 'scored'))).toEqual([
      'scored',
      expect.stringContaining(String(TINY_LLAMA.context)),
      'scored',
    ]);
  });
});

describe('verifying', () => {
  it('finds the same after a restart', async () => {
    expect(await verdict('medicine')).toMatchObject({ ok: true, reason: null, kl: 0 });
    await restart();
    expect(await verdict('medicine')).toMatchObject({ ok: true, reason: null, kl: 0 });
    expect(await verdict('medicine/faint')).toMatchObject({ ok: true, reason: null, kl: 0 });
  });

  it('finds a proof that is not the adapter’s', async () => {
    const { tokens } = live.proof;
    const forged = tokens.map(({ logprob }, i) => ({ id: tokens.at(-1 - i)?.id ?? 0, logprob }));
    await restart(async () => {
      const edge = await startEdge({
        port: 0,
        stateFolder: path.join(stack.folder, '.wrangler/state'),
        bindings: {
          ORIGINS: JSON.stringify([{ id: 'dead', url: 'http://127.0.0.1:9' }]),
          GRAFT_ORIGIN_KEYS: stack.keys.originKeys,
          GRAFT_MAC_KEY: stack.keys.macSecret,
        },
      });
      const db = await edge.miniflare.getD1Database('DB');
      const proof = JSON.stringify({ ...live.proof, tokens: forged });
      const sha256 = createHash('sha256').update(proof).digest('hex');
      const kv = await edge.miniflare.getKVNamespace('ADAPTERS');
      await kv.put(`blob:${live.digest}:${sha256}`, proof);
      await db.prepare("UPDATE versions SET proof = ? WHERE name = 'medicine'").bind(sha256).run();
      await edge.stop();
    });
    const found = await verdict('medicine');
    expect(found).toMatchObject({ ok: false, reason: 'proof_mismatch' });
    expect(found.kl).toBeGreaterThan(0.05);
  });
});
