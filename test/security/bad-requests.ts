/** Requests that are wrong in many ways, and each in its own words: what is remembered of them must not add up. */
import type { Random } from './random.ts';
import type { Route } from './routes.ts';

export interface BadRequest {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: string;
}

const JUNK: readonly unknown[] = [
  ...[null, true, -1, 1e308, '', 'x'.repeat(300), 'é\u0000', '__proto__', '../..'],
  ...[[], {}, [[[1]]], { a: { b: 1 } }],
];
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'PURGE'];
const COMPLETIONS = ['/v1/chat/completions', '/v1/completions', '/v1/responses'];

/** A body of a completion, mostly with one thing wrong; what names it has nobody has published. */
export function badCompletion(random: Random, own: string): Record<string, unknown> {
  const body: Record<string, unknown> = {
    model: `none/${own}`,
    messages: [{ role: 'user', content: `hi ${own}` }],
  };
  const wrong: (() => unknown)[] = [
    () => (body['messages'] = random.pick(JUNK)),
    () => (body['model'] = random.pick(JUNK)),
    () => (body[`odd_${own}`] = 1),
    () =>
      (body['adapters'] = [{ name: `lost/${own}` }, { name: `lost/${own}/too`, scale: random.pick(JUNK) }]),
    () => (body['temperature'] = random.pick(JUNK)),
    () => (body['max_tokens'] = random.pick(JUNK)),
    () => undefined,
  ];
  random.pick(wrong)();
  return body;
}

/** @param own differs in each request. @param routes of the app. */
export function badRequest(random: Random, own: string, routes: readonly Route[]): BadRequest {
  const route = random.pick(routes);
  const headers: Record<string, string> = { 'content-type': 'application/json', 'x-request-id': `id-${own}` };
  const withBody = (body: string, path = route.path): BadRequest => ({
    ...{ method: route.method === 'GET' ? 'POST' : route.method, path, headers, body },
  });
  const kinds: (() => BadRequest)[] = [
    () => withBody('{"a":'.repeat(1 + random.below(100))),
    () => withBody(`\u0000${own}`),
    () =>
      withBody(
        JSON.stringify({
          [`k_${own}`]: random.pick(JUNK),
          name: `lost/${own}`,
          tenant: `t${own}`,
          scope: own,
        }),
      ),
    () => ({
      ...{ method: 'POST', path: random.pick(COMPLETIONS), headers },
      body: JSON.stringify(badCompletion(random, own)),
    }),
    () => ({ method: random.pick(METHODS), path: `${route.path}/${own}`, headers }),
    () => ({ method: 'GET', path: `/${own}/${'a'.repeat(random.below(500))}?q=${own}`, headers }),
    () => ({ method: 'GET', path: `/v1/models/lost%2F${own}`, headers }),
    () => ({ ...route, headers: { ...headers, [`x-${own}`]: 'v'.repeat(random.below(8_000)) } }),
    () => withBody(JSON.stringify({ id: `${own}${'y'.repeat(400)}`, metric: own, value: 1 }), '/v1/feedback'),
  ];
  return random.pick(kinds)();
}
