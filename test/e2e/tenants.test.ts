import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EXIT } from '../../cli/cli-error.ts';
import { signatureOf } from '../fakes/standard-webhooks.ts';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { send, startTinyStack, type TinyStack } from './tiny-stack.ts';

let stack: TinyStack;

const ask = (key: string, model = 'base') =>
  send(stack.local.url, '/v1/chat/completions', {
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model, max_tokens: 3, messages: [{ role: 'user', content: 'hi' }] }),
  });
const graftJson = async <T>(...args: string[]): Promise<T> => {
  const done = await stack.graft(...args, '--json');
  expect(done).toMatchObject({ code: EXIT.ok, stderr: '' });
  return JSON.parse(done.stdout) as T;
};

beforeAll(async () => {
  stack = await startTinyStack();
});
afterAll(() => stack.remove());

describe('tenants by the command line', () => {
  it('makes a key with limits, which it prints alone, counts it, rotates and revokes it', async () => {
    const made = await stack.graft('keys', 'create', '--rpm', '2', '--label', '=staging', '--expires', '1h');
    expect(made.code).toBe(EXIT.ok);
    expect(made.stdout).toMatch(/^gk_\w{33}\n$/);
    expect(made.stderr).toContain('2 req/min');
    const key = made.stdout.trim();
    const [listed] = (await graftJson<{ id: string; label: string }[]>('keys')).filter(
      ({ label }) => label === '=staging',
    );
    const id = listed?.id ?? '';
    expect((await stack.graft('keys')).stdout).not.toContain(key);

    expect((await ask(key)).status).toBe(200);
    const fresh = await graftJson<{ key: string; replaces: string }>('keys', 'rotate', id, '--grace', '1h');
    expect(fresh.replaces).toBe(id);
    expect((await ask(fresh.key)).status).toBe(200);
    const refused = await ask(key);
    expect([refused.status, refused.error.code]).toEqual([429, 'rate_limit_exceeded']);

    expect((await stack.graft('keys', 'revoke', id)).code).toBe(EXIT.ok);
    expect((await ask(key)).status).toBe(401);
    expect(await graftJson('keys')).not.toContainEqual(expect.objectContaining({ id }));
    expect(await graftJson('keys', '--all')).toContainEqual(expect.objectContaining({ id }));

    // Written within a few seconds of the answers.
    let csv = '';
    while (!csv.includes(id)) csv = (await stack.graft('usage', '--csv')).stdout;
    const [head, ...lines] = csv.split('\r\n');
    expect(head).toBe('key,label,requests,errors,prompt_tokens,completion_tokens,total_tokens');
    expect(lines.find((line) => line.startsWith(id))).toMatch(
      new RegExp(`^${id},'=staging,1,0,\\d+,3,\\d+$`),
    );
    const both = /^NAME +REQUESTS +ERRORS +PROMPT +COMPLETION +TOKENS\nbase +2 +0 /;
    let names = '';
    while (!both.test(names)) names = (await stack.graft('usage', '--by', 'name')).stdout;
  });

  it('has a URL told, once and signed, when the budget of a key is used', async () => {
    const got: { type: string; key: string; signed: boolean }[] = [];
    let secret = '';
    const receiver = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => (body += text));
      request.on('end', () => {
        const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': given } = request.headers;
        const expected = signatureOf({ id: String(id), at: String(at), body }, secret);
        const { type, data } = JSON.parse(body) as { type: string; data: { key: string } };
        got.push({ type, key: data.key, signed: given === expected });
        response.writeHead(204).end();
      });
    });
    await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    try {
      const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/graft`;
      const hook = await graftJson<{ id: string; secret: string }>('webhook', 'add', url);
      ({ secret } = hook);
      const made = await graftJson<{ key: string; id: string }>('keys', 'create', '--tokens-per-day', '1');
      expect((await ask(made.key)).status).toBe(200);
      // Its end is counted behind the answer; the schedule of `graft dev` runs every ten seconds.
      await expect.poll(async () => (await ask(made.key)).status).toBe(429);
      await expect.poll(() => got.length, { interval: 500 }).toBe(2);
      expect(got.sort((a, b) => (a.type < b.type ? -1 : 1))).toEqual([
        { type: 'budget.nearly_used', key: made.id, signed: true },
        { type: 'budget.used', key: made.id, signed: true },
      ]);
      expect((await stack.graft('webhook', 'remove', hook.id)).code).toBe(EXIT.ok);
    } finally {
      receiver.close();
    }
  });

  it('pins a name: the origin holds its chain, follows a new version, and lets go', async () => {
    const folder = path.join(stack.folder, 'tiny');
    const publish = async (kind: string) => {
      writeTinyAdapter(folder, TINY_ADAPTERS[kind] as TinyAdapter);
      const { digest } = await graftJson<{ digest: string }>('publish', folder, '--name', 'alice/notes');
      return digest;
    };
    const pinned = async () => {
      const { origins } = await graftJson<{
        origins: { residents: { adapters: { digest: string; pinned: boolean }[] } }[];
      }>('ps');
      const adapters = origins.flatMap(({ residents }) => residents.adapters);
      return adapters.flatMap((one) => (one.pinned ? one.digest : []));
    };
    const kinds = Object.keys(TINY_ADAPTERS);
    const first = await publish(kinds[0] ?? '');
    const said = await stack.graft('pin', 'alice/notes');
    expect(said).toMatchObject({ code: EXIT.ok });
    expect(said.stdout).toMatch(/^NAME +LIVE +IN MEMORY AT +NOT AT\nalice\/notes +alice\/notes@1 +\S+$/m);
    expect(await pinned()).toEqual([first]);
    const second = await publish(kinds[1] ?? '');
    // Listing waits until the origins have what is live.
    expect((await stack.graft('pin')).stdout).toContain('alice/notes@2');
    expect(await pinned()).toEqual([second]);
    expect((await stack.graft('unpin', 'alice/notes')).stdout).toBe('nothing is pinned\n');
    expect(await pinned()).toEqual([]);
    expect((await stack.graft('unpin', 'alice/notes')).code).toBe(EXIT.notFound);
  });

  it('lets another tenant use a name, and takes that back', async () => {
    const folder = path.join(stack.folder, 'granted');
    writeTinyAdapter(folder, Object.values(TINY_ADAPTERS)[0] as TinyAdapter);
    await graftJson('publish', folder, '--name', 'shared/notes');
    const { key } = await graftJson<{ key: string }>('keys', 'create', '--tenant', 'guest');
    const status = async () => (await ask(key, 'shared/notes')).status;
    expect(await status()).toBe(404);
    const given = await stack.graft('grant', 'shared/**', '--to', 'guest');
    expect(given).toMatchObject({ code: EXIT.ok, stdout: 'guest may use shared/** of anybody\n' });
    expect(await status()).toBe(200);
    expect((await stack.graft('grant')).stdout).toMatch(/^shared\/\*\* +anybody +guest +\d{4}-\d\d-\d\d$/m);
    expect((await stack.graft('grant', 'shared/**', '--to', 'guest', '--remove')).code).toBe(EXIT.ok);
    expect(await status()).toBe(404);
    const again = await stack.graft('grant', 'shared/**', '--to', 'guest', '--remove');
    expect(again.code).toBe(EXIT.notFound);
  });

  it('says what it does not take', async () => {
    for (const args of [
      ['keys', '--rpm', '5'],
      ['keys', 'revoke'],
      ['usage', '--csv', '--json'],
    ])
      expect([args, (await stack.graft(...args)).code]).toEqual([args, EXIT.usage]);
    expect((await stack.graft('keys', 'revoke', 'key_0000000000000000')).code).toBe(EXIT.notFound);
    expect((await stack.graft('pin', 'nothing/here')).code).toBe(EXIT.notFound);
  });
});
