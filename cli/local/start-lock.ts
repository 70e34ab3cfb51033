import { readFileSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
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

/**
 * One stack a folder: two would write the same databases.
 * @param graftFolder is there.
 * @returns what gives the lock back; synchronous, so that an exit handler may call it.
 * @throws CliError with the other's process id.
 */
export async function takeStartLock(graftFolder: string): Promise<() => void> {
  const file = path.join(graftFolder, 'dev.pid');
  for (let attempt = 0; ; attempt++) {
    try {
      await writeFile(file, String(process.pid), { flag: 'wx', mode: 0o600 });
      return () => rmSync(file, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const pid = Number(await readFile(file, 'utf8').catch(() => '0'));
      if (attempt > 0 || (pid > 0 && holds(pid))) {
        throw new CliError({
          message: `\`graft dev\` is already running in this folder (process ${pid}); end it with Ctrl-C there first.`,
          code: 'already_running',
        });
      }
      rmSync(file, { force: true });
    }
  }
}
