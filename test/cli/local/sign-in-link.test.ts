import { describe, expect, it } from 'vitest';
import { SignInRequest } from '../../../protocol/index.ts';
import { createSignInLink } from '../../../cli/local/sign-in-link.ts';

const link = () => {
  let lent = 0;
  const made = createSignInLink({ adminKey: 'ga_1', lend: async () => `gk_${++lent}` });
  return { ...made, token: made.of('http://127.0.0.1:1').split('/').at(-1) as string, lent: () => lent };
};

describe('a link to sign in by', () => {
  it('says its token where no server sees it, and as the edge takes it', () => {
    const { of, token } = link();
    const { pathname, search, hash } = new URL(of('http://127.0.0.1:8787'));
    expect([pathname, search, hash]).toEqual(['/dashboard', '', `#/sign-in/${token}`]);
    expect(SignInRequest.parse({ token })).toEqual({ token });
    expect(link().token).not.toBe(token);
  });

  it('is good once, and lends one key', async () => {
    const { exchange, token, lent } = link();
    expect(await exchange('x'.repeat(43))).toBeNull();
    const both = await Promise.all([exchange(token), exchange(token)]);
    expect(both).toEqual([{ admin_key: 'ga_1', api_key: 'gk_1' }, null]);
    expect(lent()).toBe(1);
  });
});
