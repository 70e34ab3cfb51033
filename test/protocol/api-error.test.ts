import { describe, expect, it } from 'vitest';
import {
  errorBody,
  errorHeaders,
  errorResponse,
  errorStatus,
  type ApiError,
  unknownPath,
} from '../../protocol/api-error.ts';

const of = (code: string, extra: object = {}): ApiError => ({ code, message: 'm', ...extra }) as ApiError;

describe('errors', () => {
  it.each([
    ['invalid_api_key', 401],
    ['insufficient_scope', 403],
    ['invalid_signature', 401],
    ['model_not_found', 404],
    ['model_withdrawn', 410],
    ['invalid_request', 400],
    ['context_length_exceeded', 400],
    ['request_too_large', 413],
    ['version_conflict', 409],
    ['exposure_malformed', 400],
    ['exposure_forged', 400],
    ['exposure_expired', 400],
    ['exposure_of_another_tenant', 403],
    ['experiment_over', 409],
    ['adapter_missing', 409],
    ['adapter_loading', 409],
    ['adapter_invalid', 422],
    ['rate_limit_exceeded', 429],
    ['queue_full', 429],
    ['origin_unavailable', 503],
    ['origin_stopped', 503],
    ['adapter_unavailable', 503],
    ['edge_busy', 503],
    ['registry_damaged', 500],
    ['internal_error', 500],
  ])('%s is HTTP %i', (code, status) => {
    expect(errorStatus(of(code))).toBe(status);
    expect(errorBody(of(code)).error).toMatchObject({
      code,
      message: 'm',
      type: expect.stringMatching(/_error$/),
    });
  });

  it("has OpenAI's shape: param is always there", () => {
    expect(errorBody(of('invalid_request', { param: 'n' }))).toEqual({
      error: { message: 'm', type: 'invalid_request_error', param: 'n', code: 'invalid_request' },
    });
    expect(errorBody(of('model_not_found')).error.param).toBeNull();
    expect(errorBody(of('adapter_missing', { missing: ['d'] })).error.missing).toEqual(['d']);
    expect(errorBody(of('adapter_invalid', { reason: 'dora' })).error.reason).toBe('dora');
  });

  it.each([
    [1, '1'],
    [1_000, '1'],
    [1_001, '2'],
  ])('retry after %i ms is %s whole seconds', (retryAfterMs, seconds) => {
    expect(errorHeaders(of('queue_full', { retryAfterMs }))).toEqual({
      'retry-after': seconds,
      'retry-after-ms': String(retryAfterMs),
      'x-should-retry': 'true',
    });
  });

  it.each<[string, object, 'true' | 'false' | null]>([
    ['adapter_loading', { retryAfterMs: 50 }, 'true'],
    ['adapter_unavailable', { retryAfterMs: 50 }, 'true'],
    ['rate_limit_exceeded', { retryAfterMs: 50 }, 'true'],
    ['origin_unavailable', { retryAfterMs: 50 }, 'true'],
    ['queue_full', { retryAfterMs: 50 }, 'true'],
    // It never fits.
    ['queue_full', { retryAfterMs: null }, 'false'],
    // The time that the request had is spent.
    ['deadline_exceeded', {}, 'false'],
    ['invalid_request', {}, 'false'],
    ['invalid_api_key', {}, 'false'],
    ['insufficient_scope', {}, 'false'],
    ['model_not_found', {}, 'false'],
    ['unknown_url', {}, 'false'],
    ['method_not_allowed', {}, 'false'],
    ['request_too_large', {}, 'false'],
    ['adapter_invalid', {}, 'false'],
    ['exposure_malformed', {}, 'false'],
    ['exposure_forged', {}, 'false'],
    ['exposure_expired', {}, 'false'],
    ['exposure_of_another_tenant', {}, 'false'],
    // It does not begin again, though it is a 409.
    ['experiment_over', {}, 'false'],
    // The client's own rules decide.
    ['version_conflict', {}, null],
    ['internal_error', {}, null],
  ])('%s %j: x-should-retry %s', (code, extra, should) => {
    const headers = errorHeaders(of(code, extra));
    expect(headers['x-should-retry'] ?? null).toBe(should);
    expect('retry-after-ms' in headers).toBe(should === 'true');
  });

  it('makes a whole response', async () => {
    const response = errorResponse(of('queue_full', { retryAfterMs: 5 }), { 'x-request-id': 'r' });
    expect(response.status).toBe(429);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'application/json',
      'retry-after-ms': '5',
      'x-request-id': 'r',
    });
    expect(await response.json()).toEqual(errorBody(of('queue_full')));
  });
});

describe('unknownPath', () => {
  it.each([
    ['POST', '/v1/embeddings/x'],
    ['POST', '/v1/moderations'],
    ['POST', '/v1/audio/speech'],
    ['POST', '/v1/images/generations'],
    ['GET', '/v1/files'],
    ['POST', '/v1/batches'],
    ['POST', '/v1/responses/input_tokens'],
    ['GET', '/v1/chat/completions/x'],
  ])('%s %s: lists what exists instead', (method, path) => {
    const error = unknownPath(method, path);
    expect(error.code).toBe('unknown_url');
    expect(error.message).toContain(`no ${method} ${path}. `);
    expect(error.message).toContain('POST /v1/chat/completions');
  });

  it.each([
    ['GET', '/v1/responses/resp_1'],
    ['DELETE', '/v1/responses/resp_1'],
    ['GET', '/v1/responses/resp_1/input_items'],
    ['POST', '/v1/responses/resp_1/cancel'],
  ])('%s %s: explains that nothing is stored', (method, path) => {
    expect(unknownPath(method, path)).toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('does not store'),
    });
  });

  it('repeats no long or odd path', () => {
    for (const path of ['/v1/<script>\n', `/v1/${'x'.repeat(200)}`, '/v1/\u{1f600}'])
      expect(unknownPath('GET', path).message).toContain('has no such path.');
    expect(unknownPath('GET', '/elsewhere').code).toBe('not_found');
  });
});
