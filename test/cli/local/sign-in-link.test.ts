import { describe, expect, it } from 'vitest';
import { createSignInLink } from '../../../cli/local/stack.ts';
import { makeSignInToken, SIGN_IN_LINK_MS, SignInRequest } from '../../../protocol/identity.ts';
import { createSignIn, SignInLink } from '../../../worker/access/require-admin.ts';

it('keeps its token away from servers, and gives the edge what it needs to recognise it', async () => {
  const { of, binding } = await createSignInLink('ga_1');
  const { pathname, search, hash } = new URL(of('http://127.0.0.1:8787'));
  const token = hash.split('/').at(-1) as string;
  expect([pathname, search, hash]).toEqual(['/dashboard', '', `#/sign-in/${token}`]);
  expect(SignInRequest.parse({ token })).toEqual({ token });
  expect(binding).not.toContain(token);
  const signIn = createSignIn(SignInLink.parse(JSON.parse(binding)));
  expect(await signIn('x'.repeat(43))).toBeNull();
  expect(await signIn(token)).toEqual({ admin_key: 'ga_1' });
  expect(await signIn(token)).toBeNull();
  expect((await createSignInLink('ga_1')).of('')).not.toBe(of(''));
});

describe('a token that is made with the admin key', () => {
  const NOON = 1_780_000_000_000;
  const signInAt = async (now: () => number) =>
    createSignIn(SignInLink.parse(JSON.parse((await createSignInLink('ga_1')).binding)), now);

  it('signs in once, until it ends', async () => {
    let now = NOON;
    const signIn = await signInAt(() => now);
    const [one, other, late] = await Promise.all(
      [1, 2, 3].map(() => makeSignInToken('ga_1', NOON + SIGN_IN_LINK_MS)),
    );
    expect(SignInRequest.parse({ token: one })).toEqual({ token: one });
    const both = await Promise.all([signIn(one!), signIn(one!)]);
    expect(both.filter((key) => key !== null)).toEqual([{ admin_key: 'ga_1' }]);
    expect(await signIn(one!)).toBeNull();
    expect(await signIn(other!)).toEqual({ admin_key: 'ga_1' });
    now += SIGN_IN_LINK_MS;
    expect(await signIn(late!)).toBeNull();
  });

  it('is valid only in its own spelling, with its own key and within its time', async () => {
    const signIn = await signInAt(() => NOON);
    const token = await makeSignInToken('ga_1', NOON + SIGN_IN_LINK_MS);
    const digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    // The last digit has two bits that no byte has.
    for (const digit of digits)
      if (!token.endsWith(digit)) expect(await signIn(token.slice(0, -1) + digit)).toBeNull();
    for (const at of [0, 8, 20, 30]) {
      const other = token[at] === 'A' ? 'B' : 'A';
      expect(await signIn(token.slice(0, at) + other + token.slice(at + 1))).toBeNull();
    }
    expect(await signIn(await makeSignInToken('ga_2', NOON + SIGN_IN_LINK_MS))).toBeNull();
    expect(await signIn(await makeSignInToken('ga_1', NOON + SIGN_IN_LINK_MS + 1))).toBeNull();
    expect(await signIn('?'.repeat(43))).toBeNull();
    expect(await signIn(token)).toEqual({ admin_key: 'ga_1' });
  });

  it('reveals nothing of the key', async () => {
    const key = `ga_${'x'.repeat(33)}`;
    const token = await makeSignInToken(key, NOON);
    expect([token.length, token.includes('xxx')]).toEqual([43, false]);
    expect(await makeSignInToken(key, NOON)).not.toBe(token);
  });
});
