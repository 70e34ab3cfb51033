import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { CliError, EXIT } from './cli-error.ts';

/** `.graft/local.json`, written by `graft dev` when everything is ready and removed when it ends. */
export const LocalFile = z.object({
  url: z.url(),
  key: z.string().min(1),
  adminKey: z.string().min(1),
  originUrl: z.url(),
  /** The base model's id, as `model`. */
  base: z.string().min(1),
});
export type LocalFile = z.infer<typeof LocalFile>;

export const localFilePath = (folder: string): string => path.join(folder, '.graft', 'local.json');

/** Where requests go. Every field may be missing: a command asks for those that it needs. */
export interface Connection {
  url: string | undefined;
  key: string | undefined;
  adminKey: string | undefined;
  originUrl: string | undefined;
  base: string | undefined;
}

/**
 * The environment wins over `.graft/local.json`. With GRAFT_URL set the file is not read at all: its keys belong to
 * another server.
 * @throws CliError when the file exists and is not what `graft dev` writes.
 */
export async function readConnection(params: {
  env: Record<string, string | undefined>;
  folder: string;
}): Promise<Connection> {
  const { GRAFT_URL, GRAFT_KEY, GRAFT_ADMIN_KEY } = params.env;
  const local = GRAFT_URL ? null : await readLocalFile(params.folder);
  return {
    url: (GRAFT_URL || local?.url)?.replace(/\/+$/, ''),
    key: GRAFT_KEY || local?.key,
    adminKey: GRAFT_ADMIN_KEY || local?.adminKey,
    originUrl: local?.originUrl,
    base: local?.base,
  };
}

/** @returns null when there is none. */
export async function readLocalFile(folder: string): Promise<LocalFile | null> {
  const file = localFilePath(folder);
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return null;
  try {
    return LocalFile.parse(JSON.parse(text));
  } catch {
    throw new CliError({
      message: `${file} is not what \`graft dev\` writes; remove it and start \`graft dev\` again.`,
      code: 'local_file_invalid',
    });
  }
}

/** @throws CliError that says how to set what is missing. */
export function needUrl(connection: Connection): string {
  if (connection.url !== undefined) return connection.url;
  throw new CliError({
    message: 'No server: start one here with `graft dev`, or set GRAFT_URL and GRAFT_KEY.',
    exitCode: EXIT.usage,
    code: 'no_server',
  });
}

export function needKey(connection: Connection, kind: 'key' | 'adminKey'): string {
  const key = connection[kind];
  if (key !== undefined) return key;
  throw new CliError({
    message: `No ${kind === 'key' ? 'API' : 'admin'} key: set ${kind === 'key' ? 'GRAFT_KEY' : 'GRAFT_ADMIN_KEY'}.`,
    exitCode: EXIT.auth,
    code: 'no_key',
  });
}
