import { describe, expect, it } from 'vitest';
import { parseEnv } from '../../worker/env.ts';

const secret = Buffer.alloc(32, 5).toString('base64');
const good = {
  ORIGINS: '[{"id":"o1","url":"https://origin.example.com/base/"}]',
  GRAFT_ORIGIN_KEYS: `k1:${secret},k2:${secret}`,
  GRAFT_MAC_KEY: secret,
  GRAFT_ADMIN_KEY_SHA256: 'a'.repeat(64),
};

describe('parseEnv', () => {
  it('reads bindings', () => {
    const config = parseEnv(good);
    expect(config.origins).toEqual([{ id: 'o1', url: 'https://origin.example.com/base' }]);
    expect(config.originKeys.map(({ kid }) => kid)).toEqual(['k1', 'k2']);
    expect(config.macKey).toHaveLength(32);
    expect(config.adminKeyHash).toBe('a'.repeat(64));
    expect(parseEnv({ ...good, GRAFT_ADMIN_KEY_SHA256: '' }).adminKeyHash).toBeNull();
  });

  it.each([
    ['ORIGINS', '{'],
    ['ORIGINS', '[]'],
    ['ORIGINS', '[{"id":"o1","url":"ftp://x"}]'],
    ['ORIGINS', '[{"id":"o 1","url":"http://x"}]'],
    ['ORIGINS', '[{"id":"o1","url":"http://x","key":"y"}]'],
    ['ORIGINS', '[{"id":"o1","url":"http://x"},{"id":"o1","url":"http://y"}]'],
    ['GRAFT_ORIGIN_KEYS', 'c2hvcnQ='],
    ['GRAFT_ORIGIN_KEYS', 'k1:c2hvcnQ='],
    ['GRAFT_MAC_KEY', 'c2hvcnQ='],
    ['GRAFT_MAC_KEY', '!'],
    ['GRAFT_ADMIN_KEY_SHA256', 'abc'],
  ])('refuses %s = %s by name, and does not repeat secrets', (name, value) => {
    const parse = () => parseEnv({ ...good, [name]: value });
    expect(parse).toThrow(name);
    if (name !== 'ORIGINS') expect(parse).not.toThrow(value);
  });
});
