import { describe, expect, it } from 'vitest';
import { modelNotFound, registryUnavailable } from '../../worker/errors.ts';

it('says nothing of why the registry does not answer', () => {
  expect(registryUnavailable(7)).toEqual({
    code: 'registry_unavailable',
    message: expect.stringContaining('Retry in a few seconds'),
    retryAfterMs: 7,
  });
});

describe('modelNotFound', () => {
  it('cuts long names and offers suggestions', () => {
    const { message } = modelNotFound('x'.repeat(500), ['a', 'b']);
    expect(message.length).toBeLessThan(260);
    expect(message).toContain("Did you mean 'a' or 'b'?");
    expect(modelNotFound('x', []).message).not.toContain('Did you mean');
  });
});
