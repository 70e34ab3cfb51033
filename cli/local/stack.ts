/** The stack of `graft dev`: the edge, and one origin per base. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { MAX_HISTORY_PAGE } from '../../protocol/admin-api/operation.ts';
import { hashApiKey } from '../../protocol/identity.ts';
import { lookUpBases, lookUpVersions, readHistory } from '../admin/admin-client.ts';
import { type ApiClient, createApiClient, callOperation } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { type LocalFile, localFilePath } from '../connection.ts';
import type { Output } from '../output.ts';
import { publishAdapter } from '../publish/publish-adapter.ts';
import { buildPage } from './build-page.ts';
import { openDevLog, ensureKeysFile, takeStartLock, type LocalKeys } from './graft-folder.ts';
import { type Edge, startEdge } from './edge.ts';
import { usableCacheFolder, findBase } from './find-base.ts';
import { type OriginProcess, ROOT, originProgress, startOrigin } from './origin-process.ts';
import { needFreePort, LOOPBACK } from './ports.ts';
import { makePrivateFolder, writePrivateFile } from './private-files.ts';
import { startSchedule } from './schedule.ts';
import { z } from 'zod';
import { nativeRuntime, runsNatively } from './native-runtime.ts';

/** Cron triggers fire each minute at most; locally that is too slow. */
const SCHEDULE_PAUSE_MS = 10_000;

/** One name that `graft dev` publishes; `folders` are its versions, the live one first, then staged ones. */
interface Example {
  name: string;
  parent: string | null;
  folders: readonly string[];
}

const exampleFolder = (name: string): string => path.join(ROOT, 'examples/adapters', name);

/**
 * Parents first. The first three are a tree; `support/intent` has a weak first version and a better one to test
 * against it; `support/desk` calls tools.
 */
const EXAMPLES: readonly Example[] = [
  { name: 'medicine', parent: null, folders: [exampleFolder('medicine')] },
  { name: 'medicine/cardiology', parent: 'medicine', folders: [exampleFolder('cardiology')] },
  { name: 'medicine/cardiology/dr-lee', parent: 'medicine/cardiology', folders: [exampleFolder('dr-lee')] },
  { name: 'support/intent', parent: null, folders: [exampleFolder('intent-v1'), exampleFolder('intent-v2')] },
  { name: 'support/desk', parent: null, folders: [exampleFolder('desk')] },
];

/** With a receiver in the environment, which the origins read themselves, the edge sends its spans there as well. */
function traceVariables(env: StackOptions['env']): Record<string, string> {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: below, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: exact } = env;
  if ((!below && !exact) || env['OTEL_SDK_DISABLED']?.toLowerCase() === 'true') return {};
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: below ?? '',
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: exact ?? '',
    OTEL_EXPORTER_OTLP_HEADERS:
      env['OTEL_EXPORTER_OTLP_TRACES_HEADERS'] || (env['OTEL_EXPORTER_OTLP_HEADERS'] ?? ''),
    // Here every request is of interest.
    TRACE_SAMPLE: env['TRACE_SAMPLE'] || '1',
  };
}

export interface StackOptions {
  /** Parent of everything that is stored, in `.graft` and `.wrangler/state`. */
  folder: string;
  /** The value of `--base`; undefined = the pinned base. */
  base: string | undefined;
  /** 0 = any free one. */
  port: number;
  originPort: number;
  /** Publish the example adapters. */
  examples: boolean;
  /** Further flags for the origin. */
  originArgs: readonly string[];
  /** Further bases, each with its own origin; default: none. */
  also?: readonly OriginWish[];
  env: Record<string, string | undefined>;
  output: Output;
  /** Aborts the start. */
  signal?: AbortSignal;
}

export interface Stack {
  /** The content of `.graft/local.json`. */
  readonly local: LocalFile;
  readonly originPid: number;
  /** Signs in to the console, once; null = the edge serves none. */
  readonly signInLink: string | null;
  /** Resolves with a sentence when a part ends unexpectedly. */
  readonly failed: Promise<string>;
  /** Ends everything and removes `.graft/local.json`. */
  stop(): Promise<void>;
}

