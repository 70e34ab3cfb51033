/** Keys of servers, kept between commands: `graft login` writes the file, `graft logout` removes from it. */
import { chmod, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { CliError, EXIT } from './cli-error.ts';
import { writePrivateFile } from './local/private-files.ts';

const ServerKeys = z.strictObject({
  key: z.string().min(1).optional(),
  adminKey: z.string().min(1).optional(),
});
export type ServerKeys = z.infer<typeof ServerKeys>;

const CredentialsFile = z.strictObject({
  /** Where requests go when nothing else says so; one of `servers`. */
  default: z.url().nullable(),
  servers: z.record(z.url(), ServerKeys),
});

export interface Credentials {
  default: string | null;
  /** URL without a slash at the end -> its keys. */
  readonly servers: Map<string, ServerKeys>;
}

type Env = Record<string, string | undefined>;

/** Permission bits of group and others: none may be set. */
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
  // Windows keeps no such bits: there a file in the home folder is its owner's.
  if (process.platform !== 'win32' && (entry.mode & OTHERS) !== 0)
    throw new CliError({
      message: `${file} holds keys and others may read it. Run \`chmod 600 ${file}\`; if others use this machine, make new keys.`,
      exitCode: EXIT.auth,
      code: 'credentials_readable',
    });
  try {
    const parsed = CredentialsFile.parse(JSON.parse(await readFile(file, 'utf8')));
    return { default: parsed.default, servers: new Map(Object.entries(parsed.servers)) };
  } catch {
    throw new CliError({
      message: `${file} is not what \`graft login\` writes. Remove it and log in again.`,
      code: 'credentials_invalid',
    });
  }
}

/** Writes the file for its owner alone; without servers there is none. @returns its path. */
export async function writeCredentials(env: Env, credentials: Credentials): Promise<string> {
  const file = credentialsPath(env);
  if (file === null)
    throw new CliError({
      message:
        'There is no home folder to keep keys in: set HOME or XDG_CONFIG_HOME, or use GRAFT_URL and GRAFT_KEY.',
      code: 'no_home',
    });
  if (credentials.servers.size === 0) {
    await rm(file, { force: true });
    return file;
  }
  const body = { default: credentials.default, servers: Object.fromEntries(credentials.servers) };
  await writePrivateFile(file, `${JSON.stringify(body, null, 2)}\n`);
  // The folder may have been there before, with other permissions.
  await chmod(path.dirname(file), FOLDER_MODE);
  return file;
}
