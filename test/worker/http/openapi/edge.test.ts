import { afterAll, beforeAll, expect, it } from 'vitest';
import { startTestEdge, type TestEdge } from '../../edge-harness.ts';
import { apiDocument } from './api-document.ts';

let graft: TestEdge;
beforeAll(async () => {
  graft = await startTestEdge();
});
afterAll(() => graft.stop());

it('makes the document in workerd, for admin keys', async () => {
  const response = await graft.admin('/admin/openapi.json');
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual(apiDocument);
  const key = await graft.makeKey({ tenant: 'default' });
  expect((await graft.request('/admin/openapi.json', { key })).status).toBe(401);
});
