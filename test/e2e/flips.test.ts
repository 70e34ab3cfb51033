/** A name flipped between its versions while streams of it run: each stream is of one version, and none fails. */
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TINY_ADAPTERS, writeTinyAdapter } from '../fixtures/tiny-base.ts';
import { bearer, CHAT } from './canary-stack.ts';
import { send, startTinyStack, type TinyStack } from './tiny-stack.ts';

const NAME = 'alice/notes';
const PROMPTS = ['hello there', 'good morning', 'the end', 'a b c'];
/** Streams at once: more than half of the origin's rows, so that versions share batches. */
const AT_ONCE = 10;
/** A pointer moves at most once a second, so each takes about one. */
const FLIPS = [2, 1, 3, 1, 2];

let stack: TinyStack;

interface Streamed {
  /** From `x-graft-adapter`. */
  version: string;
  /** `<token> <log-probability>` of each. */
  tokens: string[];
}

async function stream(model: string, prompt: string): Promise<Streamed> {
  const answer = await send(stack.local.url, CHAT, {
    headers: { ...bearer(stack.local.key), 'content-type': 'application/json' },
    body: JSON.stringify({
      model,
      messages: [{ role: 'user', content: prompt }],
      stream: true,
      temperature: 0,
      max_tokens: 48,
      logprobs: true,
      ignore_eos: true,
    }),
  });
  expect(answer.status, answer.text).toBe(200);
  const frames = answer.text.split('\n\n').filter((frame) => frame.startsWith('data: '));
  expect(frames.at(-1)).toBe('data: [DONE]');
  const tokens = frames.slice(0, -1).flatMap((frame) => {
    const chunk = JSON.parse(frame.slice(6)) as {
      error?: unknown;
      choices: { logprobs: { content: { token: string; logprob: number }[] } | null }[];
    };
    expect(chunk.error).toBeUndefined();
    return (chunk.choices[0]?.logprobs?.content ?? []).map(({ token, logprob }) => `${token} ${logprob}`);
  });
  return { version: String(answer.headers['x-graft-adapter']), tokens };
}

beforeAll(async () => {
  stack = await startTinyStack();
  for (const [i, adapter] of ['attention', 'patterned', 'everything'].entries()) {
    const folder = path.join(stack.folder, adapter);
    writeTinyAdapter(folder, TINY_ADAPTERS[adapter] as Parameters<typeof writeTinyAdapter>[1]);
    // The third is there, but not live, until it is flipped to.
    const args = i === 2 ? ['--stage'] : [];
    const { code, stderr } = await stack.graft('publish', folder, '--name', NAME, ...args);
    expect(code, stderr).toBe(0);
  }
});
afterAll(() => stack.remove());

it('no stream changes its weights, and no request fails', async () => {
  const expected = new Map<string, string[]>();
  for (const version of [1, 2, 3])
    for (const prompt of PROMPTS) {
      const { version: label, tokens } = await stream(`${NAME}@${version}`, prompt);
      expect(label).toBe(`${NAME}@${version}`);
      expected.set(`${label} ${prompt}`, tokens);
    }
  // All differ, or a change of weights could go unseen.
  expect(new Set([...expected.values()].map((tokens) => tokens.join())).size).toBe(expected.size);

  let flipping = true;
  let flips = 0;
  let across = 0;
  const served = new Map<string, number>();
  const client = async (turn: number): Promise<void> => {
    for (let i = turn; flipping; i += 1) {
      const prompt = PROMPTS[i % PROMPTS.length] as string;
      const before = flips;
      const { version, tokens } = await stream(NAME, prompt);
      expect(tokens).toEqual(expected.get(`${version} ${prompt}`));
      served.set(version, (served.get(version) ?? 0) + 1);
      if (flips > before) across += 1;
    }
  };
  const flip = async (): Promise<void> => {
    try {
      for (const to of FLIPS) {
        const flipped = await send(stack.local.url, '/admin/promote', {
          headers: bearer(stack.local.adminKey),
          body: JSON.stringify({ name: NAME, version: to }),
        });
        expect(flipped.status, flipped.text).toBe(200);
        flips += 1;
        // What is asked for from now on is the new version: seen at once where it was made.
        expect((await stream(NAME, 'hello there')).version).toBe(`${NAME}@${to}`);
      }
    } finally {
      flipping = false;
    }
  };
  await Promise.all([flip(), ...Array.from({ length: AT_ONCE }, (_, turn) => client(turn))]);
  expect(flips).toBe(FLIPS.length);
  expect([...served.keys()].sort()).toEqual([1, 2, 3].map((version) => `${NAME}@${version}`));
  expect(across).toBeGreaterThanOrEqual(FLIPS.length);
});
