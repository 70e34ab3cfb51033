/** A deployment's settings, stored beside its configuration so that the next `graft deploy` continues with it. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { BaseId, nameProblem } from '../../protocol/identity.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { usageError } from '../flags.ts';
import { writePrivateFile } from '../local/private-files.ts';

/** In the edge's format (`ORIGINS`). */
const DeployedOrigin = z.strictObject({
  id: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
  url: z.url({ protocol: /^https?$/ }),
  base: BaseId.refine((id) => nameProblem(id) === null).optional(),
});
type DeployedOrigin = z.infer<typeof DeployedOrigin>;

const Deployment = z.strictObject({
  /** Name of the database; prefix of all other names. */
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,39}$/),
  /** null = the sign-in's only account. */
  account: z.string().nullable(),
  /** Ids at Cloudflare; null = not created yet. */
  namespace: z.string().nullable(),
  database: z.string().nullable(),
  /** Usage and traffic in a database of their own. */
  usageDb: z.boolean(),
  /** Its id; null = not created yet. */
  usageDatabase: z.string().nullable(),
  /** Adapters' bytes in R2 instead of KV. */
  r2: z.boolean(),
  origins: z.array(DeployedOrigin),
  /** Further variables of the edge. */
  variables: z.record(z.string().regex(/^[A-Z][A-Z0-9_]*$/), z.string()),
  /** Where the edge answers; null = not deployed yet. */
  url: z.string().nullable(),
});
export type Deployment = z.infer<typeof Deployment>;

export const namesOf = ({ name }: Pick<Deployment, 'name'>) => ({
  worker: `${name}-production`,
  namespace: `${name}-adapters`,
  database: name,
  usageDatabase: `${name}-usage`,
  bucket: `${name}-blobs`,
});

const fileOf = (folder: string): string => path.join(folder, 'deployment.json');

/** @returns null if there is none yet. @throws CliError when it is corrupted. */
export async function readDeployment(folder: string): Promise<Deployment | null> {
  const text = await readFile(fileOf(folder), 'utf8').catch(() => null);
  if (text === null) return null;
  try {
    return Deployment.parse(JSON.parse(text));
  } catch {
    throw new CliError({
      message:
        `${fileOf(folder)} is corrupted. Correct it, or remove it: existing resources at Cloudflare are ` +
        'found again by name.',
      exitCode: EXIT.error,
      code: 'deployment_damaged',
    });
  }
}

export const writeDeployment = (folder: string, deployment: Deployment): Promise<void> =>
  writePrivateFile(fileOf(folder), `${JSON.stringify(deployment, null, 2)}\n`);

/** Flags, which override the stored settings. */
export interface DeployWishes {
  name: string | undefined;
  account: string | undefined;
  r2: boolean | undefined;
  usageDb: boolean | undefined;
  /** `id=url` or `id=url,base`; empty = the stored ones. */
  origins: readonly string[];
  /** `NAME=value`; an empty value removes it. */
  variables: readonly string[];
}

