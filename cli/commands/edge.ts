import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import path from 'node:path';
import { z } from 'zod';
import { CliError, EXIT, interrupted } from '../cli-error.ts';
import { command } from '../command.ts';
import { checkDefaultBase, parseOrigins, parseVariables } from '../deploy/deployment-file.ts';
import { parsePort, repeatedFlag, usageError } from '../flags.ts';
import type { Edge } from '../local/edge.ts';
import { buildPage } from '../local/build-page.ts';
import { originProgram } from '../local/origin-process.ts';
import { ENDING_SIGNALS } from '../local/keep-process-ours.ts';
import { LOOPBACK, needFreePort } from '../local/ports.ts';
import { makePrivateFolder } from '../local/private-files.ts';
import { startSchedule } from '../local/schedule.ts';
import { takeStartLock } from '../local/graft-folder.ts';

/** As in `graft dev`: cron triggers fire at most each minute, and locally not at all. */
const SCHEDULE_PAUSE_MS = 10_000;

const Secrets = z.object({
  GRAFT_MAC_KEY: z.string().min(1),
  GRAFT_ORIGIN_KEYS: z.string().min(1),
  GRAFT_ADMIN_KEY_SHA256: z.string().min(1),
  GRAFT_ACCEPTED_MAC_KEYS: z.string().optional(),
  OTEL_EXPORTER_OTLP_HEADERS: z.string().optional(),
});

export const edgeCommand = command({
  verb: 'edge',
  examples: [
    {
      line: 'graft edge --secrets ./secrets --origin origin-1=http://127.0.0.1:8788',
      does: 'the edge on 127.0.0.1:8787, in front of an origin on this machine',
    },
    {
      line: 'graft edge --secrets ./secrets --origin a=https://a.example.com --origin b=https://b.example.com --host 0.0.0.0',
      does: 'for other machines, behind a proxy that terminates TLS',
    },
  ],
  args: {
    origin: {
      type: 'string',
      description: 'An origin’s id and address, <id>=<url>[,<base>] (repeatable)',
      valueHint: 'id=url',
    },
    secrets: {
      type: 'string',
      description: 'Folder written by graft secrets; default: the environment',
      valueHint: 'folder',
    },
    host: { type: 'string', description: 'Address to listen on', default: LOOPBACK, valueHint: 'host' },
    port: { type: 'string', description: 'Port to listen on', default: '8787', valueHint: 'port' },
    folder: {
      type: 'string',
      description: 'Folder for its state; default: the current one',
      default: '.',
      valueHint: 'path',
    },
    var: {
      type: 'string',
      description: 'A variable of the edge, NAME=value (repeatable)',
      valueHint: 'NAME=value',
    },
  },
  async run({ args, rawArgs, output }) {
    originProgram('main');
    const origins = parseOrigins(repeatedFlag(rawArgs, 'origin'), { tls: false });
    if (origins.length === 0) throw usageError('Add an origin: --origin origin-1=http://127.0.0.1:8788.');
    const variables = Object.fromEntries(parseVariables(repeatedFlag(rawArgs, 'var')));
    checkDefaultBase(variables['DEFAULT_BASE'], origins);
    const headers = process.env['OTEL_EXPORTER_OTLP_HEADERS'];
    const secrets = {
      ...(headers === undefined ? {} : { OTEL_EXPORTER_OTLP_HEADERS: headers }),
      ...(await readSecrets(args.secrets, process.env)),
    };
    const ending = new AbortController();
    const onSignal = () => ending.abort(interrupted());
    for (const signal of ENDING_SIGNALS) process.on(signal, onSignal);

    const folder = path.resolve(args.folder);
    const asked = parsePort(args.port, '--port');
    const port = await needFreePort({ port: asked, host: args.host, what: 'edge', flag: '--port' });
    await makePrivateFolder(path.join(folder, '.graft'));
    const release = await takeStartLock(path.join(folder, '.graft'));
    try {
      const page = await buildPage({ output, signal: ending.signal });
      // Imported here, because Miniflare alone takes half a second of CPU to load.
      const { startEdge } = await import('../local/edge.ts');
      const edge = await startEdge({
        ...{ port, host: args.host, stateFolder: path.join(folder, '.wrangler/state') },
        ...(page === null ? {} : { page }),
        bindings: { ...variables, ...secrets, ORIGINS: JSON.stringify(origins) },
        onLog: (line) => process.stderr.write(`${line}\n`),
      });
      await needRightConfiguration(edge);
      const endSchedule = startSchedule({
        ...{ work: edge.runSchedule, pauseMs: SCHEDULE_PAUSE_MS },
        onFailure: (reason) => process.stderr.write(`schedule: ${reason}\n`),
      });
      // An IPv6 address contains colons itself.
      const url = `http://${isIPv6(args.host) ? `[${args.host}]` : args.host}:${new URL(edge.url).port}`;
      output.result(
        { url, origins },
        () => `the edge is on ${url}, in front of ${origins.map(({ id }) => id).join(', ')}`,
      );
      const aborted = new Promise<null>((resolve) => {
        if (ending.signal.aborted) resolve(null);
        ending.signal.addEventListener('abort', () => resolve(null), { once: true });
      });
      const reason = await Promise.race([edge.failed, aborted]);
      endSchedule();
      await edge.stop();
      if (reason !== null) throw new CliError({ message: `${reason}.`, code: 'part_failed' });
    } finally {
      await release();
    }
  },
});

/**
 * The worker reads its variables at the first request: with a wrong one it would answer 500 to everything.
 * @throws CliError
 */
async function needRightConfiguration(edge: Pick<Edge, 'url' | 'stop'>): Promise<void> {
  const answer = await fetch(`${edge.url}/healthz`).catch(() => null);
  await answer?.body?.cancel();
  if (answer?.status !== 500) return;
  await edge.stop();
  throw new CliError({
    message: 'The edge answers 500: a variable or a secret is wrong. A line above says which.',
    exitCode: EXIT.usage,
    code: 'edge_misconfigured',
  });
}

/** @throws CliError that lists what is missing. */
async function readSecrets(
  folder: string | undefined,
  env: NodeJS.ProcessEnv,
): Promise<Record<string, string>> {
  const file = folder === undefined ? null : path.join(path.resolve(folder), 'worker.json');
  let given: unknown = env;
  if (file !== null)
    try {
      given = JSON.parse(await readFile(file, 'utf8'));
    } catch (error) {
      throw usageError(
        `--secrets: ${file} cannot be read (${error instanceof Error ? error.message : String(error)}).`,
      );
    }
  const parsed = Secrets.safeParse(given);
  if (parsed.success)
    return Object.fromEntries(
      Object.entries(parsed.data).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    );
  throw new CliError({
    message:
      `${parsed.error.issues.map(({ path: [name] }) => String(name)).join(', ')}: not in ` +
      `${file ?? 'the environment'}. Run \`graft secrets <folder>\`, then give --secrets <folder>.`,
    exitCode: EXIT.usage,
    code: 'secrets_missing',
  });
}
