import { describe, expect, it } from 'vitest';
import { createApp } from '../../../worker/app.ts';
import { createAppHarness, SIGN_IN_TOKEN } from '../app-harness.ts';

const JSON_BODY = { 'content-type': 'application/json' };

describe('the page', () => {
  it('is signed in once, also when two come at the same time', async () => {
    const { request } = await createAppHarness();
    const body = { token: SIGN_IN_TOKEN };
    const both = await Promise.all(
      [1, 2].map(() => request('/dashboard/sign-in', { method: 'POST', headers: JSON_BODY, body })),
    );
    expect(both.map(({ status }) => status).sort()).toEqual([200, 401]);
  });

  it('is where a browser is led to that asks for nothing', async () => {
    const { request } = await createAppHarness();
    const browser = await request('/', { headers: { accept: 'text/html,application/xhtml+xml' } });
    expect([browser.status, browser.headers.get('location')]).toEqual([302, '/dashboard']);
    expect((await request('/', { headers: { accept: '*/*' } })).status).toBe(404);
  });

  it('is signed in by the token of a link, once', async () => {
    const { request } = await createAppHarness();
    const ask = (body: unknown) =>
      request('/dashboard/sign-in', { method: 'POST', headers: JSON_BODY, body });
    const good = await ask({ token: SIGN_IN_TOKEN });
    expect([good.status, await good.json()]).toEqual([200, { admin_key: 'ga_lent' }]);
    expect(good.headers.get('cache-control')).toBe('no-store');
    expect(good.headers.get('content-security-policy')).toContain("default-src 'none'");
    for (const token of ['x'.repeat(43), SIGN_IN_TOKEN]) {
      const bad = await ask({ token });
      expect([bad.status, await bad.json()]).toMatchObject([401, { error: { code: 'invalid_api_key' } }]);
    }
    for (const body of [{}, { token: 'x' }, { token: SIGN_IN_TOKEN, more: 1 }])
      expect((await ask(body)).status).toBe(400);
  });

  it('has no links where there is nobody to make them', async () => {
    const { services } = await createAppHarness();
    const deployed = { ...services, signIn: undefined };
    const response = await createApp(deployed).request('/dashboard/sign-in', {
      method: 'POST',
      headers: JSON_BODY,
      body: JSON.stringify({ token: SIGN_IN_TOKEN }),
    });
    expect(response.status).toBe(404);
  });
});
