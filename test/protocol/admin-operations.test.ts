import { describe, expect, it } from 'vitest';
import { NewKey } from '../../protocol/admin-api/keys.ts';
import { LiveAnswer } from '../../protocol/admin-api/names.ts';
import {
  ADMIN_OPERATIONS,
  ADMIN_ROUTES,
  answerSchema,
  operationPath,
} from '../../protocol/admin-api/operations.ts';

describe('the table of the admin API', () => {
  it('gives every operation its own id and a successful answer', () => {
    const ids = Object.values(ADMIN_OPERATIONS).map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { answers } of Object.values(ADMIN_OPERATIONS))
      expect(Object.keys(answers).length).toBeGreaterThan(0);
  });

  it('gives a body to every changing method, and names its parameters', () => {
    for (const route of ADMIN_ROUTES) {
      const operation: { request: unknown; params?: object; ids?: object; patterns?: object } =
        ADMIN_OPERATIONS[route];
      if (/^(GET|DELETE) /.test(route)) expect([route, operation.request]).toEqual([route, null]);
      const inPath = [...route.matchAll(/:(\w+)/g)].map(([, name]) => name);
      const described = [operation.params, operation.ids, operation.patterns].flatMap((one) =>
        Object.keys(one ?? {}),
      );
      expect(inPath).toEqual(expect.arrayContaining(described));
    }
  });
});

describe('operationPath', () => {
  it('fills in parameters, and leaves out missing ones', () => {
    expect(operationPath('GET /admin/keys')).toBe('/admin/keys');
    expect(
      operationPath('DELETE /admin/keys/:id', {
        params: { id: 'a/b?c' },
        query: { report: 'true', cursor: null, made: undefined },
      }),
    ).toBe('/admin/keys/a%2Fb%3Fc?report=true');
    expect(
      operationPath('PUT /admin/blobs/:digest/parts/:index', { params: { digest: 'd', index: '3' } }),
    ).toBe('/admin/blobs/d/parts/3');
    expect(operationPath('GET /admin/history', { query: { name: 'a/b', limit: '5' } })).toBe(
      '/admin/history?name=a%2Fb&limit=5',
    );
  });
});

describe('answerSchema', () => {
  it('is by status, and falls back to the first', () => {
    expect(answerSchema('POST /admin/keys', 201)).toBe(NewKey);
    expect(answerSchema('POST /admin/promote', 202)).toBe(LiveAnswer);
    expect(answerSchema('DELETE /admin/rooms', 204)).toBeNull();
    expect(answerSchema('GET /admin/openapi.json', 200)).toBe('object');
  });
});
