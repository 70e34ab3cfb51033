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

  it('reads what may be left out', () => {
    expect(parseEnv(good)).toMatchObject({
      corsOrigins: [],
      logSample: 0,
      traceShare: 0,
      prices: null,
      acceptedMacKeys: [],
      dropTenant: null,
      loopbackCallbacks: false,
      signInLink: null,
    });
    const rotated = { ...good, GRAFT_ACCEPTED_MAC_KEYS: `${secret}, ${secret}` };
    expect(parseEnv(rotated).acceptedMacKeys.map(({ length }) => length)).toEqual([32, 32]);
    const more = {
      CORS_ORIGINS: ' https://a.example, http://localhost:5173 ',
      LOG_SAMPLE: '0.25',
      TRACE_SAMPLE: '0.5',
    };
    expect(parseEnv({ ...good, ...more })).toMatchObject({
      corsOrigins: ['https://a.example', 'http://localhost:5173'],
      logSample: 0.25,
      traceShare: 0.5,
    });
  });

  it('reads a price list, and which of its bases `base` means', () => {
    const large = { prompt: 0.2, completion: 0.8 };
    const list = { currency: 'USD', prompt: 0.05, completion: 0.2, bases: { large } };
    const prices = (more: object) =>
      parseEnv({ ...good, PRICES: JSON.stringify({ ...list, ...more }) }).prices;
    expect(prices({})).toEqual(list);
    expect(prices({ bases: undefined })).toEqual({ ...list, bases: {} });
    const ORIGINS = '[{"id":"o1","url":"https://a.example","base":"large"}]';
    expect(parseEnv({ ...good, ORIGINS, PRICES: JSON.stringify(list) }).prices?.bases).toEqual({
      ...{ large, base: large },
    });
    expect(parseEnv({ ...good, PRICES: '' }).prices).toBeNull();
    for (const wrong of [{ currency: '$' }, { prompt: -1 }, { completion: undefined }, { extra: 1 }])
      expect(() => prices(wrong)).toThrow(/PRICES/);
  });

  it('reads which base each origin serves, and which is the default', () => {
    const origins = [
      { id: 'o1', url: 'http://x', base: 'tiny' },
      { id: 'o2', url: 'http://y', base: 'large-7b' },
    ];
    const bases = { ...good, ORIGINS: JSON.stringify(origins) };
    expect(parseEnv(bases)).toMatchObject({ origins, defaultBase: null });
    expect(parseEnv({ ...bases, DEFAULT_BASE: '' }).defaultBase).toBeNull();
    expect(parseEnv({ ...bases, DEFAULT_BASE: 'large-7b' }).defaultBase).toBe('large-7b');
    expect(() => parseEnv({ ...bases, DEFAULT_BASE: 'huge' })).toThrow('DEFAULT_BASE');
  });

  it.each([
    [{}, null],
    [{ DROPS: '' }, null],
    [{ DROPS: 'off', DROP_TENANT: 'alice' }, null],
    [{ DROP_TENANT: 'alice' }, null],
    [{ DROPS: 'on' }, 'default'],
    [{ DROPS: 'on', DROP_TENANT: '' }, 'default'],
    [{ DROPS: 'on', DROP_TENANT: 'alice' }, 'alice'],
  ])('takes dropped files in only when told to: %j', (more, dropTenant) => {
    expect(parseEnv({ ...good, ...more })).toMatchObject({ dropTenant });
  });

  it.each([
    ['ORIGINS', '{'],
    ['ORIGINS', '[]'],
    ['ORIGINS', '[{"id":"o1","url":"ftp://x"}]'],
    ['ORIGINS', '[{"id":"o 1","url":"http://x"}]'],
    ['ORIGINS', '[{"id":"o1","url":"http://x","key":"y"}]'],
    ['ORIGINS', '[{"id":"o1","url":"http://x"},{"id":"o1","url":"http://y"}]'],
    ['ORIGINS', '[{"id":"o1","url":"http://x","base":"tiny"},{"id":"o2","url":"http://y"}]'],
    ['ORIGINS', '[{"id":"o1","url":"http://x","base":"Owner/Tiny"}]'],
    ['ORIGINS', '[{"id":"o1","url":"http://x","base":"base"}]'],
    ['DEFAULT_BASE', 'tiny'],
    ['GRAFT_ORIGIN_KEYS', 'c2hvcnQ='],
    ['GRAFT_ORIGIN_KEYS', 'k1:c2hvcnQ='],
    ['GRAFT_MAC_KEY', 'c2hvcnQ='],
    ['GRAFT_MAC_KEY', '!'],
    ['GRAFT_ADMIN_KEY_SHA256', 'abc'],
    ['ORIGINS', '[{"id":"o1","url":"https://u:p@x"}]'],
    ['CORS_ORIGINS', 'a.example'],
    ['CORS_ORIGINS', 'https://a.example/'],
    ['GRAFT_ACCEPTED_MAC_KEYS', 'c2hvcnQ='],
    ['LOG_SAMPLE', '1.5'],
    ['LOG_SAMPLE', '-1'],
    ['DROPS', 'yes'],
    ['DROP_TENANT', '*'],
  ])('refuses %s = %s by name, and does not repeat secrets', (name, value) => {
    const parse = () => parseEnv({ ...good, [name]: value });
    expect(parse).toThrow(name);
    if (name !== 'ORIGINS' && name !== 'DEFAULT_BASE') expect(parse).not.toThrow(value);
  });
});
