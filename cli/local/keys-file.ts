import { randomBytes } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { generateApiKey } from '../../protocol/index.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { writePrivateFile } from './private-files.ts';

/** `.graft/keys.json`: made once, kept between starts, because keys and manifests in the state depend on them. */
const KeysFile = z.object({
  apiKey: z.string().min(1),
  adminKey: z.string().min(1),
  /** Unlike that of other stacks on this machine, which share the cache: an origin removes files of its own only. */
  originId: z.string().min(1),
  /** `kid:base64`, as GRAFT_ORIGIN_KEYS. */
  originKeys: z.string().min(1),
  /** The worker's secret for the MACs of what it keeps in KV. */
  macSecret: z.string().min(1),
});
export type LocalKeys = z.infer<typeof KeysFile>;

/** Bytes of a signing secret: as many as SHA-256's output, beyond which HMAC gains nothing. */
const SECRET_BYTES = 32;
const ID_BYTES = 4;
const secret = (): string => randomBytes(SECRET_BYTES).toString('base64');

export const keysFilePath = (folder: string): string => path.join(folder, '.graft', 'keys.json');

/** Permission bits of group and others. */
const OTHERS = 0o077;

/**
 * @returns null when there is none.
 * @throws CliError when it is not what this wrote: a checkout that brings such a file, which git writes for all to
 * read, would have this machine serve under keys that a stranger knows.
 */
export async function readKeysFile(folder: string): Promise<LocalKeys | null> {
  const file = keysFilePath(folder);
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return null;
  if (process.platform !== 'win32' && ((await stat(file)).mode & OTHERS) !== 0)
    throw new CliError({
      message: `${file} holds keys and others may read it. If \`graft dev\` wrote it, run \`chmod 600 ${file}\`; if it came with a download, remove it.`,
      exitCode: EXIT.auth,
      code: 'keys_readable',
    });
  try {
    return KeysFile.parse(JSON.parse(text));
  } catch {
    throw new CliError({
      message: `${file} cannot be read as keys. Remove it together with .wrangler/state to begin anew.`,
      code: 'keys_file_invalid',
    });
  }
}

export async function ensureKeysFile(folder: string): Promise<LocalKeys> {
  const existing = await readKeysFile(folder);
  if (existing !== null) return existing;
  const keys: LocalKeys = {
    apiKey: generateApiKey('gk'),
    adminKey: generateApiKey('ga'),
    originId: `local-${randomBytes(ID_BYTES).toString('hex')}`,
    originKeys: `local-1:${secret()}`,
    macSecret: secret(),
  };
  await writePrivateFile(keysFilePath(folder), `${JSON.stringify(keys, null, 2)}\n`);
  return keys;
}
