/**
 * `graft deploy`: the steps of docs/run/cloudflare.md, "By hand"; existing resources are found again and not
 * created twice.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CliError, EXIT, interruptible } from '../cli-error.ts';
import { command } from '../command.ts';
import {
  planDeployment,
  readDeployment,
  type Deployment,
  ENVIRONMENT,
  namesOf,
  productionConfig,
  writeDeployment,
} from '../deploy/deployment-file.ts';
import { wranglerRunner, type RunWrangler, type WranglerResult } from '../deploy/run-wrangler.ts';
import { repeatedFlag } from '../flags.ts';
import { buildPage } from '../local/build-page.ts';
import { originProgram, ROOT } from '../local/origin-process.ts';
import { makePrivateFolder, writePrivateFile } from '../local/private-files.ts';
import { MIGRATIONS, neededSchema, otherSchema, SCHEMA_QUERY } from '../local/schema.ts';
import { colors } from '../output.ts';
import { z } from 'zod';
import { makeSecrets } from './secrets.ts';

const FOLDER = '.graft/deploy';
/** A new name at workers.dev, and new code everywhere, take up to a minute. */
const HEALTHY_WITHIN_MS = 90_000;
const ASK_EVERY_MS = 3_000;

export const deployCommand = command({
  verb: 'deploy',
  examples: [
    {
      line: 'graft deploy --origin origin-1=https://origin-1.example.com --dry-run',
      does: 'shows each step, without confirmation',
    },
    {
      line: 'graft deploy --origin origin-1=https://origin-1.example.com --r2',
      does: 'an edge on Cloudflare, with adapters’ bytes in R2',
    },
  ],
  args: {
    origin: {
      type: 'string',
      description:
        'An origin’s id and address, <id>=<url>[,<base>] (repeatable); remembered for the next time',
      valueHint: 'id=url',
    },
    name: {
      type: 'string',
      description: 'Name of the deployment; default: graft. Other names are separate deployments',
      valueHint: 'name',
    },
    'usage-db': {
      type: 'boolean',
      description: 'Keep usage and traffic in a D1 database of their own; only for the first deployment',
    },
    r2: { type: 'boolean', description: 'Store adapters’ bytes in R2, at a thirtieth of KV’s price' },
    var: {
      type: 'string',
      description: 'A variable of the edge, NAME=value (repeatable); remembered; an empty value removes it',
      valueHint: 'NAME=value',
    },
    account: { type: 'string', description: 'Cloudflare account id, if you have several', valueHint: 'id' },
    folder: {
      type: 'string',
      description: 'Folder for configuration and secrets',
      default: FOLDER,
      valueHint: 'path',
    },
    check: { type: 'boolean', description: 'Wait until the edge answers', default: true },
    'dry-run': { type: 'boolean', description: 'Print the steps only' },
  },
  async run({ args, rawArgs, output }) {
    originProgram('main');
    const folder = path.resolve(args.folder);
    const deployment = planDeployment(await readDeployment(folder), {
      ...{ name: args.name, account: args.account, r2: args.r2, usageDb: args['usage-db'] },
      origins: repeatedFlag(rawArgs, 'origin'),
      variables: repeatedFlag(rawArgs, 'var'),
    });
    if (args['dry-run'] === true) {
      const steps = plannedSteps(deployment);
      output.result({ dryRun: true, folder, deployment, steps }, () =>
        [`in ${folder}:`, ...steps.map(({ title, does, commands }) => stepText(title, does, commands))].join(
          '\n',
        ),
      );
      return;
    }
    const done: { title: string; outcome: string; command: string | null }[] = [];
    const deployed = await interruptible(async (signal) => {
      await makePrivateFolder(folder);
      const page = await buildPage({ output, signal });
      if (page === null)
        throw new CliError({
          message:
            'The console is not built. Run `npm ci` with the development dependencies, then `npm ' +
            'run build:page`.',
          code: 'page_missing',
        });
      const result = await deploySteps(
        {
          folder,
          template: await readFile(path.join(ROOT, 'wrangler.toml'), 'utf8'),
          paths: { main: workerEntry(), page, migrations: MIGRATIONS },
          wrangler: wranglerRunner({ folder, account: deployment.account, env: process.env, signal }),
          onStep: (step) => {
            done.push(step);
            const commands = step.command === null ? [] : [step.command];
            if (!output.json) process.stdout.write(`${stepText(step.title, step.outcome, commands)}\n`);
          },
        },
        deployment,
      );
      if (args.check && result.url !== null) await healthy(result.url, signal);
      return result;
    });
    const adminKeyFile = secretFile(folder, 'adminKey');
    const files = { adminKeyFile, originEnv: secretFile(folder, 'origins') };
    output.result({ ...deployed, folder, ...files, steps: done }, () => nextText(deployed, folder));
  },
});