/** @throws CliError (usage) for impossible settings. */
export function planDeployment(kept: Deployment | null, wishes: DeployWishes): Deployment {
  if (kept !== null && wishes.name !== undefined && wishes.name !== kept.name)
    throw usageError(
      `This folder deploys "${kept.name}". Deploy "${wishes.name}" from another folder (--folder), or ` +
        'remove --name.',
    );
  if (kept?.r2 === true && wishes.r2 === false)
    throw usageError('The edge would lose the adapters in R2: --r2 cannot be undone.');
  if (kept !== null && kept.database !== null && (wishes.usageDb ?? kept.usageDb) !== kept.usageDb)
    throw usageError(
      'What was counted so far would stay in the other database: --usage-db is for the first deployment. Restore a ' +
        'backup into a new one.',
    );
  const origins =
    wishes.origins.length === 0 ? (kept?.origins ?? []) : parseOrigins(wishes.origins, { tls: true });
  if (origins.length === 0)
    throw usageError(
      "Add an origin's address: --origin origin-1=https://origin-1.example.com. It need not answer yet.",
    );
  const variables = new Map(Object.entries(kept?.variables ?? {}));
  for (const [name, value] of parseVariables(wishes.variables))
    if (value === '') variables.delete(name);
    else variables.set(name, value);
  checkDefaultBase(variables.get('DEFAULT_BASE'), origins);
  const parsed = Deployment.safeParse({
    name: wishes.name ?? kept?.name ?? 'graft',
    account: wishes.account ?? kept?.account ?? null,
    namespace: kept?.namespace ?? null,
    database: kept?.database ?? null,
    usageDb: wishes.usageDb ?? kept?.usageDb ?? false,
    usageDatabase: kept?.usageDatabase ?? null,
    r2: wishes.r2 ?? kept?.r2 ?? false,
    origins,
    variables: Object.fromEntries(variables),
    url: kept?.url ?? null,
  });
  if (!parsed.success)
    throw usageError(
      '--name must be lower-case letters, digits and dashes, at most 40, and not start with a dash.',
    );
  return parsed.data;
}

/** @param texts `NAME=value`. @throws CliError (usage) */
export const parseVariables = (texts: readonly string[]): [name: string, value: string][] =>
  texts.map((text) => {
    const [, name = '', value = ''] = /^([A-Z][A-Z0-9_]*)=([^]*)$/.exec(text) ?? [];
    if (name === '') throw usageError(`--var ${text}: use NAME=value.`);
    if (name === 'OTEL_EXPORTER_OTLP_HEADERS')
      throw usageError(`--var ${name} may contain a key. Set it as a secret: docs/run/traces.md.`);
    if (SET_OTHERWISE.test(name))
      throw usageError(`--var ${name} cannot be set here; graft deploy sets it itself.`);
    return [name, value];
  });

/** An edge whose default base no origin serves answers 500 to everything. @throws CliError (usage) */
export function checkDefaultBase(id: string | undefined, origins: readonly DeployedOrigin[]): void {
  if (!id || origins.some(({ base }) => base === id)) return;
  const bases = [...new Set(origins.flatMap(({ base }) => base ?? []))];
  const others = bases.length === 0 ? '' : `, --var DEFAULT_BASE=<one of ${bases.join(', ')}>`;
  throw usageError(
    `DEFAULT_BASE is ${id}, but no --origin serves it. Name one that does${others}, or remove it: ` +
      '--var DEFAULT_BASE=.',
  );
}

/** Secrets, and variables with a flag of their own. */
const SET_OTHERWISE = /^(ORIGINS|GRAFT_.*|SIGN_IN)$/;

/**
 * @param texts `id=url` or `id=url,base`. @param tls whether https is required.
 * @throws CliError (usage)
 */
export function parseOrigins(texts: readonly string[], { tls }: { tls: boolean }): DeployedOrigin[] {
  const origins = texts.map((text) => parseOrigin(text, tls));
  if (new Set(origins.map(({ id }) => id)).size < origins.length)
    throw usageError('Two --origin flags have the same id.');
  if (new Set(origins.map(({ base }) => base === undefined)).size > 1)
    throw usageError('Either every --origin names its base or none does.');
  return origins;
}

function parseOrigin(text: string, tls: boolean): DeployedOrigin {
  const [, id, url = '', base] = /^([^=]+)=([^,]+)(?:,(.+))?$/.exec(text) ?? [];
  const parsed = DeployedOrigin.safeParse({
    ...{ id, url: url.replace(/\/+$/, '') },
    ...(base === undefined ? {} : { base }),
  });
  const plain = URL.canParse(url) ? new URL(url) : null;
  if (!parsed.success || plain === null)
    throw usageError(
      `--origin ${text}: use <id>=<url>, or <id>=<url>,<base>; \`graft ps\` shows the id of an ` +
        "origin's base.",
    );
  if (tls && plain.protocol !== 'https:')
    throw usageError(`--origin ${text}: prompts and answers cross the internet, so it must be https.`);
  if (plain.username + plain.password + plain.search + plain.hash !== '')
    throw usageError(`--origin ${text}: remove the name, password, query or fragment; requests are signed.`);
  return parsed.data;
}

