/** What the real routes take and answer is what the document says of them. */
import { beforeAll, describe, expect, it } from 'vitest';
import { ExperimentView } from '../../../../protocol/admin-api/experiments.ts';
import { answered, parsePath } from '../../../../worker/http/openapi/document.ts';
import type { ExperimentEvent } from '../../../../worker/experiments/ports.ts';
import { TABLE, type Asked } from '../../matrix/table.ts';
import { createWorld, quiet, type Role, type World } from '../../matrix/world.ts';
import { apiDocument, problemOf, type DocumentedOperation } from './api-document.ts';
import { MORE } from './good-answers.ts';

/** By id. */
const ANSWERS = new Map(answered().map((schema) => [schema.meta()?.id ?? '', schema]));

const routes = Object.keys(TABLE).filter((route) => !/ \/(dashboard|base)/.test(route) && route !== 'GET /');

function documented(route: string): { method: string; operation: DocumentedOperation } {
  const [method = '', path = ''] = route.split(' ');
  const operation = apiDocument.paths[parsePath(path).template]?.[method.toLowerCase()];
  if (operation === undefined) throw new Error(`${route} is not documented`);
  return { method, operation };
}

interface Seen {
  /** Good ones. */
  statuses: Set<number>;
  /** Lists in good answers, by where they stand, and whether one of them held something. */
  lists: Map<string, boolean>;
}

/** Sends a request, and compares it and its answer with the document. */
async function send(route: string, { graft }: World, asked: Asked, key: string, seen: Seen): Promise<void> {
  const { method, operation } = documented(route);
  const { path, body, headers = {} } = asked;
  const sent = { method, key: asked.key ?? key, headers, ...(body === undefined ? {} : { body }) };
  const response = await graft.request(path, sent);
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.startsWith('application/json') ?? false;
  const json = isJson ? (JSON.parse(text) as unknown) : undefined;
  const name = checkAnswer(operation, response.status, json);
  if (!response.ok) return;
  checkRequest(operation, path, body);
  seen.statuses.add(response.status);
  // One that has results is asked for below.
  if (name !== null && !isOfExperiments(name)) noteLists(json, '', seen.lists);
}

/** Asks every case of the route, each of a world of its own. */
async function check(route: string, role: Role, seen: Seen): Promise<void> {
  for (const ask of [...(TABLE[route] ?? []).map((one) => one.ask), ...(MORE[route] ?? [])]) {
    const world = await createWorld();
    await send(route, world, await ask(world, role), world.keys[role], seen);
  }
}

function noteLists(json: unknown, at: string, lists: Seen['lists']): void {
  if (Array.isArray(json)) lists.set(at, lists.get(at) === true || json.length > 0);
  if (typeof json !== 'object' || json === null) return;
  for (const [key, value] of Object.entries(json))
    noteLists(value, Array.isArray(json) ? `${at}[]` : `${at}.${key}`, lists);
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

/** @returns the name of the answer's schema, where it has one. */
function checkAnswer({ responses }: DocumentedOperation, status: number, json: unknown): string | null {
  if (status >= 400) {
    expect(problemOf({ $ref: '#/components/schemas/Error' }, json)).toBeNull();
    return 'Error';
  }
  const answer = responses[status];
  if (answer === undefined) throw new Error(`${status} is not documented`);
  const schema = answer.content?.['application/json']?.schema;
  if (schema === undefined) {
    expect(json).toBeUndefined();
    return null;
  }
  expect(problemOf(schema, json), JSON.stringify(json)).toBeNull();
  if (schema.$ref === undefined) return null;
  // A field that the document has not would be found …
  expect(problemOf(schema, { ...(json as object), later: 1 })).not.toBeNull();
  const name = schema.$ref.split('/').at(-1) ?? '';
  // … and is nothing to a client.
  if (!isOfExperiments(name)) expect(ANSWERS.get(name)?.parse(withMore(json)), name).toEqual(json);
  return name;
}

/** They hold documents, which are strict, and records by variant and metric; what they are is looked at below. */
const isOfExperiments = (name: string): boolean => name.startsWith('Experiment');

/** As an edge that is newer than the client may answer. */
function withMore(json: unknown): unknown {
  if (typeof json !== 'object' || json === null) return json;
  if (Array.isArray(json)) return json.map(withMore);
  return {
    ...Object.fromEntries(Object.entries(json).map(([key, value]) => [key, withMore(value)])),
    later: 1,
  };
}

beforeAll(quiet);

/** Clients of OpenAI's read it. */
const ALWAYS_EMPTY = /\.result_files$/;

/** Tried in this order, until all good answers of the document have been seen. */
const rolesOf = (route: string): Role[] =>
  route.includes(' /admin/') ? ['root', 'clinicAdmin'] : ['clinic', 'friend', 'guest'];

describe.each(routes)('%s', (route) => {
  it('takes and answers what is documented, and nothing else', async () => {
    const { operation } = documented(route);
    const good = Object.keys(operation.responses).filter((status) => status !== 'default');
    const seen: Seen = { statuses: new Set(), lists: new Map() };
    for (const role of rolesOf(route)) if (seen.statuses.size < good.length) await check(route, role, seen);
    expect([...seen.statuses].map(String).sort(), 'add a case to good-answers.ts').toEqual(good.sort());
    const empty = [...seen.lists]
      .filter(([at, filled]) => !filled && !ALWAYS_EMPTY.test(at))
      .map(([at]) => at);
    expect(empty, 'add a case to good-answers.ts').toEqual([]);
  });
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
  const { evaluation } = view as ExperimentView;
  const comparisons = evaluation!.comparisons.map((one) => ({ ...one, later: 1 }));
  const newer = { ...(view as object), evaluation: { ...evaluation, comparisons, later: 1 }, later: 1 };
  expect(ExperimentView.parse(newer)).toEqual(view);
  // Sent back without the field, it would be lost.
  const newerDocument = { ...(view as object), document: { ...document, later: 1 } };
  expect(ExperimentView.safeParse(newerDocument).success).toBe(false);
  const looks = await read(`${experiment}/looks`);
  expect(problemOf({ $ref: '#/components/schemas/ExperimentLooks' }, looks)).toBeNull();
  expect((looks as { looks: object[] }).looks).toHaveLength(1);
});

it('answers the document itself', async () => {
  const { graft } = await createWorld();
  const response = await graft.request('/admin/openapi.json');
  expect(response.headers.get('content-type')).toBe('application/json');
  expect(await response.json()).toEqual(apiDocument);
});
