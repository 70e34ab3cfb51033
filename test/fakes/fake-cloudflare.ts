/** As much of Cloudflare's API as wrangler asks for a deployment, over what an account would hold. */
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';

export interface FakeCloudflare {
  /** For `CLOUDFLARE_API_BASE_URL`. */
  readonly url: string;
  readonly token: string;
  readonly account: string;
  /** `METHOD /path`, in order. */
  readonly requests: string[];
  /** Ids by title or name. */
  readonly namespaces: Map<string, string>;
  readonly databases: Map<string, string>;
  readonly buckets: Set<string>;
  /** Names of the files that were applied. */
  readonly migrations: string[];
  /** Hash of the schema that was applied; null = none was. */
  schema: string | null;
  /** By name: what its last upload said. */
  readonly workers: Map<string, { metadata: z.infer<typeof Metadata>; secrets: Map<string, string> }>;
  /** Called before each answer: what it returns is answered instead. */
  before: (request: string) => Refusal | undefined | Promise<Refusal | undefined>;
  close(): Promise<void>;
}

export interface Refusal {
  status: number;
  code: number;
  message: string;
}

const Metadata = z.looseObject({
  bindings: z.array(z.looseObject({ name: z.string(), type: z.string() })).default([]),
  keep_bindings: z.array(z.string()).default([]),
  compatibility_date: z.string().optional(),
  migrations: z.looseObject({ new_tag: z.string().optional() }).optional(),
});
const Named = z.object({ name: z.string() });
const Titled = z.object({ title: z.string() });
const Sql = z.object({ sql: z.string() });

const hex = (length: number, n: number): string => n.toString(16).padStart(length, '0');
/** Lists have one page here. */
const beyond = ({ query }: Asked): boolean => Number(query.get('page') ?? '1') > 1;
const missing = (code: number, message: string): Refusal => ({ status: 404, code, message });

interface Asked {
  method: string;
  path: string;
  query: URLSearchParams;
  body: Buffer;
  type: string;
}
/** What a route answers with; `pages` makes it one page of that many. */
type Answer = { result: unknown; pages?: number } | Refusal;

