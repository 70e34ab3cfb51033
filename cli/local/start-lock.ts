import { constants, readFileSync, rmSync } from 'node:fs';
import { copyFile, link, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CliError } from '../cli-error.ts';

/** Whether the process that wrote the lock still lives. A number may have been given to another program since. */
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

/** How long somebody may take to put his lock in the place of a dead one's. */
const TAKEOVER_MS = 1_000;
const TAKEOVER_POLL_MS = 20;

/** Of file systems that have no second names for a file (FAT, some that are mounted from elsewhere). */
const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']);

/** Gives a file a second name. @returns false when that name is taken. */
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

/**
 * One stack a folder: two would write the same databases. The lock appears with its process id in it, and of several
 * that find a dead one's, one alone replaces it: who has given it the second name.
 * @param graftFolder is there.
 * @returns what gives the lock back; synchronous, so that an exit handler may call it.
 * @throws CliError with the other's process id.
 */
export async function takeStartLock(graftFolder: string): Promise<() => void> {
  const file = path.join(graftFolder, 'dev.pid');
  const mine = `${file}.${process.pid}`;
  const until = performance.now() + TAKEOVER_MS;
  await writeFile(mine, String(process.pid), { mode: 0o600 });
  try {
    while (!(await nameAlso(mine, file))) {
      const text = await pidIn(file);
      const pid = Number(text);
      if (pid > 0 && holds(pid)) throw alreadyRunning(pid);
      const dead = `${file}.dead`;
      if (!(await nameAlso(file, dead).catch(isGone))) {
        // Who replaces it died on the way, if it takes so long.
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

/** It was given back meanwhile. */
function isGone(error: unknown): false {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
  throw error;
}

const alreadyRunning = (pid: number): CliError =>
  new CliError({
    message: `\`graft dev\` is already running in this folder (process ${pid}); end it with Ctrl-C there first.`,
    code: 'already_running',
  });