const stepText = (title: string, outcome: string, commands: readonly string[]): string =>
  [`${title.padEnd(14)} ${outcome}`, ...commands.map((line) => colors.dim(`  ${line}`))].join('\n');

const workerEntry = (): string => {
  const source = path.join(ROOT, 'worker/index.ts');
  return existsSync(source) ? source : path.join(ROOT, 'dist/worker/index.js');
};

/** Waits until an edge answers. @throws CliError with its last answer on timeout. */
export async function healthy(
  url: string,
  signal: AbortSignal,
  { withinMs = HEALTHY_WITHIN_MS, everyMs = ASK_EVERY_MS } = {},
): Promise<void> {
  const end = Date.now() + withinMs;
  let last = '';
  while (Date.now() < end) {
    try {
      const { status } = await fetch(`${url}/healthz`, { signal });
      if (status === 200) return;
      last = `it answers ${status}`;
    } catch (error) {
      signal.throwIfAborted();
      last = error instanceof Error ? error.message : String(error);
    }
    await sleep(everyMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
  throw new CliError({
    message:
      `The edge is deployed, but ${url}/healthz does not answer 200 yet (${last}). If it answers 500, a ` +
      "variable is wrong; run `npx wrangler tail --env production` in the deployment's folder to see " +
      'which. --no-check skips this wait.',
    exitCode: EXIT.unavailable,
    code: 'edge_not_healthy',
  });
}

function nextText(
  { url, origins }: { url: string | null; origins: readonly { id: string; url: string }[] },
  folder: string,
): string {
  const short = path.relative(process.cwd(), folder);
  const where = short.startsWith('..') ? folder : short;
  const starts = origins.map(
    ({ id, url: address }) =>
      `  graft origin --origin-id ${id} --keys origin.env          # answers at ${address}`,
  );
  return [
    '',
    `The edge is at ${url ?? 'its address'}. Next:`,
    '',
    `1. Start each origin with ${where}/secrets/origin.env on its machine, behind a tunnel ` +
      '(docs/run/cloudflare.md, "Start an origin"):',
    ...starts,
    '2. Sign in with the first admin key, and check that the origins are seen:',
    `  graft login --url ${url ?? '<its address>'} --admin < ${where}/secrets/admin-key`,
    '  graft ps',
    '3. Create a key for an application: graft keys create --tenant acme --scopes "support/**" --rpm 600',
    '',
    `${where}/secrets contains the only copy of the secrets. Put it into your vault.`,
  ].join('\n');
}

interface DeployContext {
  /** `.graft/deploy`; wrangler runs in it. */
  readonly folder: string;
  readonly template: string;
  readonly paths: { main: string; page: string; migrations: string };
  readonly wrangler: RunWrangler;
  /** Called after each step with its result and command. */
  readonly onStep: (step: { title: string; outcome: string; command: string | null }) => void;
}

/** Files of the folder `secrets`, as `graft secrets` writes them. */
const SECRET_FILES = { worker: 'worker.json', origins: 'origin.env', adminKey: 'admin-key' } as const;
const secretFile = (folder: string, which: keyof typeof SECRET_FILES): string =>
  path.join(folder, 'secrets', SECRET_FILES[which]);

const shown = (args: readonly string[]): string =>
  `npx wrangler ${args.map((arg) => (arg.includes(' ') ? `"${arg}"` : arg)).join(' ')}`;
const inEnvironment = ['--env', ENVIRONMENT];

/** The plan of {@link deploySteps}, with its commands as typed in the deployment's folder. */
export function plannedSteps(deployment: Deployment): { title: string; does: string; commands: string[] }[] {
  const names = namesOf(deployment);
  const bucket = {
    title: 'R2 bucket',
    does: 'is created if missing',
    commands: [shown(['r2', 'bucket', 'create', names.bucket])],
  };
  const usageDatabase = {
    title: 'Usage database',
    does: 'is looked up, and created if missing',
    commands: [shown(['d1', 'create', names.usageDatabase])],
  };
  return [
    { title: 'Sign-in', does: 'asks for the account', commands: [shown(['whoami'])] },
    {
      title: 'KV namespace',
      does: 'is looked up, and created if missing',
      commands: [shown(['kv', 'namespace', 'list']), shown(['kv', 'namespace', 'create', names.namespace])],
    },
    {
      title: 'D1 database',
      does: 'is looked up, and created if missing',
      commands: [shown(['d1', 'list', '--json']), shown(['d1', 'create', names.database])],
    },
    ...(deployment.usageDb ? [usageDatabase] : []),
    ...(deployment.r2 ? [bucket] : []),
    { title: 'Configuration', does: 'is written: wrangler.toml', commands: [] },
    {
      title: 'Tables',
      does: 'get the missing migrations',
      commands: databasesOf(deployment).flatMap((name) => [shown(migrate(name)), shown(schemaQuery(name))]),
    },
    {
      title: 'Secrets',
      does: 'are created in secrets/ if the edge has none',
      commands: [shown(['secret', 'list', ...inEnvironment])],
    },
    {
      title: 'Edge',
      does: 'is deployed, the first time with its secrets',
      commands: [shown(['deploy', ...inEnvironment, '--secrets-file', 'secrets/worker.json'])],
    },
  ];
}

const databasesOf = (deployment: Deployment): string[] => {
  const { database, usageDatabase } = namesOf(deployment);
  return deployment.usageDb ? [database, usageDatabase] : [database];
};

const migrate = (database: string): string[] => [
  ...['d1', 'migrations', 'apply', database],
  ...[...inEnvironment, '--remote'],
];

const schemaQuery = (database: string): string[] => [
  ...['d1', 'execute', database, ...inEnvironment, '--remote', '--json'],
  ...['--command', SCHEMA_QUERY],
];

/**
 * @returns the deployment with its ids and address. @throws CliError that says what to do; a second run
 * continues.
 */
export async function deploySteps(context: DeployContext, planned: Deployment): Promise<Deployment> {
  const { folder, onStep } = context;
  let deployment = planned;
  const keep = async (change: Partial<Deployment>): Promise<void> => {
    deployment = { ...deployment, ...change };
    await writeDeployment(folder, deployment);
    await writePrivateFile(
      path.join(folder, 'wrangler.toml'),
      productionConfig({ template: context.template, deployment, paths: context.paths }),
    );
  };
  const run = async (args: readonly string[]): Promise<WranglerResult & { ok: true }> => {
    const result = await context.wrangler(args);
    if (!result.ok) throw refused(args, result);
    return result;
  };
  await keep({});
  const names = namesOf(deployment);

  const account = await signedIn(run, deployment.account);
  onStep({ title: 'Sign-in', outcome: `account ${account}`, command: shown(['whoami']) });

  const namespaces = await listed(run, ['kv', 'namespace', 'list'], Namespaces);
  const namespace = await findOrMake({
    ...{ run, onStep, title: 'KV namespace', name: names.namespace, kept: deployment.namespace },
    there: namespaces.map(({ title, id }) => ({ name: title, id })),
    make: ['kv', 'namespace', 'create', names.namespace],
  });
  await keep({ namespace });

  const databases = await listed(run, ['d1', 'list', '--json'], Databases);
  const database = await findOrMake({
    ...{ run, onStep, title: 'D1 database', name: names.database, kept: deployment.database },
    there: databases.map(({ name, uuid }) => ({ name, id: uuid })),
    make: ['d1', 'create', names.database],
  });
  await keep({ database });

  if (deployment.usageDb) {
    const usageDatabase = await findOrMake({
      ...{ run, onStep, title: 'Usage database', name: names.usageDatabase },
      kept: deployment.usageDatabase,
      there: databases.map(({ name, uuid }) => ({ name, id: uuid })),
      make: ['d1', 'create', names.usageDatabase],
    });
    await keep({ usageDatabase });
  }

  if (deployment.r2) await makeBucket(context, names.bucket);
  onStep({ title: 'Configuration', outcome: path.join(folder, 'wrangler.toml'), command: null });

  for (const database of databasesOf(deployment)) {
    await run(migrate(database));
    await checkSchema(run, database);
    onStep({ title: 'Tables', outcome: 'up to date', command: shown(migrate(database)) });
  }

  const flags = await secretFlags(context);
  const deploy = ['deploy', ...inEnvironment, ...flags];
  const { events } = await run(deploy);
  const targets = events.find(({ type }) => type === 'deploy')?.targets ?? [];
  await keep({ url: targets.find((target) => target.startsWith('https://')) ?? deployment.url });
  onStep({ title: 'Edge', outcome: deployment.url ?? names.worker, command: shown(deploy) });
  return deployment;
}

const Schema = z.array(z.looseObject({ results: z.array(z.looseObject({ hash: z.string() })) }));

/** @throws CliError if another version of graft created the database. */
async function checkSchema(run: Run, database: string): Promise<void> {
  const [answer] = parseOutput(Schema, (await run(schemaQuery(database))).stdout, 'd1 execute');
  const found = answer?.results[0]?.hash ?? null;
  const needed = await neededSchema();
  if (found === needed) return;
  throw otherSchema({
    ...{ where: `The D1 database ${database}`, found, needed },
    afresh: 'graft deploy --name <another name>',
  });
}

const Who = z.looseObject({
  loggedIn: z.boolean(),
  accounts: z.array(z.looseObject({ id: z.string(), name: z.string() })).optional(),
});
const Namespaces = z.array(z.looseObject({ id: z.string(), title: z.string() }));
const Databases = z.array(z.looseObject({ uuid: z.string(), name: z.string() }));
const Secrets = z.array(z.looseObject({ name: z.string() }));

type Run = (args: readonly string[]) => Promise<WranglerResult & { ok: true }>;

async function signedIn(run: Run, wanted: string | null): Promise<string> {
  const { accounts = [] } = parseOutput(Who, (await run(['whoami', '--json'])).stdout, 'whoami');
  if (wanted === null && accounts.length > 1)
    throw new CliError({
      message:
        'The sign-in has several accounts. Choose one with --account: ' +
        `${accounts.map(({ id, name }) => `${id} (${name})`).join(', ')}.`,
      exitCode: EXIT.usage,
      code: 'account_needed',
    });
  const account = wanted === null ? accounts[0] : accounts.find(({ id }) => id === wanted);
  return account === undefined ? (wanted ?? 'unknown') : `${account.id} (${account.name})`;
}

async function findOrMake(params: {
  run: Run;
  onStep: DeployContext['onStep'];
  title: string;
  name: string;
  /** Id from an earlier run. */
  kept: string | null;
  there: readonly { name: string; id: string }[];
  make: readonly string[];
}): Promise<string> {
  const { title, name, kept, there, make } = params;
  if (kept !== null && !there.some(({ id }) => id === kept))
    throw new CliError({
      message:
        `${title} ${name} (${kept}) is not in this account. Sign in to the account where it was created, ` +
        'or give --account. If it was deleted, remove its id from deployment.json; a new, empty one is ' +
        'then created.',
      exitCode: EXIT.error,
      code: 'deployment_elsewhere',
    });
  const found = there.find((one) => (kept === null ? one.name === name : one.id === kept));
  if (found !== undefined) {
    params.onStep({ title, outcome: `${name} exists (${found.id})`, command: null });
    return found.id;
  }
  const { stdout } = await params.run(make);
  // As in the configuration snippet that wrangler prints.
  const id = /\b(?:database_)?id"? ?[=:] ?"([0-9a-f-]{32,36})"/.exec(stdout)?.[1];
  if (id === undefined) throw new Error(`wrangler returned no id of ${name}:\n${stdout}`);
  params.onStep({ title, outcome: `created ${name} (${id})`, command: shown(make) });
  return id;
}

async function makeBucket({ wrangler, onStep }: DeployContext, bucket: string): Promise<void> {
  const make = ['r2', 'bucket', 'create', bucket];
  const made = await wrangler(make);
  // Checking whether it exists needs more rights than creating it.
  const isThere = !made.ok && (made.code === 10004 || /already exists/i.test(made.message));
  if (!made.ok && !isThere) throw refused(make, made);
  const outcome = isThere ? `${bucket} exists` : `created ${bucket}`;
  onStep({ title: 'R2 bucket', outcome, command: shown(make) });
}

/** Secrets are set with the first deployment only, so that later rotations are not undone. @throws CliError */
async function secretFlags({ folder, wrangler, onStep }: DeployContext): Promise<string[]> {
  const list = ['secret', 'list', ...inEnvironment];
  const found = await wrangler(list);
  // There is no worker before its first deployment.
  const isNew = !found.ok && /not found|does not exist/i.test(found.message);
  if (!found.ok && !isNew) throw refused(list, found);
  const there = found.ok ? parseOutput(Secrets, found.stdout, 'secret list').map(({ name }) => name) : [];
  const file = secretFile(folder, 'worker');
  const kept = existsSync(file);
  if (there.includes('GRAFT_MAC_KEY')) {
    onStep({ title: 'Secrets', outcome: 'the edge has them; they stay as they are', command: shown(list) });
    return [];
  }
  if (!kept) {
    const { worker, originEnv, adminKey } = await makeSecrets(new Date());
    await writePrivateFile(secretFile(folder, 'origins'), originEnv);
    await writePrivateFile(secretFile(folder, 'adminKey'), `${adminKey}\n`);
    // Last, because its existence proves the others.
    await writePrivateFile(file, `${JSON.stringify(worker, null, 2)}\n`);
  }
  const where = path.join(folder, 'secrets');
  onStep({ title: 'Secrets', outcome: kept ? `those in ${where}` : `created in ${where}`, command: null });
  return ['--secrets-file', path.relative(folder, file)];
}

async function listed<T>(run: Run, args: readonly string[], schema: z.ZodType<T>): Promise<T> {
  return parseOutput(schema, (await run(args)).stdout, args.join(' '));
}

function parseOutput<T>(schema: z.ZodType<T>, stdout: string, command: string): T {
  // Lines about proxies and versions may precede it.
  const start = stdout.search(/^[[{]/m);
  try {
    return schema.parse(JSON.parse(stdout.slice(start)));
  } catch {
    throw new Error(`unexpected output of wrangler ${command}:\n${stdout}`);
  }
}

/** Cloudflare's codes for a missing sign-in or missing rights. */
const NO_RIGHT = [9109, 10000, 10001, 9106];

function refused(
  args: readonly string[],
  { message, code }: { message: string; code: number | null },
): CliError {
  const denied =
    (code !== null && NO_RIGHT.includes(code)) || /authenti|not logged in|unauthorized/i.test(message);
  const help = denied
    ? ' Sign in with `npx wrangler login`, or set CLOUDFLARE_API_TOKEN to a token that may edit ' +
      'Workers Scripts, Workers KV Storage, D1 and (for --r2) Workers R2 Storage, and read Account ' +
      'Settings.'
    : '';
  return new CliError({
    message:
      `\`${shown(args)}\` failed: ${message.trim()}.${help}`.replace(/\.\.(?= |$)/, '.') +
      ' Completed steps stay; run the same command again to continue.',
    exitCode: denied ? EXIT.auth : EXIT.error,
    code: denied ? 'cloudflare_denied' : 'wrangler_failed',
  });
}
