/**
 * `npm run interop -- shapes [name=address …]`: which requests of real clients graft takes, beside other servers that are
 * running. What all of the others take, graft is to take for at least 95 %.
 */
import Table from 'cli-table3';
import { z } from 'zod';
import { ADAPTER, startConformanceStack } from '../../conformance/stack.ts';
import { saying } from '../../gpu-origin/http/scripted.ts';
import { type Shape, shapesFor } from './shapes.ts';

/** Of those that every other server takes. */
const MIN_SHARE = 0.95;
/** A server that is still answering after this has not refused. */
const PATIENCE_MS = 60_000;

interface Server {
  readonly name: string;
  readonly address: string;
  readonly key: string;
  readonly model: string;
}

/** @returns null when it was taken, else what was said. */
async function send(
  { address, key }: Server,
  { method = 'POST', path, body }: Shape,
): Promise<string | null> {
  const response = await fetch(`${address}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      'x-api-key': key,
      'anthropic-version': '2023-06-01',
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const text = await response.text();
  return response.ok && !/^(data: )?\{"error"/m.test(text)
    ? null
    : `${response.status} ${text.slice(0, 160)}`;
}

const Models = z.object({ data: z.array(z.object({ id: z.string() })).min(1) });

/** @param given as `vllm=http://127.0.0.1:8000`. */
async function serverOf(given: string): Promise<Server> {
  const [name, address] = [given.slice(0, given.indexOf('=')), given.slice(given.indexOf('=') + 1)];
  const models = Models.parse(await (await fetch(`${address}/v1/models`)).json());
  return { name, address, key: 'none', model: models.data[0]!.id };
}

/** @returns the exit code. */
export async function runShapes(given: readonly string[]): Promise<number> {
  const others = await Promise.all(given.map(serverOf));
  const stack = await startConformanceStack({ runner: saying([['Say hi', 'Hi there.']]) });
  const own = {
    name: 'graft',
    address: stack.baseURL.replace(/\/v1$/, ''),
    key: stack.apiKey,
    model: ADAPTER,
  };
  const servers = [own, ...others];
  const table = new Table({ head: ['path', 'shape', ...servers.map(({ name }) => name)] });
  const taken = servers.map(() => 0);
  let [asked, both, bothAndHere] = [0, 0, 0];
  const refused: string[] = [];
  try {
    for (const [at, { path, name }] of shapesFor('').entries()) {
      const said: (string | null)[] = [];
      for (const server of servers) said.push(await send(server, shapesFor(server.model)[at]!));
      asked += 1;
      said.forEach((answer, of) => (taken[of]! += answer === null ? 1 : 0));
      const byOthers = said.slice(1).every((answer) => answer === null);
      both += byOthers ? 1 : 0;
      bothAndHere += byOthers && said[0] === null ? 1 : 0;
      if (said[0] !== null) refused.push(`${path}, ${name}: ${said[0]}`);
      if (said.some((answer) => answer !== null))
        table.push([path, name, ...said.map((answer) => answer?.slice(0, 3) ?? 'taken')]);
    }
  } finally {
    await stack.stop();
  }
  console.log(table.toString());
  for (const line of refused) console.log(line);
  console.log(servers.map(({ name }, of) => `${name}: ${taken[of]} of ${asked}`).join(', '));
  if (others.length > 0) console.log(`of ${both} that the others take, graft takes ${bothAndHere}`);
  return bothAndHere >= MIN_SHARE * both ? 0 : 1;
}
