/** What the real routes take and answer is what the document says of them. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { ExperimentView } from '../../../protocol/index.ts';
import { parsePath } from '../../../worker/openapi/parameters.ts';
import type { ExperimentEvent } from '../../../worker/stores/types-experiments.ts';
import { createAppHarness } from '../app-harness.ts';
import { askAs, labelsOf, makeKey, NAME, startExperiment } from '../experiment-rig.ts';
import { TABLE, type Asked } from '../matrix/table.ts';
import { createWorld, quiet, type Role, type World } from '../matrix/world.ts';
import { apiDocument, problemOf, type DocumentedOperation } from './api-document.ts';

const routes = Object.keys(TABLE).filter((route) => !route.includes(' /dashboard'));

function documented(route: string): { method: string; operation: DocumentedOperation } {
  const [method = '', path = ''] = route.split(' ');
  const operation = apiDocument.paths[parsePath(path).template]?.[method.toLowerCase()];
  if (operation === undefined) throw new Error(`${route} is not documented`);
  return { method, operation };
}

/** Sends a request, and compares it and its answer with the document. @returns the answer's status. */
async function send(
  route: string,
  { graft }: Pick<World, 'graft'>,
  asked: Asked,
  key: string,
): Promise<number> {
  const { method, operation } = documented(route);
  const { path, body } = asked;
  const response = await graft.request(path, { method, key, ...(body === undefined ? {} : { body }) });
  const text = await response.text();
  if (response.ok) checkRequest(operation, path, body);
  checkAnswer(operation, response.status, text === '' ? undefined : JSON.parse(text));
  return response.status;
}

/** Asks every case of the route, each of a world of its own. */
async function check(route: string, role: Role): Promise<number[]> {
  const statuses: number[] = [];
  for (const { ask } of TABLE[route] ?? []) {
    const world = await createWorld();
    statuses.push(await send(route, world, await ask(world, role), world.keys[role]));
  }
  return statuses;
}

function checkRequest(
  { parameters = [], requestBody }: DocumentedOperation,
  path: string,
  body: unknown,
): void {
  const sent = new URL(path, 'http://edge').searchParams;
  const known = parameters.filter((one) => one.in === 'query');
  expect(known.map(({ name }) => name)).toEqual(expect.arrayContaining([...sent.keys()]));
  for (const { name, required, schema } of known) {
    const value = sent.get(name);
    if (value === null) expect(required, name).toBe(false);
    else expect(problemOf(schema, value)).toBeNull();
  }
  if (requestBody === undefined) return;
  const json = requestBody.content['application/json'];
  if (json === undefined) expect(body).toBeInstanceOf(Uint8Array);
  else expect(problemOf(json.schema, body), JSON.stringify(body)).toBeNull();
}

function checkAnswer({ responses }: DocumentedOperation, status: number, json: unknown): void {
  if (status >= 400) {
    expect(problemOf({ $ref: '#/components/schemas/Error' }, json)).toBeNull();
    return;
  }
  const answer = responses[status];
  if (answer === undefined) throw new Error(`${status} is not documented`);
  const schema = answer.content?.['application/json']?.schema;
  if (schema === undefined) expect(json).toBeUndefined();
  else if (schema.$ref === undefined && !/OpenAI|OpenAPI/.test(answer.description))
    // In words, which name the fields.
    for (const field of Object.keys(json as object)) expect(answer.description).toContain(`\`${field}\``);
  else expect(problemOf(schema, json), JSON.stringify(json)).toBeNull();
}

beforeAll(quiet);

/** Tried in this order, until the document's good answer has been seen. */
const rolesOf = (route: string): Role[] =>
  route.includes(' /admin/') ? ['root', 'clinicAdmin'] : ['clinic', 'friend', 'guest'];
/** The table asks for these only where they are refused. */
const NEVER_DONE = ['DELETE /admin/pins', 'POST /v1/feedback'];

