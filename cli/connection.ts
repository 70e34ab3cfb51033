/** Where requests go, and with which key: the environment, `.graft/local.json`, or the login. */
import { readFile, chmod, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { CliError, EXIT } from './cli-error.ts';
import { writePrivateFile } from './local/private-files.ts';

const LOOPBACK_NAMES = new Set(['localhost', '127.0.0.1', '[::1]']);
export const isThisMachine = ({ hostname }: URL): boolean => LOOPBACK_NAMES.has(hostname);

/** Any checkout may contain a `.graft/local.json`: it must not decide where keys, prompts and adapters go. */
const LoopbackUrl = z
  .url({ protocol: /^https?$/ })
  .refine((url) => isThisMachine(new URL(url)), 'must be on this machine');

/** `.graft/local.json`, written by `graft dev` when everything is ready and removed when it ends. */
export const LocalFile = z.object({
  url: LoopbackUrl,
  key: z.string().min(1),
  adminKey: z.string().min(1),
  originUrl: LoopbackUrl,
  /** The base model's id, as `model`. */
  base: z.string().min(1),
  /** Ids of all bases, if there are several. */
  bases: z.array(z.string().min(1)).optional(),
});
export type LocalFile = z.infer<typeof LocalFile>;

export const localFilePath = (folder: string): string => path.join(folder, '.graft', 'local.json');

/** Where requests go. Every field may be missing: a command checks the ones it needs. */
export interface Connection {
  url: string | undefined;
  key: string | undefined;
  adminKey: string | undefined;
  originUrl: string | undefined;
  base: string | undefined;
}

/** Normalized: without a trailing slash. */
export const trimUrl = (url: string): string => url.replace(/\/+$/, '');

/**
 * The environment takes precedence over `.graft/local.json`, and that over the credentials file. A key goes
 * only to its server: with GRAFT_URL set the local file is not read, and of the credentials only those of that
 * server; a key of the environment goes to GRAFT_URL or to this machine, never to the server of the last login.
 * @throws CliError when a file has another format, others may read the credentials, or a key has no server.
 */
export async function readConnection(params: {
  env: Record<string, string | undefined>;
  folder: string;
}): Promise<Connection> {
  const { env, folder } = params;
  const { GRAFT_URL, GRAFT_KEY, GRAFT_ADMIN_KEY } = env;
  const local = GRAFT_URL ? null : await readLocalFile(folder);
  const fromEnv = { key: GRAFT_KEY || undefined, adminKey: GRAFT_ADMIN_KEY || undefined };
  if (local !== null) {
    return {
      url: trimUrl(local.url),
      key: fromEnv.key ?? local.key,
      adminKey: fromEnv.adminKey ?? local.adminKey,
      originUrl: local.originUrl,
      base: local.base,
    };
  }
  const homeless = GRAFT_URL ? undefined : nameOfKey(fromEnv);
  if (homeless !== undefined)
    throw new CliError({
      message: `${homeless} is set but GRAFT_URL is not. Set it to the address of the server that the key is for.`,
      exitCode: EXIT.usage,
      code: 'no_server',
    });
  const complete = GRAFT_URL && fromEnv.key !== undefined && fromEnv.adminKey !== undefined;
  const stored = complete ? null : await readCredentials(env);
  const url = GRAFT_URL ? trimUrl(GRAFT_URL) : (stored?.default ?? undefined);
  const keys = url === undefined ? undefined : stored?.servers.get(url);
  return {
    url,
    key: fromEnv.key ?? keys?.key,
    adminKey: fromEnv.adminKey ?? keys?.adminKey,
    originUrl: undefined,
    base: undefined,
  };
}

const nameOfKey = (keys: { key: string | undefined; adminKey: string | undefined }): string | undefined =>
  keys.key !== undefined ? 'GRAFT_KEY' : keys.adminKey !== undefined ? 'GRAFT_ADMIN_KEY' : undefined;

/** @returns null when there is none. */
export async function readLocalFile(folder: string): Promise<LocalFile | null> {
  const file = localFilePath(folder);
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return null;
  try {
    return LocalFile.parse(JSON.parse(text));
  } catch {
    throw new CliError({
      message: `${file} was not written by \`graft dev\`. Remove it and start \`graft dev\` again.`,
      code: 'local_file_invalid',
    });
  }
}

/** @throws CliError that says how to set what is missing. */
export function needUrl(connection: Connection): string {
  if (connection.url !== undefined) return connection.url;
  throw new CliError({
    message: 'No server. Start one here, use `graft login`, or set GRAFT_URL and GRAFT_KEY.',
    exitCode: EXIT.usage,
    code: 'no_server',
    next: 'graft dev',
  });
}

export function needKey(connection: Connection, kind: 'key' | 'adminKey'): string {
  const key = connection[kind];
  if (key !== undefined) return key;
  const [what, variable, flag] =
    kind === 'key' ? ['API', 'GRAFT_KEY', ''] : ['admin', 'GRAFT_ADMIN_KEY', ' --admin'];
  throw new CliError({
    message: `No ${what} key. Log in, or set ${variable}.`,
    exitCode: EXIT.auth,
    code: 'no_key',
    next: `graft login${flag}`,
  });
}

const ServerKeys = z.strictObject({
  key: z.string().min(1).optional(),
  adminKey: z.string().min(1).optional(),
});
type ServerKeys = z.infer<typeof ServerKeys>;

/** Stored keys of servers: `graft login` adds them, `graft logout` removes them. */
const CredentialsFile = z.strictObject({
  /** The default server; one of `servers`. */
  default: z.url().nullable(),
  servers: z.record(z.url(), ServerKeys),
});

interface Credentials {
  default: string | null;
  /** URL without a slash at the end -> its keys. */
  readonly servers: Map<string, ServerKeys>;
}

type Env = Record<string, string | undefined>;

/** Permission bits of group and others, which must not be set. */
const OTHERS = 0o077;
const FOLDER_MODE = 0o700;

/** @returns null when the environment names no home folder. */
export function credentialsPath(env: Env): string | null {
  const home = env['HOME'] || env['USERPROFILE'];
  const config = env['XDG_CONFIG_HOME'] || (home ? path.join(home, '.config') : '');
  return config === '' ? null : path.join(config, 'graft', 'credentials.json');
}

/**
 * @returns empty when there is no file.
 * @throws CliError `credentials_readable` when others may read it (auth), `credentials_invalid` when it is something else.
 */
export async function readCredentials(env: Env): Promise<Credentials> {
  const file = credentialsPath(env);
  const entry = file === null ? null : await stat(file).catch(() => null);
  if (file === null || entry === null) return { default: null, servers: new Map() };
  // Windows has no such bits: a file in the home folder belongs to its owner.
  if (process.platform !== 'win32' && (entry.mode & OTHERS) !== 0)
    throw new CliError({
      message:
        `${file} contains keys, and others may read it. Run \`chmod 600 ${file}\`; if others use this ` +
        'machine, create new keys.',
      exitCode: EXIT.auth,
      code: 'credentials_readable',
    });
  try {
    const parsed = CredentialsFile.parse(JSON.parse(await readFile(file, 'utf8')));
    return { default: parsed.default, servers: new Map(Object.entries(parsed.servers)) };
  } catch {
    throw new CliError({
      message: `${file} was not written by \`graft login\`. Remove it and log in again.`,
      code: 'credentials_invalid',
    });
  }
}

/** Writes the file for its owner only; without servers it is removed. @returns its path. */
export async function writeCredentials(env: Env, credentials: Credentials): Promise<string> {
  const file = credentialsPath(env);
  if (file === null)
    throw new CliError({
      message:
        'No home folder to store keys in. Set HOME or XDG_CONFIG_HOME, or use GRAFT_URL and GRAFT_KEY.',
      code: 'no_home',
    });
  if (credentials.servers.size === 0) {
    await rm(file, { force: true });
    return file;
  }
  const body = { default: credentials.default, servers: Object.fromEntries(credentials.servers) };
  await writePrivateFile(file, `${JSON.stringify(body, null, 2)}\n`);
  // The folder may have existed before, with other permissions.
  await chmod(path.dirname(file), FOLDER_MODE);
  return file;
}
