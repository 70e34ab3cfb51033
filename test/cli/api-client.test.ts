import { describe, expect, it } from 'vitest';
import { errorResponse } from '../../protocol/api-error.ts';
import { createApiClient } from '../../cli/api-client.ts';
import { EXIT } from '../../cli/cli-error.ts';

const clientFor = (fetchFn: typeof fetch) => createApiClient({ url: 'http://edge', key: 'gk_x', fetchFn });

describe('createApiClient', () => {
  it('sends the key, and follows no redirect with it', async () => {
    let seen: RequestInit | undefined;
    const client = clientFor(async (_url, init) => {
      seen = init;
      return new Response('ok');
    });
    await client.send('ask', '/x', { method: 'POST', body: '{}' });
    const headers = new Headers(seen?.headers);
    expect(headers.get('authorization')).toBe('Bearer gk_x');
    expect(headers.get('content-type')).toBe('application/json');
    expect(seen?.redirect).toBe('manual');
  });

  it.each([
    [errorResponse({ code: 'invalid_api_key', message: 'no such key' }), EXIT.auth, /no such key.*GRAFT_KEY/],
    [errorResponse({ code: 'model_not_found', message: 'nothing there' }), EXIT.notFound, /nothing there/],
    [
      errorResponse({ code: 'adapter_invalid', message: 'bad shape', reason: 'shape_mismatch' }),
      EXIT.refused,
      /shape_mismatch/,
    ],
    [
      errorResponse({ code: 'queue_full', message: 'busy', retryAfterMs: 1500 }),
      EXIT.unavailable,
      /busy.*2 s/,
    ],
    [new Response('<html>', { status: 502 }), EXIT.error, /502/],
  ])('turns an error answer into a failure (%#)', async (response, exitCode, message) => {
    const failure = clientFor(async () => response).send('ask', '/x');
    await expect(failure).rejects.toMatchObject({
      exitCode,
      message: expect.stringMatching(message) as string,
    });
  });

  it.each([
    ['invalid_api_key', '/v1/x', 'graft login'],
    ['invalid_api_key', '/admin/x', 'graft login --admin'],
    ['model_not_found', '/v1/x', 'graft ls'],
    ['origin_unavailable', '/v1/x', 'graft ps'],
    ['queue_full', '/v1/x', null],
  ] as const)('knows what follows %s of %s: %j', async (code, asked, next) => {
    const failure = clientFor(async () =>
      Response.json({ error: { code, message: 'no' } }, { status: 400 }),
    ).send('ask', asked);
    await expect(failure).rejects.toMatchObject({ next });
  });

  it('reports that nobody answers', async () => {
    const client = clientFor(() =>
      Promise.reject(new TypeError('fetch failed', { cause: new Error('refused') })),
    );
    await expect(client.send('ask', '/x')).rejects.toMatchObject({
      exitCode: EXIT.unavailable,
      message: expect.stringContaining('refused') as string,
    });
  });
});
