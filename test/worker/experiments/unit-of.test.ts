import { describe, expect, it } from 'vitest';
import { endUser, unitOf } from '../../../worker/experiments/assign.ts';

describe('endUser', () => {
  it('takes the body before the header, and nothing for nobody', () => {
    expect(endUser({ safetyIdentifier: 's', user: 'u', header: 'h' })).toBe('s');
    expect(endUser({ safetyIdentifier: null, user: 'u', header: 'h' })).toBe('u');
    expect(endUser({ safetyIdentifier: '', user: undefined, header: 'h' })).toBe('h');
    expect(endUser({ safetyIdentifier: undefined, user: '', header: null })).toBeNull();
  });
});

describe('unitOf', () => {
  const source = { tenant: 'acme', keyId: 'k1', user: 'alice' };

  it('is the end user where one is named, else the key', () => {
    expect(unitOf('user', source)).toBe('acme/user/alice');
    expect(unitOf('user', { ...source, user: null })).toBe('acme/key/k1');
    expect(unitOf('key', source)).toBe('acme/key/k1');
  });

  it('keeps tenants apart, and users from keys', () => {
    expect(unitOf('user', { ...source, tenant: 'other' })).not.toBe(unitOf('user', source));
    expect(unitOf('user', { ...source, user: 'k1' })).not.toBe(unitOf('key', source));
  });
});
