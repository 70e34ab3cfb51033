import { describe, expect, it } from 'vitest';
import { unknownPath } from '../../protocol/index.ts';

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
  ])('%s %s: says what there is instead', (method, path) => {
    const error = unknownPath(method, path);
    expect(error.code).toBe('unknown_url');
    expect(error.message).toContain(`no ${method} ${path};`);
    expect(error.message).toContain('POST /v1/chat/completions');
  });

  it.each([
    ['GET', '/v1/responses/resp_1'],
    ['DELETE', '/v1/responses/resp_1'],
    ['GET', '/v1/responses/resp_1/input_items'],
    ['POST', '/v1/responses/resp_1/cancel'],
  ])('%s %s: says that nothing is stored', (method, path) => {
    expect(unknownPath(method, path)).toMatchObject({
      code: 'not_found',
      message: expect.stringContaining('not stored'),
    });
  });

  it('shows nothing that is long or odd', () => {
    for (const path of ['/v1/<script>\n', `/v1/${'x'.repeat(200)}`, '/v1/\u{1f600}'])
      expect(unknownPath('GET', path).message).toContain('has no such path;');
    expect(unknownPath('GET', '/elsewhere').code).toBe('not_found');
  });
});