/**
 * Starts origin and edge with shared keys, and publishes the examples.
 * @throws CliError when a part cannot start; nothing is left running then.
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  const { folder, output, signal } = options;
  const graftFolder = path.join(folder, '.graft');
  // Not its content: keys that others may read are refused.
  await makePrivateFolder(graftFolder);
  const release = await takeStartLock(graftFolder);
  const file = localFilePath(folder);
  // Of a killed one: a client that waits for the file would connect to nothing.
  rmSync(file, { force: true });
  const undo: (() => Promise<void> | void)[] = [release];
  const stop = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const port = await needFreePort({ port: options.port, what: 'edge', flag: '--port' });
    const keys = await ensureKeysFile(folder);
    const cache = await usableCacheFolder(options.env);
    const log = openDevLog(path.join(graftFolder, 'dev.log'));
    undo.push(log.close);
    const onLog = (part: string) => (line: string) => log.write(part, line);
    const origins = await prepareOrigins({
      wishes: [{ base: options.base, args: options.originArgs }, ...(options.also ?? [])],
      port: options.originPort,
      edgePort: port,
      ...{ keys, cache, env: options.env, output, onLog },
      onEnd: (end) => undo.push(end),
      ...(signal === undefined ? {} : { signal }),
    });
    const page = await buildPage({ output, ...(signal === undefined ? {} : { signal }) });
    signal?.throwIfAborted();

    const adminKeyHash = await hashApiKey(keys.adminKey);
    const link = await createSignInLink(keys.adminKey);
    const edgeBefore = async (configured: readonly { id: string; url: string; base?: string }[]) => {
      const started = await startEdge({
        port,
        stateFolder: path.join(folder, '.wrangler/state'),
        ...(page === null ? {} : { page }),
        bindings: {
          ORIGINS: JSON.stringify(configured),
          GRAFT_ORIGIN_KEYS: keys.originKeys,
          GRAFT_MAC_KEY: keys.macSecret,
          GRAFT_ADMIN_KEY_SHA256: adminKeyHash,
          // Anyone who can write this machine's KV can read its admin key too.
          DROPS: 'on',
          // A judge on this machine, as in examples/ab-test.
          LOOPBACK_CALLBACKS: 'on',
          SIGN_IN: link.binding,
          ...traceVariables(options.env),
          ...(options.env['CORS_ORIGINS'] === undefined ? {} : { CORS_ORIGINS: options.env['CORS_ORIGINS'] }),
        },
        onLog: onLog('edge'),
      });
      undo.push(() => started.stop());
      return started;
    };
    const { processes, edge } = await startAll(origins, edgeBefore);
    signal?.throwIfAborted();

    const admin = createApiClient({ url: edge.url, key: keys.adminKey });
    await registerApiKey(admin, keys.apiKey);
    // The edge checks its origins, as for every request.
    await lookUpBases(admin);
    const [first] = processes;
    const bases = processes.map(servedBase);
    const local: LocalFile = {
      url: edge.url,
      key: keys.apiKey,
      adminKey: keys.adminKey,
      originUrl: origins[0].url,
      base: bases[0] as string,
      ...(new Set(bases).size === 1 ? {} : { bases: [...new Set(bases)] }),
    };
    if (options.examples) await publishExamples(admin, output);
    signal?.throwIfAborted();
    undo.push(
      startSchedule({
        work: edge.runSchedule,
        pauseMs: SCHEDULE_PAUSE_MS,
        onFailure: onLog('schedule'),
      }),
    );

    undo.push(() => rmSync(file, { force: true }));
    await writePrivateFile(file, `${JSON.stringify(local, null, 2)}\n`);
    return {
      local,
      originPid: first.pid,
      signInLink: page === null ? null : link.of(edge.url),
      failed: Promise.race([...processes.map(({ failed }) => failed), edge.failed]),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

type Started<T> = readonly [T, ...T[]];

/**
 * One origin and the edge start in parallel. With several, the edge must know their bases, which they report
 * when ready; they start one after the other, because each uses the whole machine for a while.
 * @throws the first failure, once nothing is starting any more: what has started by then can be stopped.
 */
async function startAll(
  origins: Started<LocalOrigin>,
  edgeBefore: (configured: readonly { id: string; url: string; base?: string }[]) => Promise<Edge>,
): Promise<{ processes: Started<OriginProcess>; edge: Edge }> {
  const [{ id, url, start }, ...others] = origins;
  if (others.length === 0) {
    const parts = [start(), edgeBefore([{ id, url }])] as const;
    const results = await Promise.allSettled(parts);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return { processes: [await parts[0]], edge: await parts[1] };
  }
  const processes: [OriginProcess, ...OriginProcess[]] = [await start()];
  for (const other of others) processes.push(await other.start());
  const configured = origins.map((origin, i) => ({
    id: origin.id,
    url: origin.url,
    base: servedBase(processes[i] as OriginProcess),
  }));
  return { processes, edge: await edgeBefore(configured) };
}

/** A name that already had versions is left alone, whatever they are: removed ones must not come back. */
async function publishExamples(client: ApiClient, output: Output): Promise<void> {
  for (const { name, parent, folders } of EXAMPLES) {
    const published = await everPublished(client, name);
    for (const folder of folders.slice(published)) {
      const stage = folder !== folders[0];
      const { version } = await publishAdapter({ client, given: folder, name, parent, stage, output });
      output.note(`${stage ? 'staged' : 'published'} ${name}@${version.version}`);
    }
  }
}

