import { ZodError } from 'zod';
import { describe, expect, it } from 'vitest';
import { createApiClient, callOperation, callWithStatus } from '../../cli/api-client.ts';
import { CliError } from '../../cli/cli-error.ts';
import { NewKey } from '../../protocol/admin-api/keys.ts';

interface Asked {
  method: string;
  path: string;
  type: string | null;
  body: unknown;
}

function serverOf(...answers: Response[]) {
  const asked: Asked[] = [];
  const client = createApiClient({
    url: 'http://edge.test',
    key: 'ga_x',
    fetchFn: async (input, init) => {
      const path = String(input).slice('http://edge.test'.length);
      const type = new Headers(init?.headers).get('content-type');
      asked.push({ method: init?.method ?? 'GET', path, type, body: init?.body ?? null });
      return answers.shift() ?? new Response(null, { status: 500 });
    },
  });
  return { client, asked };
}

const flipped = { name: 'a', version: 2, from: 1 };

describe('callOperation', () => {
  it('puts parameters, query and body where the operation has them', async () => {
    const digest = 'a'.repeat(64);
    const { client, asked } = serverOf(
      Response.json(flipped),
      Response.json({ keys: [], cursor: null }),
      Response.json({ index: 3, bytes: 1, sha256: digest }),
    );
    const body = { name: 'a', version: 2 };
    expect(await callOperation(client, 'promote', 'POST /admin/promote', { body })).toEqual(flipped);
    expect(await callOperation(client, 'list', 'GET /admin/keys', {})).toEqual({ keys: [], cursor: null });
    await callOperation(client, 'send', 'PUT /admin/blobs/:digest/parts/:index', {
      params: { digest, index: '3' },
      query: { sha256: digest },
      body: Uint8Array.of(1),
    });
    expect(asked).toEqual([
      { method: 'POST', path: '/admin/promote', type: 'application/json', body: JSON.stringify(body) },
      { method: 'GET', path: '/admin/keys', type: null, body: null },
      {
        method: 'PUT',
        path: `/admin/blobs/${digest}/parts/3?sha256=${digest}`,
        type: 'application/octet-stream',
        body: Uint8Array.of(1),
      },
    ]);
  });

  it('drops unknown fields of an answer, and refuses an invalid one', async () => {
    const { client } = serverOf(Response.json({ ...flipped, later: 1 }), Response.json({ name: 'a' }));
    const promote = () =>
      callOperation(client, 'promote', 'POST /admin/promote', { body: { name: 'a', version: 2 } });
    expect(await promote()).toEqual(flipped);
    await expect(promote()).rejects.toThrow(ZodError);
  });

  it('returns null for an answer without a body, and validates a narrower schema on request', async () => {
    const { client } = serverOf(new Response(null, { status: 204 }), Response.json({}, { status: 201 }));
    expect(await callOperation(client, 'free', 'DELETE /admin/rooms', { query: { name: 'a' } })).toBeNull();
    const as = NewKey.required({ key: true });
    await expect(callOperation(client, 'make', 'POST /admin/keys', { body: {}, as })).rejects.toThrow(
      ZodError,
    );
  });

  it('retries only if told to', async () => {
    const busy = () => new Response(null, { status: 503 });
    const { client, asked } = serverOf(busy(), busy(), Response.json(flipped));
    const body = { name: 'a', version: 2 };
    await expect(callOperation(client, 'promote', 'POST /admin/promote', { body })).rejects.toThrow(CliError);
    const retrying = { sleep: async () => undefined };
    expect(await callOperation(client, 'promote', 'POST /admin/promote', { body, retrying })).toEqual(
      flipped,
    );
    expect(asked).toHaveLength(3);
  });
});

it('callWithStatus reports what is new', async () => {
  const grant = { scope: 'a', tenant: 'b', owner: 'c', created_at: 1, created_by: 'key_1' };
  const { client } = serverOf(Response.json(grant, { status: 201 }));
  const call = { body: { scope: 'a', tenant: 'b' } };
  expect(await callWithStatus(client, 'grant', 'POST /admin/grants', call)).toEqual({
    status: 201,
    answer: grant,
  });
});