export async function startFakeCloudflare(): Promise<FakeCloudflare> {
  const account = hex(32, 0xacc);
  const fake: Omit<FakeCloudflare, 'url' | 'close'> = {
    token: 'fake-token',
    account,
    requests: [],
    namespaces: new Map(),
    databases: new Map(),
    buckets: new Set(),
    migrations: [],
    schema: null,
    workers: new Map(),
    before: () => undefined,
  };
  const json = <T>(schema: z.ZodType<T>, { body }: Asked): T =>
    schema.parse(JSON.parse(body.toString('utf8')));

  const routes: readonly [RegExp, (asked: Asked, match: RegExpExecArray) => Answer | Promise<Answer>][] = [
    [/^GET \/user\/tokens\/verify$/, () => ({ result: { id: 'token', status: 'active' } })],
    [/^GET \/user$/, () => missing(9109, 'Unauthorized to access requested resource')],
    [/^GET \/accounts$/, () => ({ result: [{ id: account, name: 'Acme' }], pages: 1 })],
    [/^GET \/memberships$/, () => ({ result: [{ account: { id: account, name: 'Acme' } }], pages: 1 })],
    [
      /^GET \/storage\/kv\/namespaces$/,
      () => ({ result: [...fake.namespaces].map(([title, id]) => ({ title, id })), pages: 1 }),
    ],
    [
      /^POST \/storage\/kv\/namespaces$/,
      (asked) => {
        const { title } = json(Titled, asked);
        if (fake.namespaces.has(title))
          return {
            status: 400,
            code: 10014,
            message: 'a namespace with this account ID and title already exists',
          };
        fake.namespaces.set(title, hex(32, 0x1000 + fake.namespaces.size));
        return { result: { title, id: fake.namespaces.get(title) } };
      },
    ],
    [
      /^GET \/d1\/database$/,
      () => {
        const all = [...fake.databases].map(([name, uuid]) => ({ name, uuid }));
        return { result: all, pages: all.length };
      },
    ],
    [
      /^POST \/d1\/database$/,
      (asked) => {
        const { name } = json(Named, asked);
        if (fake.databases.has(name))
          return { status: 400, code: 7502, message: `A database with name ${name} already exists` };
        fake.databases.set(name, `00000000-0000-4000-8000-${hex(12, 0x2000 + fake.databases.size)}`);
        return { result: { name, uuid: fake.databases.get(name) } };
      },
    ],
    [
      /^POST \/d1\/database\/[^/]+\/query$/,
      (asked) => {
        const { sql } = json(Sql, asked);
        const applied = /INSERT INTO d1_migrations[^']*'([^']+)'/i.exec(sql)?.[1];
        if (applied !== undefined) fake.migrations.push(applied);
        const rows = /^\s*SELECT[^]*FROM d1_migrations/i.test(sql)
          ? fake.migrations.map((name, i) => ({ id: i + 1, name, applied_at: '2026-01-01' }))
          : [];
        fake.schema = /INSERT INTO schema_hash VALUES \('(\w+)'\)/.exec(sql)?.[1] ?? fake.schema;
        if (sql.includes('FROM schema_hash'))
          return { result: [{ success: true, results: [{ hash: fake.schema }], meta: {} }] };
        return { result: [{ success: true, results: rows, meta: {} }] };
      },
    ],
    [
      /^GET \/r2\/buckets\/([^/]+)$/,
      (_, [, name = '']) =>
        fake.buckets.has(name)
          ? { result: { name, creation_date: '2026-01-01', location: 'WEUR', storage_class: 'Standard' } }
          : missing(10006, 'The specified bucket does not exist.'),
    ],
    [/^GET \/r2\/buckets$/, () => ({ result: { buckets: [...fake.buckets].map((name) => ({ name })) } })],
    [
      /^POST \/r2\/buckets$/,
      (asked) => {
        const { name } = json(Named, asked);
        fake.buckets.add(name);
        return { result: { name } };
      },
    ],
    [
      /^GET \/workers\/scripts\/([^/]+)\/secrets$/,
      (_, [, name = '']) => {
        const worker = fake.workers.get(name);
        if (worker === undefined) return missing(10007, 'This Worker does not exist on your account.');
        return { result: [...worker.secrets.keys()].map((one) => ({ name: one, type: 'secret_text' })) };
      },
    ],
    [
      /^GET \/workers\/services\/([^/]+)$/,
      (_, [, name = '']) =>
        fake.workers.has(name)
          ? {
              result: {
                id: name,
                default_environment: {
                  environment: 'production',
                  script: { last_deployed_from: 'wrangler' },
                },
              },
            }
          : missing(10090, 'workers.api.error.service_not_found'),
    ],
    [
      /^GET \/workers\/scripts\/([^/]+)\/(deployments|settings|versions)$/,
      (_, [, name = '', what = '']) =>
        fake.workers.has(name)
          ? { result: { [what]: [], bindings: [], items: [] } }
          : missing(10007, 'This Worker does not exist on your account.'),
    ],
    [
      /^GET \/workers\/scripts$/,
      () => ({
        result: [...fake.workers].map(([id, { metadata }]) => ({
          id,
          migration_tag: metadata.migrations?.new_tag,
        })),
      }),
    ],
    [
      /^POST \/workers\/scripts\/[^/]+\/assets-upload-session$/,
      () => ({ result: { jwt: 'done', buckets: [] } }),
    ],
    [
      /^(?:PUT|POST) \/workers\/scripts\/([^/]+)(?:\/versions)?$/,
      async (asked, [, name = '']) => {
        const form = await new Response(new Uint8Array(asked.body), {
          headers: { 'content-type': asked.type },
        }).formData();
        const metadata = Metadata.parse(JSON.parse(String(form.get('metadata'))));
        const secrets = fake.workers.get(name)?.secrets ?? new Map<string, string>();
        for (const binding of metadata.bindings)
          if (binding.type === 'secret_text') secrets.set(binding.name, String(binding['text']));
        fake.workers.set(name, { metadata, secrets });
        const resources = { script: { etag: 'e' }, bindings: metadata.bindings };
        return { result: { id: name, startup_time_ms: 12, resources } };
      },
    ],
    [/^POST \/workers\/scripts\/[^/]+\/deployments$/, () => ({ result: { id: 'deployment' } })],
    [/^PATCH \/workers\/scripts\/[^/]+\/script-settings$/, () => ({ result: {} })],
    [/^GET \/workers\/subdomain$/, () => ({ result: { subdomain: 'acme' } })],
    [
      /^(GET|POST) \/workers\/scripts\/[^/]+\/subdomain$/,
      () => ({ result: { enabled: true, previews_enabled: false } }),
    ],
    [/^PUT \/workers\/scripts\/[^/]+\/schedules$/, () => ({ result: { schedules: [] } })],
  ];

  async function answer(asked: Asked): Promise<Answer> {
    const line = `${asked.method} ${asked.path.replace(`/accounts/${account}`, '')}`;
    fake.requests.push(line);
    const instead = await fake.before(line);
    if (instead !== undefined) return instead;
    for (const [pattern, route] of routes) {
      const match = pattern.exec(line);
      if (match !== null) return route(asked, match);
    }
    return missing(7003, `the fake has no ${line}`);
  }

  const server = http.createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { pathname, searchParams } = new URL(request.url ?? '/', 'http://fake');
      const asked = {
        ...{ method: request.method ?? 'GET', path: pathname, query: searchParams },
        ...{ body: Buffer.concat(chunks), type: request.headers['content-type'] ?? '' },
      };
      const known = request.headers.authorization === `Bearer ${fake.token}`;
      const refused: Refusal = { status: 401, code: 10000, message: 'Authentication error' };
      void Promise.resolve(known ? answer(asked) : refused).then((found) => {
        const failed = 'status' in found;
        response.writeHead(failed ? found.status : 200, { 'content-type': 'application/json' });
        response.end(
          JSON.stringify({
            success: !failed,
            errors: failed ? [{ code: found.code, message: found.message }] : [],
            messages: [],
            result: failed ? null : found.pages !== undefined && beyond(asked) ? [] : found.result,
            ...(!failed && found.pages !== undefined
              ? {
                  result_info: {
                    page: 1,
                    per_page: 1_000,
                    count: found.pages,
                    total_count: found.pages,
                    total_pages: 1,
                  },
                }
              : {}),
          }),
        );
      });
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return Object.assign(fake, {
    url: `http://127.0.0.1:${port}`,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  });
}
