import { expect, it } from 'vitest';
import { createSignInLink } from '../../../cli/local/stack.ts';
import { SignInRequest } from '../../../protocol/index.ts';
import { createSignIn, SignInLink } from '../../../worker/access/require-admin.ts';

it('says its token where no server sees it, and the edge gets what it needs to know it again', async () => {
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