/** @returns how many versions the name has, or had before some were removed. */
async function everPublished(client: ApiClient, name: string): Promise<number> {
  const versions = (await lookUpVersions(client, name))?.versions.length ?? 0;
  const changes = await readHistory(client, name, MAX_HISTORY_PAGE).catch((error: unknown) => {
    if (error instanceof CliError && error.exitCode === EXIT.notFound) return [];
    throw error;
  });
  return Math.max(versions, ...changes.map(({ action, to }) => (action === 'publish' ? (to ?? 0) : 0)));
}

/** Registers the stack's own API key, for every adapter. Repeating it changes nothing. */
async function registerApiKey(client: ApiClient, apiKey: string): Promise<void> {
  const body = { hash: await hashApiKey(apiKey), scopes: ['**'], label: 'graft dev' };
  await callOperation(client, 'register the API key', 'POST /admin/keys', { body });
}

const TOKEN_BYTES = 32;

/** The link that signs in to the console, once, without a key being typed or part of an address. */
interface SignInLink {
  /** After the `#`, which browsers do not send to servers. @param url of the edge. */
  of(url: string): string;
  /** The edge's variable SIGN_IN. */
  readonly binding: string;
}

export async function createSignInLink(adminKey: string): Promise<SignInLink> {
  const token = randomBytes(TOKEN_BYTES).toString('base64url');
  return {
    of: (url) => `${url}/dashboard#/sign-in/${token}`,
    binding: JSON.stringify({ token_sha256: await hashApiKey(token), admin_key: adminKey }),
  };
}

/** What an origin is started with. */
export interface OriginWish {
  /** A `.gguf` file or a folder in Hugging Face's format; undefined = the pinned base. */
  readonly base: string | undefined;
  /** Further flags. */
  readonly args: readonly string[];
}

/** An origin that can be started. */
interface LocalOrigin {
  readonly id: string;
  readonly url: string;
  start(): Promise<OriginProcess>;
}

const Ready = z.object({ base: z.string() });

/** @returns id of the base that it serves. */
const servedBase = ({ ready }: OriginProcess): string => Ready.parse(ready).base;

/**
 * Finds the bases and free ports, but starts nothing.
 * @param params.port of the first; the others get the following ports or, if it is 0, any free ones.
 * @param params.edgePort which none of them may have.
 * @throws CliError when a base is missing or a port is taken.
 */
async function prepareOrigins(params: {
  wishes: readonly [OriginWish, ...OriginWish[]];
  port: number;
  edgePort: number;
  keys: LocalKeys;
  cache: string;
  env: Record<string, string | undefined>;
  output: Output;
  onLog: (part: string) => (line: string) => void;
  /** Registers a function to call at the end. */
  onEnd: (end: () => Promise<void> | void) => void;
  signal?: AbortSignal;
}): Promise<[LocalOrigin, ...LocalOrigin[]]> {
  const { keys, cache, env, output, signal } = params;
  const runtime = await nativeRuntime({
    ...{ cache, output, wanted: params.wishes.some(({ args }) => runsNatively(args)) },
    ...(signal === undefined ? {} : { signal }),
  });
  const given = [params.edgePort];
  const prepare = async (wish: OriginWish, i: number): Promise<LocalOrigin> => {
    const asked = params.port === 0 ? 0 : params.port + i;
    const port = await needFreePort({ port: asked, what: 'origin', flag: '--origin-port', given });
    given.push(port);
    const base = await findBase({
      ...{ base: wish.base, cache, env, output },
      ...(signal === undefined ? {} : { signal }),
    });
    const id = i === 0 ? keys.originId : `${keys.originId}-${i + 1}`;
    return {
      id,
      url: `http://${LOOPBACK}:${port}`,
      async start() {
        const progress = originProgress(output);
        params.onEnd(progress.end);
        const args = ['--port', String(port), '--base', base, '--cache', cache, '--origin-id', id];
        const started = await startOrigin({
          args: [...args, ...wish.args],
          env: { GRAFT_ORIGIN_KEYS: keys.originKeys, ...runtime },
          onEvent: progress.hear,
          onLog: params.onLog(i === 0 ? 'origin' : `origin-${i + 1}`),
          ...(signal === undefined ? {} : { signal }),
        });
        params.onEnd(() => started.stop());
        return started;
      },
    };
  };
  const [first, ...others] = params.wishes;
  const origins: [LocalOrigin, ...LocalOrigin[]] = [await prepare(first, 0)];
  for (const [i, wish] of others.entries()) origins.push(await prepare(wish, i + 1));
  return origins;
}