/** Name of the template; `wrangler d1 …` and the operations docs use it. */
export const ENVIRONMENT = 'production';

/**
 * @param template the text of `wrangler.toml`. @param paths absolute ones: the worker's entry, the page, the
 * migrations.
 * @returns the configuration; unknown ids stay zeros.
 * @throws Error when the template has changed; a test guards against that.
 */
export function productionConfig(params: {
  template: string;
  deployment: Deployment;
  paths: { main: string; page: string; migrations: string };
}): string {
  const { template, deployment, paths } = params;
  const names = namesOf(deployment);
  const quoted = (text: string): string => JSON.stringify(text);
  let text = template;
  const put = (what: RegExp, by: string): void => {
    if (text.search(what) === -1) throw new Error(`wrangler.toml has no ${String(what)}`);
    text = text.replace(what, () => by);
  };
  put(/^#:schema .*\n/, '# Written by `graft deploy`, overwritten each time: change its flags instead.\n');
  put(/^main = "worker\/index\.ts"$/m, `main = ${quoted(paths.main)}`);
  put(/^directory = "dist\/page"$/m, `directory = ${quoted(paths.page)}`);
  // The page has been built already.
  put(/^\[build\]\n(?:\w.*\n)+/m, '');
  text = text.replaceAll('migrations_dir = "migrations"', `migrations_dir = ${quoted(paths.migrations)}`);
  put(/^name = "graft-production"$/m, `name = ${quoted(names.worker)}`);
  put(/^ORIGINS = '\[\{"id":"origin-1".*$/m, `ORIGINS = ${quoted(JSON.stringify(deployment.origins))}`);
  // Names that the template has are replaced; the others follow the last one of these.
  const [head, production] = splitAt(text, '[env.production.vars]');
  const [own, rest] = splitAt(production, '\n\n');
  const lines = new Map(own.split('\n').map((line) => [line.split(' = ')[0] ?? line, line]));
  for (const [name, value] of Object.entries(deployment.variables))
    lines.set(name, `${name} = ${quoted(value ?? '')}`);
  text = head + [...lines.values()].join('\n') + rest;
  if (deployment.namespace !== null) put(/^id = "0{32}"$/m, `id = ${quoted(deployment.namespace)}`);
  const [before, after] = splitAt(text, '[[env.production.d1_databases]]');
  text = before + after.replace('database_name = "graft"', () => `database_name = ${quoted(names.database)}`);
  if (deployment.database !== null)
    put(/^database_id = "[0-]{36}"$/m, `database_id = ${quoted(deployment.database)}`);
  if (deployment.usageDb)
    put(
      /^# \[\[env\.production\.d1_databases\]\]\n(?:# .*\n)+/m,
      `[[env.production.d1_databases]]\nbinding = "DB_USAGE"\ndatabase_name = ${quoted(names.usageDatabase)}\n` +
        `database_id = ${quoted(deployment.usageDatabase ?? NO_ID)}\nmigrations_dir = ${quoted(paths.migrations)}\n`,
    );
  if (deployment.r2)
    put(
      /^# \[\[env\.production\.r2_buckets\]\]\n# binding = "BLOBS"\n# bucket_name = .*$/m,
      `[[env.production.r2_buckets]]\nbinding = "BLOBS"\nbucket_name = ${quoted(names.bucket)}`,
    );
  return text;
}

const NO_ID = '00000000-0000-0000-0000-000000000000';

function splitAt(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  if (at === -1) throw new Error(`wrangler.toml has no ${mark}`);
  return [text.slice(0, at), text.slice(at)];
}
