import { beforeAll, describe, expect, it } from 'vitest';
import { createApp } from '../../../worker/app.ts';
import { TABLE, type Case } from './table.ts';
import { createWorld, quiet, ROLES, type Role, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  quiet();
  world = await createWorld();
});

/** What a role may be told when it is refused, by status. */
const CODES: Record<number, string[]> = {
  401: ['invalid_api_key'],
  403: ['insufficient_scope', 'exposure_of_another_tenant'],
  404: ['model_not_found', 'not_found'],
  409: ['experiment_over'],
  422: ['adapter_invalid'],
};

/** What a response comes to, as the table writes it. */
async function summary(response: Response, shows: Case['shows']): Promise<string> {
  const { status, headers } = response;
  const text = await response.text();
  if (status >= 300) {
    const { code } = (JSON.parse(text) as { error: { code: string } }).error;
    expect(CODES[status], `${status} ${code}`).toContain(code);
    return String(status);
  }
  if (shows !== undefined) return `${status}:${String(shows(JSON.parse(text) as never))}`;
  const adapter = headers.get('x-graft-adapter');
  if (adapter === null) return String(status);
  const inherited = headers.get('x-graft-inherited') === 'true' ? '^' : '';
  const alias = headers.get('x-graft-alias');
  const composed = headers.get('x-graft-composed');
  return [
    `${status}:${adapter}${inherited}`,
    ...(alias === null ? [] : [`~${alias}`]),
    ...(composed === null ? [] : [`+${composed}`]),
  ].join('');
}

async function answerTo(method: string, one: Case, role: Role): Promise<string> {
  const { path, body, headers = {} } = await one.ask(world, role);
  const before = await world.fingerprint();
  const response = await world.graft.request(path, {
    method,
    key: world.keys[role],
    headers,
    ...(body === undefined ? {} : { body }),
  });
  const got = await summary(response, one.shows);
  const changes = await world.fingerprint();
  if (!response.ok) expect(changes, `${role} was refused and changed something`).toBe(before);
  // The next role is to find everything as this one did. Files are content: sending them again is no change.
  if (changes !== before) world = await createWorld();
  else world.graft.clock.advance(1_001);
  return got;
}

it('has every route of the app, and no other', () => {
  const routes = createApp(world.graft.services)
    .routes.filter(({ method }) => method !== 'ALL')
    .map(({ method, path }) => `${method} ${path}`);
  expect(Object.keys(TABLE).sort(), 'add the route to test/worker/matrix/table.ts').toEqual(
    [...new Set(routes)].sort(),
  );
});

describe.each(Object.entries(TABLE))('%s', (route, cases) => {
  const method = route.split(' ', 1)[0] as string;
  it.each(cases)('$does', async (one) => {
    const got: Record<string, string> = {};
    for (const role of ROLES) got[role] = await answerTo(method, one, role);
    const gets = one.gets.trim().split(' ');
    expect(got).toEqual(Object.fromEntries(ROLES.map((role, i) => [role, gets[i]])));
  });
});
