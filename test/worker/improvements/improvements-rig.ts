import { expect } from 'vitest';
import { ImprovementRows } from '../../../protocol/admin-api/improvements.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { type AppHarness, createAppHarness } from '../app-harness.ts';
import { LATER_MS, makeKey } from '../experiments/experiment-rig.ts';

export const NAME = 'support/intent';

export interface Improvements {
  graft: AppHarness;
  /** API key of `acme` with `keep_prompts` and `improve`, and an admin key that may read prompts. */
  api: { key: string; id: string };
  reader: string;
  /** @returns the request's id. @param more of the body. @param key default: {@link Improvements.api}. */
  ask(answer: string, more?: object, key?: string): Promise<string>;
  prefer(chosen: string, rejected: string, key?: string): Promise<{ status: number; json: unknown }>;
  /** Two answers to one conversation, and which was better. */
  decide(user: string, better: string, worse: string): Promise<void>;
  rows(method?: 'sft' | 'dpo', key?: string): Promise<ImprovementRows>;
}

/** `support/intent` of `acme` is live. */
export async function startImprovements(): Promise<Improvements> {
  const graft = await createAppHarness();
  expect((await graft.publish(NAME, tinyAdapter({ seed: 1 }), { owner: 'acme' })).status).toBe(201);
  const api = await makeKey(graft, { tenant: 'acme', keep_prompts: 24, improve: true });
  const reader = (await makeKey(graft, { kind: 'admin', tenant: 'acme', prompts: true })).key;
  graft.clock.advance(LATER_MS);
  const other = graft.origin.answer;
  const ask: Improvements['ask'] = async (answer, more = {}, key = api.key) => {
    graft.origin.answer = (method, path, init, url) =>
      path.startsWith('/v1/')
        ? Response.json({
            choices: [
              {
                index: 0,
                ...(path === '/v1/completions' ? { text: answer } : { message: { content: answer } }),
              },
            ],
            ...(path === '/v1/classify' ? { data: [{ index: 0, label: answer, probs: [1] }] } : {}),
          })
        : other(method, path, init, url);
    const { path = '/v1/chat/completions', ...fields } = more as { path?: string };
    const body = { model: NAME, messages: [{ role: 'user', content: 'Where is it?' }], ...fields };
    const response = await graft.request(path, { key, body });
    await response.text();
    await graft.settled();
    graft.clock.advance(1);
    return response.headers.get('x-request-id') ?? '';
  };
  const prefer: Improvements['prefer'] = async (chosen, rejected, key = api.key) => {
    const response = await graft.request('/v1/preferences', { key, body: { chosen, rejected } });
    return { status: response.status, json: await response.json() };
  };
  return {
    ...{ graft, api, reader, ask, prefer },
    async decide(user, better, worse) {
      const [chosen, rejected] = [await ask(better, { user }), await ask(worse, { user })];
      expect(await prefer(chosen, rejected)).toMatchObject({ status: 200 });
    },
    async rows(method = 'sft', key = reader) {
      const response = await graft.request('/admin/improvements', { key, body: { name: NAME, method } });
      const text = await response.text();
      expect(response.status, text).toBe(200);
      return ImprovementRows.parse(JSON.parse(text));
    },
  };
}
