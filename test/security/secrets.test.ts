/** The whole stack as processes: whatever it is asked, no secret is in what it says, nor where it does not belong. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { generateApiKey } from '../../protocol/identity.ts';
import { ATTENTION, bearer, CHAT, chatBody } from '../e2e/canary-stack.ts';
import { send, startTinyStack, type TinyStack } from '../e2e/tiny-stack.ts';
import { writeTinyAdapter } from '../fixtures/tiny-base.ts';
import { childrenOf, findInMemory } from './process-memory.ts';

/** In every prompt, and a name nobody may see. */
const PROMPT = 'zanzibar quilted marmalade';
const ACCOUNT_TOKEN = 'cf-token-kumquat-7f3a91';

let stack: TinyStack;
/** All that was said: answers with their headers, and the commands' output. */
const said: string[] = [];

beforeAll(async () => {
  // As an operator's shell would have it.
  vi.stubEnv('CLOUDFLARE_API_TOKEN', ACCOUNT_TOKEN);
  stack = await startTinyStack();
});
afterAll(async () => {
  await stack.remove();
  vi.unstubAllEnvs();
});

const secrets = (): Record<string, string> => ({
  'the API key': stack.keys.apiKey,
  'the admin key': stack.keys.adminKey,
  'the secret of signatures': stack.keys.originKeys.split(':')[1] as string,
  'the secret of seals': stack.keys.macSecret,
  'the token of the account': ACCOUNT_TOKEN,
});

async function ask(url: string, target: string, options: Parameters<typeof send>[2] = {}): Promise<number> {
  // A refusal may come, and the connection be closed, before a large body has been sent.
  const answer = await send(url, target, options).catch(() => null);
  if (answer !== null) said.push(JSON.stringify(answer.headers), answer.text);
  return answer?.status ?? 0;
}

it('says no secret, in answers, logs and commands, whatever fails', async () => {
  const { local, keys, folder } = stack;
  writeTinyAdapter(path.join(folder, 'first'), ATTENTION);
  const commands = [
    ['publish', 'first', '--name', 'alice/notes'],
    ['ls', '--json'],
    ['run', 'alice/notes', 'hello', '--temperature', '9', '--json'],
  ];
  for (const command of commands) {
    const { stdout, stderr } = await stack.graft(...command);
    expect(stdout + stderr).not.toBe('');
    said.push(stdout, stderr);
  }
  const messages = [{ role: 'user', content: PROMPT }];
  const { apiKey, adminKey } = keys;
  const body = chatBody({ messages });
  expect(await ask(local.url, CHAT, { body, headers: bearer(apiKey) })).toBe(200);
  const bodies = [
    body,
    body.slice(0, -1),
    chatBody({ messages, stream: true }),
    chatBody({ messages, model: `${PROMPT.replaceAll(' ', '-')}` }),
    chatBody({ messages, [PROMPT]: apiKey }),
    chatBody({ messages, max_tokens: PROMPT }),
    chatBody({ messages: [{ role: 'user', content: PROMPT.repeat(1_000) }] }),
  ];
  for (const key of [apiKey, adminKey, generateApiKey('gk'), `${apiKey}x`])
    for (const one of bodies) {
      await ask(local.url, CHAT, { body: one, headers: bearer(key) });
      await ask(local.url, '/admin/keys', { body: one, headers: bearer(key) });
    }
  for (const key of [apiKey, adminKey])
    for (const target of [
      '/admin/keys',
      '/admin/names',
      '/admin/origins',
      '/v1/models',
      `/v1/models/${PROMPT}`,
      `/${key}`,
    ])
      await ask(local.url, encodeURI(target), { headers: bearer(key) });
  const signature = { 'x-graft-signature': `v1 kid=a,t=1,n=${'a'.repeat(22)},h=2,s=3` };
  for (const headers of [{}, signature, bearer(generateApiKey('gk'))]) {
    await ask(local.originUrl, CHAT, { body, headers });
    for (const target of ['/metrics', '/healthz', '/readyz', '/adapters', '/base'])
      await ask(local.originUrl, target, { headers });
  }

  const log = await readFile(path.join(folder, '.graft/dev.log'), 'utf8');
  const all = [...said, log].join('\n');
  // The paths and the field that were asked for are told again to who asked.
  const echoed = all.replaceAll(new RegExp(`(no GET /|')(${apiKey}|${adminKey})`, 'g'), '');
  for (const [what, secret] of Object.entries(secrets()))
    expect([what, echoed.indexOf(secret)]).toEqual([what, -1]);
  expect(log).not.toContain('zanzibar');
  expect(log).not.toContain(apiKey.slice(3, 20));
});

it('the origin has never seen a key, nor what opens the registry or the account', () => {
  const [origin] = childrenOf(stack.dev.child.pid as number, 'origin/main.');
  expect(origin).toBeGreaterThan(0);
  const own = secrets()['the secret of signatures'] as string;
  const needles = Object.fromEntries(
    Object.entries(secrets()).flatMap(([what, text]) => [
      [what, Buffer.from(text)],
      ...(what.includes('seals') ? [[`${what}, decoded`, Buffer.from(text, 'base64')]] : []),
    ]),
  ) as Record<string, Buffer>;
  const found = findInMemory(origin as number, needles);
  if (found === null) return console.warn('skipped: the memory of another process cannot be read here');
  expect(own).not.toBe('');
  expect(found).toEqual(['the secret of signatures']);
});
