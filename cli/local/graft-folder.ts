/** What `graft dev` keeps in `.graft`: the stack's keys, a lock against parallel starts, the log. */
import { randomBytes } from 'node:crypto';
import { readFile, stat, copyFile, link, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { generateApiKey } from '../../protocol/identity.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { writePrivateFile } from './private-files.ts';
import {
  constants,
  readFileSync,
  rmSync,
  closeSync,
  existsSync,
  fchmodSync,
  fstatSync,
  openSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * `.graft/keys.json`: created once and kept between starts, because keys and manifests in the state depend on
 * them.
 */
const KeysFile = z.object({
  apiKey: z.string().min(1),
  adminKey: z.string().min(1),
  /** Differs between stacks on this machine, which share the cache: an origin removes only its own files. */
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
 * @throws CliError when this command did not write it: a checkout may contain such a file, world-readable from
 * git, and this machine would serve under keys that a stranger knows.
 */
export async function readKeysFile(folder: string): Promise<LocalKeys | null> {
  const file = keysFilePath(folder);
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return null;
  if (process.platform !== 'win32' && ((await stat(file)).mode & OTHERS) !== 0)
    throw new CliError({
      message:
        `${file} contains keys, and others may read it. If \`graft dev\` wrote it, run \`chmod 600 ` +
        `${file}\`; if it came with a download, remove it.`,
      exitCode: EXIT.auth,
      code: 'keys_readable',
    });
  try {
    return KeysFile.parse(JSON.parse(text));
  } catch {
    throw new CliError({
      message: `${file} does not contain valid keys. Remove it and .wrangler/state to start over.`,
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

/** Whether the process that wrote the lock still lives. Its number may have been reused since. */
function holds(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  try {
    return /graft|cli.main/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
  } catch {
    return true; // No /proc here: the number is all there is.
  }
}

/** How long another process may take to replace a dead process's lock. */
const TAKEOVER_MS = 1_000;
const TAKEOVER_POLL_MS = 20;

/** Errors of file systems without hard links (FAT, some network mounts). */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

/** Creates a hard link. @returns false when that name is taken. */
async function nameAlso(file: string, name: string): Promise<boolean> {
  try {
    await link(file, name);
    return true;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (!NO_LINKS.has(code)) throw error;
    return copyFile(file, name, constants.COPYFILE_EXCL).then(
      () => true,
      () => false,
    );
  }
}

const pidIn = async (file: string): Promise<string> => readFile(file, 'utf8').catch(() => '');

/** The lock of `graft dev`, and its error. */
const DEV_LOCK = { name: 'dev.pid', taken: alreadyRunning };

/**
 * One stack per folder: two would write the same databases. The lock appears with its process id in it; of
 * several processes that find a dead one's, only the one that creates the hard link replaces it.
 * @param folder exists. @param lock of another command than `graft dev`: its file, and the error for its holder.
 * @returns a function that releases the lock; synchronous, so that an exit handler may call it.
 * @throws CliError with the other's process id.
 */
export async function takeStartLock(
  folder: string,
  lock: { readonly name: string; readonly taken: (pid: number) => CliError } = DEV_LOCK,
): Promise<() => void> {
  const file = path.join(folder, lock.name);
  const mine = `${file}.${process.pid}`;
  const until = performance.now() + TAKEOVER_MS;
  await writeFile(mine, String(process.pid), { mode: 0o600 });
  try {
    while (!(await nameAlso(mine, file))) {
      const text = await pidIn(file);
      const pid = Number(text);
      if (pid > 0 && holds(pid)) throw lock.taken(pid);
      const dead = `${file}.dead`;
      if (!(await nameAlso(file, dead).catch(isGone))) {
        // The replacing process must have died, if it takes so long.
        if (performance.now() > until) rmSync(dead, { force: true });
        await sleep(TAKEOVER_POLL_MS);
        continue;
      }
      const isStill = (await pidIn(dead)) === text;
      if (isStill) await rename(mine, file);
      rmSync(dead, { force: true });
      if (isStill) break;
    }
  } finally {
    rmSync(mine, { force: true });
  }
  return () => rmSync(file, { force: true });
}

/** It was released in the meantime. */
function isGone(error: unknown): false {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
  throw error;
}

function alreadyRunning(pid: number): CliError {
  return new CliError({
    message: `\`graft dev\` already runs in this folder (process ${pid}). End it with Ctrl-C there first.`,
    code: 'already_running',
  });
}

/** Bytes of one file: days of ordinary work, and searched in a moment. Two files at most. */
const MAX_LOG_BYTES = 10_000_000;
/** UTF-16 units of one line: a stack trace fits, a 64 KB request head need not. */
export const MAX_LINE = 8_192;

interface DevLog {
  /** Appends a line with a timestamp; longer lines are truncated. A line that cannot be written is lost. */
  write(part: string, line: string): void;
  close(): void;
}

/**
 * The log of `graft dev`, for its owner only. When it is full it is renamed to `<file>.1`, replacing the
 * previous one, so that no request can fill the disk.
 * @throws ELOOP as {@link openLog}.
 */
export function openDevLog(file: string, maxBytes = MAX_LOG_BYTES): DevLog {
  let fd: number | null = null;
  let bytes = 0;
  const open = (): number => {
    fd = openLog(file);
    // It may be an older one with wider permissions.
    fchmodSync(fd, 0o600);
    bytes = fstatSync(fd).size;
    return fd;
  };
  const close = (): void => {
    if (fd !== null) closeSync(fd);
    fd = null;
  };
  open();
  return {
    write(part, line) {
      const cut = line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)} …` : line;
      const text = Buffer.from(`${new Date().toISOString()} ${part} ${cut}\n`);
      try {
        if (bytes > 0 && bytes + text.length > maxBytes) {
          close();
          if (existsSync(file)) renameSync(file, `${file}.1`);
        }
        // Written at once: lines buffered in memory would have no bound.
        bytes += writeSync(fd ?? open(), text);
      } catch {
        // A full disk, or a link instead of the log: the stack continues without it.
      }
    },
    close,
  };
}

/**
 * Opens a log for appending, for its owner only.
 * @returns the file descriptor. @throws ELOOP if it is a link, which a checkout can contain: its target is not
 * ours to write.
 */
export const openLog = (file: string): number =>
  openSync(
    file,
    // Windows has no such flag.
    constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | (constants.O_NOFOLLOW ?? 0),
    0o600,
  );