describe.each(routes)('%s', (route) => {
  it('takes and answers what is documented', async () => {
    let done = false;
    for (const role of rolesOf(route)) done ||= (await check(route, role)).some((status) => status < 300);
    expect(done).toBe(!NEVER_DONE.includes(route));
  });
});

it('takes and answers feedback and the end of a pin as it is documented', async () => {
  const graft = await createAppHarness();
  const { key } = await makeKey(graft, { tenant: 'acme' });
  await startExperiment(graft);
  const { exposure } = await labelsOf(await askAs(graft, { key, user: 'alice' }));
  const rating = { path: '/v1/feedback', body: { exposure, metric: 'thumbs', value: 1, before: null } };
  expect(await send('POST /v1/feedback', { graft }, rating, key)).toBe(200);
  expect(await send('POST /v1/feedback', { graft }, rating, key)).toBe(200);
  const pin = { path: '/admin/pins', body: { name: NAME } };
  expect(await send('POST /admin/pins', { graft }, pin, graft.adminKey)).toBe(200);
  const unpin = { path: `/admin/pins?name=${encodeURIComponent(NAME)}` };
  expect(await send('DELETE /admin/pins', { graft }, unpin, graft.adminKey)).toBe(200);
});

it('answers with an experiment that has results as it is documented', async () => {
  const world = await createWorld();
  await world.startExperiment();
  const { graft, experiment } = world;
  const read = async (path: string, method = 'GET') =>
    (await graft.request(path, { method, ...(method === 'GET' ? {} : { body: {} }) })).json();
  const { id, document } = (await read(experiment)) as ExperimentView;
  const events = document.variants.flatMap(({ key: variant }) =>
    Array.from({ length: 200 }, (_, i): ExperimentEvent => {
      const values = { thumbs: i % 2, ttft_ms: 100 + i, error_rate: 0 };
      const unit = `${variant}-${i}`;
      return { experiment: id, seed: document.seed, variant, unit, at: 1, values, shadow: false };
    }),
  );
  await graft.services.tallies.add(id, { id: 'batch', at: 1, events });
  const view = await read(`${experiment}/evaluate`, 'POST');
  expect(problemOf({ $ref: '#/components/schemas/ExperimentView' }, view)).toBeNull();
  expect((view as ExperimentView).evaluation?.comparisons).not.toEqual([]);
  expect(
    problemOf({ $ref: '#/components/schemas/ExperimentView' }, { ...(view as object), more: 1 }),
  ).toMatch(/more|additional/);
  const looks = await read(`${experiment}/looks`);
  expect(problemOf({ $ref: '#/components/schemas/ExperimentLooks' }, looks)).toBeNull();
  expect((looks as { looks: object[] }).looks).toHaveLength(1);
});

/** Descriptions in words go one level deeper. */
describe.each([
  ['GET /admin/keys', '/admin/keys', (body: { keys: object[] }) => body.keys[0]],
  ['GET /admin/names', '/admin/names', (body: { names: object[] }) => body.names[0]],
  ['GET /admin/grants', '/admin/grants', (body: { grants: object[] }) => body.grants[0]],
  ['GET /admin/history', '/admin/history', (body: { changes: object[] }) => body.changes[0]],
])('%s', (route, path, inner) => {
  let world: World;
  beforeAll(async () => {
    world = await createWorld();
  });
  it('names every field', async () => {
    const body = (await (await world.graft.request(path)).json()) as never;
    const { description } = documented(route).operation.responses[200]!;
    for (const field of [...Object.keys(body), ...Object.keys(inner(body)!)])
      expect(description).toContain(`\`${field}\``);
  });
});

it('answers the document itself', async () => {
  const { graft } = await createWorld();
  const response = await graft.request('/admin/openapi.json');
  expect(response.headers.get('content-type')).toBe('application/json');
  expect(await response.json()).toEqual(apiDocument);
});
