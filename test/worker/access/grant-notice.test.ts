import { expect, it } from 'vitest';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness } from '../app-harness.ts';

it('tells only the operator that a tenant has no API key', async () => {
  const graft = await createAppHarness();
  const make = async (body: object) =>
    ((await (await graft.request('/admin/keys', { body })).json()) as { key: string }).key;
  const clinic = await make({ kind: 'admin', tenant: 'clinic' });
  expect((await graft.publish('clinic/notes', tinyAdapter({ seed: 1 }), { owner: 'clinic' })).status).toBe(
    201,
  );
  const notice = async (tenant: string, key?: string): Promise<unknown> => {
    const body = { scope: 'clinic/**', tenant };
    const granted = await graft.request('/admin/grants', { body, ...(key === undefined ? {} : { key }) });
    expect(granted.ok).toBe(true);
    return ((await granted.json()) as { notice?: string }).notice;
  };
  expect(await notice('hosptial')).toMatch(/^'hosptial' has no API key, so nobody can use this grant yet/);
  expect(await notice('hosptial', clinic)).toBeUndefined();
  expect(await notice('*')).toBeUndefined();
  await make({ tenant: 'hosptial' });
  expect(await notice('hosptial')).toBeUndefined();
});
