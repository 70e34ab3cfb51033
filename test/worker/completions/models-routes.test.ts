/** The list of models, with fakes. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { Model, ModelList } from '../../../protocol/completion-answers.ts';
import { MAX_LISTED_MODELS } from '../../../worker/completions/limits.ts';
import { versionRow } from '../../contracts/sample-rows.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

let graft: AppHarness;
let key: string;

const read = async <T>(path: string): Promise<T> => (await (await graft.request(path, { key })).json()) as T;
const list = (query = '') => read<ModelList>(`/v1/models?${query}`);
const idsOf = ({ data }: ModelList) => data.map(({ id }) => id);

beforeEach(async () => {
  graft = await createAppHarness();
  const made = await graft.request('/admin/keys', { body: { tenant: 'clinic' } });
  ({ key } = (await made.json()) as { key: string });
  expect((await graft.publish('medicine', tinyAdapter({ seed: 1 }), { owner: 'clinic' })).status).toBe(201);
});

describe('GET /v1/models', () => {
  it('lists aliases exactly as it answers for each alone', async () => {
    const body = { name: 'best', target: 'medicine' };
    const admin = await graft.request('/admin/keys', { body: { kind: 'admin', tenant: 'clinic' } });
    const { key: adminKey } = (await admin.json()) as { key: string };
    expect((await graft.request('/admin/alias', { key: adminKey, body })).status).toBe(200);
    // Another tenant's alias works if its name is known, but is not listed.
    expect((await graft.request('/admin/alias', { body: { ...body, name: 'theirs' } })).status).toBe(200);
    const models = await list();
    expect(idsOf(models)).toEqual(['tiny-base', 'best', 'medicine']);
    expect(models.data[1]).toEqual(await read<Model>('/v1/models/best'));
    expect(models.data[1]).toEqual({ ...models.data[2], id: 'best' });
    expect(await read<Model>('/v1/models/theirs')).toMatchObject({ id: 'theirs' });
    expect(idsOf(await list('prefix=be'))).toEqual(['best']);
    expect(idsOf(await list('after=best'))).toEqual(['medicine']);
  });

  it('continues after the last id, whether that is an alias or not', async () => {
    const { registry } = graft.services;
    const names = Array.from({ length: 2 * MAX_LISTED_MODELS }, (_, i) => `n${String(10_000 + i)}`);
    for (const [i, name] of names.entries())
      if (i % 2 === 0)
        await registry.publish({
          row: versionRow(name, 1, { owner: 'clinic' }),
          stage: false,
          before: null,
        });
      else
        await registry.alias({
          ...{ before: null, name, owner: 'clinic', actor: 'x', at: 1 },
          target: names[i - 1] as string,
        });
    const pages: ModelList[] = [await list()];
    while (pages.at(-1)?.has_more === true) pages.push(await list(`after=${idsOf(pages.at(-1)!).at(-1)}`));
    expect(pages.map(({ data }) => data.length)).toEqual([MAX_LISTED_MODELS, MAX_LISTED_MODELS, 2]);
    expect(pages.flatMap(idsOf)).toEqual(['tiny-base', 'medicine', ...names]);
    expect((await list(`after=${names[MAX_LISTED_MODELS - 1]}`)).has_more).toBe(false);
  });
});
