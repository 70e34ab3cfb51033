/** Who may take a name above or below another's, and whose adapters then answer: through the real edge. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { chat, startTestEdge, type TestEdge } from '../worker/edge-harness.ts';

let edge: TestEdge;
const admins: Record<string, string> = {};
const keys: Record<string, string> = {};
let seed = 0;

const send = async (path: string, body: object, key?: string) => {
  const response = await edge.admin(path, {
    ...{ method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) },
    ...(key === undefined ? {} : { key }),
  });
  return {
    status: response.status,
    body: (await response.json()) as Record<string, unknown> & { error?: { message: string } },
  };
};
const publish = async (name: string, as?: string, owner?: string) => {
  const response = await edge.publish({
    ...{ name, adapter: tinyAdapter({ seed: (seed += 1) }) },
    ...(as === undefined ? {} : { key: admins[as] as string }),
    ...(owner === undefined ? {} : { owner }),
  });
  return {
    status: response.status,
    body: (await response.json()) as { notice?: string; error?: { message: string } },
  };
};
const ask = async (model: string, key: string, more: object = {}) => {
  const init = { method: 'POST', key, body: chat(model, more) };
  const response = await edge.request('/v1/chat/completions', init);
  await response.arrayBuffer();
  return response.status === 200 ? response.headers.get('x-graft-adapter') : response.status;
};

beforeAll(async () => {
  edge = await startTestEdge();
  for (const tenant of ['alice', 'bob', 'carol']) {
    admins[tenant] = await edge.makeAdminKey(tenant);
    keys[tenant] = await edge.makeKey({ tenant });
  }
});
afterAll(() => edge.stop());

describe('a name above another’s', () => {
  it('cannot be taken, does not answer for it, and does not lock its owner out', async () => {
    expect(await publish('acme/support', 'alice')).toMatchObject({ status: 201 });
    expect(await publish('acme', 'bob')).toMatchObject({ status: 403 });
    const alias = { name: 'acme', target: 'bobs' };
    expect(await publish('bobs', 'bob')).toMatchObject({ status: 201 });
    expect(await send('/admin/alias', alias, admins['bob'])).toMatchObject({ status: 403 });
    expect(await send('/admin/grants', { scope: 'acme', tenant: 'alice' }, admins['bob'])).toMatchObject({
      status: 404,
    });
    expect(await ask('acme/billing', keys['alice'] as string)).toBe(404);
    expect(await publish('acme/billing', 'alice')).toMatchObject({ status: 201 });
    expect(await ask('acme/billing', keys['alice'] as string)).toBe('acme/billing@1');
  });

  it('is not reached by a key for names below it, neither for a missing one nor for one in trouble', async () => {
    expect(await publish('beta/one', 'alice')).toMatchObject({ status: 201 });
    const scoped = await edge.makeKey({ tenant: 'carol', scopes: ['beta/**'] });
    const degrading = await send('/admin/keys', {
      tenant: 'carol',
      scopes: ['beta/**'],
      degrade: 'ancestor',
    });
    // The operator may take any name, also for bob, and hears among whose names it lies.
    expect(await publish('beta', undefined, 'bob')).toMatchObject({
      status: 201,
      body: {
        notice: "'beta' of 'bob' lies between names of others: below it are names or prefixes of 'alice'.",
      },
    });
    expect(await ask('beta/one', scoped)).toBe('beta/one@1');
    expect(await ask('beta/two', scoped)).toBe(404);
    expect(await ask('beta', scoped)).toBe(404);
    // Also where bob lets carol use it: what she asks for is alice's.
    expect(await send('/admin/grants', { scope: 'beta', tenant: 'carol' }, admins['bob'])).toMatchObject({
      status: 201,
    });
    edge.origin.answerWith((response) => {
      response.writeHead(422, { 'content-type': 'application/json' });
      response.end(
        JSON.stringify({ error: { code: 'adapter_invalid', message: 'broken', type: 'x', param: null } }),
      );
    });
    const asked = edge.origin.log.completions.length;
    expect(await ask('beta/one', degrading.body['key'] as string)).toBe(422);
    expect(edge.origin.log.completions.slice(asked)).toHaveLength(1);
    edge.origin.answerWith(null);
  });
});

describe('a squatter from before', () => {
  it('keeps its name and room, but not below the names of others, nor what the operator reserves', async () => {
    expect(await publish('corp', undefined, 'bob')).toMatchObject({ status: 201 });
    expect(await publish('corp/support', undefined, 'alice')).toMatchObject({ status: 201 });
    expect(await publish('corp/support/x', 'alice')).toMatchObject({ status: 201 });
    expect(await publish('corp/support/y', 'bob')).toMatchObject({ status: 403 });
    expect(await publish('corp/billing', 'alice')).toMatchObject({ status: 403 });
    expect(await send('/admin/rooms', { name: 'corp', tenant: 'alice' })).toEqual({
      status: 201,
      body: {
        name: 'corp',
        tenant: 'alice',
        from: null,
        notice: "Existing names at or below 'corp' still belong to 'bob'.",
      },
    });
    expect(await publish('corp/billing', 'bob')).toMatchObject({ status: 403 });
    expect(await publish('corp/billing', 'alice')).toMatchObject({ status: 201 });
    expect(await publish('corp', 'bob')).toMatchObject({ status: 201 });
  });
});

describe('a reserved room', () => {
  it('is the operator’s to give and take, seen by its tenant, and in the history', async () => {
    const room = { name: 'delta', tenant: 'alice' };
    expect(await send('/admin/rooms', room, admins['bob'])).toMatchObject({ status: 403 });
    expect(await send('/admin/rooms', { ...room, dry_run: true })).toMatchObject({ status: 200 });
    expect(await send('/admin/rooms', { ...room, why: 'by contract' })).toMatchObject({ status: 201 });
    expect(await send('/admin/rooms', room)).toMatchObject({ status: 200, body: { from: 'alice' } });
    for (const name of ['delta', 'delta/a/b'])
      expect(await publish(name, 'bob')).toMatchObject({ status: 403 });
    const listed = async (key?: string) =>
      (
        (await (await edge.admin('/admin/rooms', key === undefined ? {} : { key })).json()) as {
          rooms: { name: string }[];
        }
      ).rooms.map(({ name }) => name);
    expect(await listed(admins['bob'])).toEqual([]);
    expect(await listed(admins['alice'])).toContain('delta');
    expect(await listed()).toContain('delta');
    const release = (key?: string) =>
      edge.admin('/admin/rooms?name=delta', { method: 'DELETE', ...(key === undefined ? {} : { key }) });
    expect((await release(admins['alice'])).status).toBe(403);
    expect((await release()).status).toBe(204);
    expect((await release()).status).toBe(404);
    expect(await publish('delta', 'bob')).toMatchObject({ status: 201 });
    const history = (await (
      await edge.admin('/admin/history', { key: admins['alice'] as string })
    ).json()) as {
      changes: { name: string; action: string; why: string | null }[];
    };
    const changes = history.changes.filter(({ name }) => name === 'delta');
    expect(changes.map(({ action, why }) => [action, why])).toEqual([
      ['unreserve', null],
      ['reserve', 'by contract'],
    ]);
  });
});

it('every reason why a name is not free has one answer, whatever file or target is named', async () => {
  await publish('eps', 'alice');
  await publish('zeta/deep', 'alice');
  await send('/admin/rooms', { name: 'eta', tenant: 'alice' });
  const answers = new Set<string>();
  for (const name of ['eps', 'eps/below', 'zeta', 'eta', 'eta/x'])
    for (const [path, body] of [
      ['/admin/versions', { name, digest: 'f'.repeat(64) }],
      ['/admin/versions', { name, digest: 'f'.repeat(64), parent: 'nobody', expect: 7 }],
      ['/admin/versions', { name, digest: 'f'.repeat(64), owner: 'alice' }],
      ['/admin/alias', { name, target: name, dry_run: true }],
      ['/admin/alias', { name, target: 'nobody' }],
    ] as const) {
      const { status, body: said } = await send(path, body, admins['bob']);
      answers.add(`${status} ${JSON.stringify(said).replaceAll(name, 'NAME')}`);
    }
  expect([...answers]).toHaveLength(1);
  expect([...answers][0]).toMatch(/^403 /);
});
