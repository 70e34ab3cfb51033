/** What was made from prompts is granted, or published to those who hold a grant, only after a question. */
import { beforeEach, expect, it } from 'vitest';
import type { TrainingCard } from '../../../protocol/training.ts';
import { trainingCard } from '../../contracts/sample-training.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { type AppHarness, createAppHarness } from '../app-harness.ts';

const PROMPTS: TrainingCard['prompts'] = { rows: 9, users: 9, by_users: 9, by_judges: 0, from: 1, to: 2 };
const FROM_PROMPTS = { training: trainingCard({ prompts: PROMPTS }) };

let graft: AppHarness;
beforeEach(async () => {
  graft = await createAppHarness();
  expect((await graft.publish('acme/plain', tinyAdapter({ seed: 1 }))).status).toBe(201);
  expect(
    (await graft.publish('acme/plain', tinyAdapter({ seed: 2 }), { training: trainingCard() })).status,
  ).toBe(201);
  expect((await graft.publish('acme/secret', tinyAdapter({ seed: 3 }), FROM_PROMPTS)).status).toBe(201);
});

const grant = async (scope: string, more: object = {}) => {
  const response = await graft.request('/admin/grants', { body: { scope, tenant: '*', ...more } });
  return { status: response.status, json: (await response.json()) as { error?: { message: string } } };
};

it.each([
  ['acme/plain', 201],
  ['acme/plain/**', 201],
  ['acme/secret', 409],
  ['acme/secret/**', 409],
  ['acme/**', 409],
  ['**', 409],
])('a grant of %s is answered with %i', async (scope, status) => {
  const asked = await grant(scope);
  expect(asked.status).toBe(status);
  if (status === 201) return;
  expect(asked.json.error).toMatchObject({
    code: 'version_conflict',
    param: 'made_from_prompts',
    message: expect.stringMatching(/^acme\/secret@1 was made from prompts .*--made-from-prompts/) as string,
  });
  expect((await grant(scope, { made_from_prompts: false })).status).toBe(409);
  expect((await grant(scope, { made_from_prompts: true })).status).toBe(201);
});

it('a retired version is nobody’s concern', async () => {
  await graft.publish('acme/secret', tinyAdapter({ seed: 4 }));
  const retired = await graft.request('/admin/retire', { body: { name: 'acme/secret', version: 1 } });
  expect(retired.status, await retired.text()).toBe(200);
  expect((await grant('acme/secret')).status).toBe(201);
});

it.each(['acme/notes', 'acme/notes/**', 'acme/**', '**'])(
  'a publication is refused under a grant of %s, before anything is stored',
  async (scope) => {
    expect((await graft.publish('acme/notes', tinyAdapter({ seed: 5 }))).status).toBe(201);
    expect((await grant(scope, { made_from_prompts: true })).status).toBe(201);
    const next = tinyAdapter({ seed: 6 });
    const refused = await graft.publish('acme/notes', next, { ...FROM_PROMPTS, stage: true });
    expect(refused.status).toBe(409);
    expect(await refused.json()).toMatchObject({
      error: {
        message: expect.stringMatching(/everybody may use 'acme\/notes' by a grant/) as string,
        param: 'made_from_prompts',
      },
    });
    const confirmed = { ...FROM_PROMPTS, made_from_prompts: true, stage: true };
    expect((await graft.publish('acme/notes', next, confirmed)).status).toBe(201);
    // Others' grants are of other names.
    expect((await graft.publish('acme/notes2', tinyAdapter({ seed: 7 }), FROM_PROMPTS)).status).toBe(
      scope === 'acme/**' || scope === '**' ? 409 : 201,
    );
  },
);
