import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { defineCommand } from 'citty';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { planDeployment, readDeployment } from '../deploy/deployment-file.ts';
import { deploySteps, plannedSteps, secretFile } from '../deploy/deploy-steps.ts';
import { wranglerRunner } from '../deploy/run-wrangler.ts';
import { commonFlags, repeatedFlag } from '../flags.ts';
import { interruptible } from '../interruptible.ts';
import { buildPage } from '../local/build-page.ts';
import { originProgram, ROOT } from '../local/origin-process.ts';
import { makePrivateFolder } from '../local/private-files.ts';
import { colors, createOutput } from '../output.ts';

const FOLDER = '.graft/deploy';
/** A new name at workers.dev, and new code everywhere, take up to a minute. */
const HEALTHY_WITHIN_MS = 90_000;
const ASK_EVERY_MS = 3_000;

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft deploy --origin origin-1=https://origin-1.example.com --dry-run',
      does: 'what would be done, command by command; asks nobody',
    },
    {
      line: 'graft deploy --origin origin-1=https://origin-1.example.com --r2',
      does: 'an edge on Cloudflare, adapters’ bytes in R2',
    },
    { line: 'graft deploy', does: 'the same again after an update: tables, then code; secrets stay' },
    {
      line: 'graft deploy --origin a=https://a.example.com --origin b=https://b.example.com --var CORS_ORIGINS=https://app.example.com',
      does: 'other origins and a variable, from now on',
    },
  ],
  notes: [
    'Runs Cloudflare’s wrangler, which has its own sign-in (`npx wrangler login`, or `CLOUDFLARE_API_TOKEN`), and shows each command: it makes the KV namespace, the D1 database and with `--r2` the bucket where they are not there, applies the migrations, makes the secrets once and deploys the edge. When it breaks off, the same command goes on: what exists is found by its name. Everything is kept in `.graft/deploy`, readable by you alone: `deployment.json`, `wrangler.toml` (written anew each time), and `secrets/`, which belongs into your vault.',
    'Secrets go to the edge with its first deployment only, so that a later one does not undo a rotation. Nothing of them is printed. The steps by hand, and everything after, are in [docs/operations.md](operations.md#the-edge). Tried against a copy of Cloudflare’s API with the real wrangler, **not on a real account**.',
  ],
};

export default defineCommand({
  meta: { name: 'deploy' },
  args: {
    origin: {
      type: 'string',
      description: 'An origin’s id and address, <id>=<url>[,<base>] (repeatable); kept for the next time',
      valueHint: 'id=url',
    },
    name: {
      type: 'string',
      description: 'Of the deployment: graft unless given; other names are other deployments',
      valueHint: 'name',
    },
    r2: { type: 'boolean', description: 'Keep adapters’ bytes in R2, at a thirtieth of KV’s price' },
    var: {
      type: 'string',
      description: 'A variable of the edge, NAME=value (repeatable); kept; an empty value takes it away',
      valueHint: 'NAME=value',
    },
    account: { type: 'string', description: 'Cloudflare’s id of it, of several', valueHint: 'id' },
    folder: {
      type: 'string',
      description: 'Where configuration and secrets are kept',
      default: FOLDER,
      valueHint: 'path',
    },
    check: { type: 'boolean', description: 'Wait until the edge answers', default: true },
    'dry-run': { type: 'boolean', description: 'Only print the steps' },
    ...commonFlags,
  },
  async run({ args, rawArgs }) {
    originProgram('main');
    const output = createOutput({ json: args.json === true });
    const folder = path.resolve(args.folder);
    const deployment = planDeployment(await readDeployment(folder), {
      ...{ name: args.name, account: args.account, r2: args.r2 },
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
            'The dashboard is not built: `npm ci` with the development dependencies, then `npm run build:page`.',
          code: 'page_missing',
        });
      const result = await deploySteps(
        {
          folder,
          template: await readFile(path.join(ROOT, 'wrangler.toml'), 'utf8'),
          paths: { main: workerEntry(), page, migrations: path.join(ROOT, 'migrations') },
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

/** Waits until an edge answers. @throws CliError with its last answer when it does not in time. */
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
    message: `The edge is deployed, and ${url}/healthz does not answer 200 yet (${last}). A 500 means that a variable is wrong: \`npx wrangler tail --env production\` in the deployment's folder names it. --no-check does not wait.`,
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
    `1. Each origin, with ${where}/secrets/origin.env on its machine and a tunnel before it (docs/operations.md, "An origin"):`,
    ...starts,
    `2. Sign in with the first admin key, and look whether the origins are seen:`,
    `  graft login --url ${url ?? '<its address>'} --admin < ${where}/secrets/admin-key`,
    '  graft ps',
    '3. A key for an application: graft keys create --tenant acme --scopes "support/**" --rpm 600',
    '',
    `${where}/secrets has the only copy of the secrets: put it into your vault.`,
  ].join('\n');
}
