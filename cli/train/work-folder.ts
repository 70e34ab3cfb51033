/** Where one training keeps its checkpoint and its adapter: a folder of the cache that only its owner may read. */
import { existsSync } from 'node:fs';
import { readdir, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { CHECKPOINT_FILE } from '../../protocol/training.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { bytesSha256 } from '../local/find-base.ts';
import { takeStartLock } from '../local/graft-folder.ts';
import { makePrivateFolder } from '../local/private-files.ts';

const LOCK = 'train.pid';
/** Hex digits of a folder's name. */
const NAME_LENGTH = 24;

export interface WorkFolder {
  readonly path: string;
  /** Whether there is something to continue from. */
  hasCheckpoint(): boolean;
  /** Lets the next command in. @param keep its files; otherwise it is removed. */
  close(keep: boolean): Promise<void>;
}

/**
 * @param params.cache see `cacheFolder`. @param params.key all that makes it this training and no other, as JSON.
 * @param params.again the same command with a flag, for errors.
 * @throws CliError `already_running`, `checkpoint_exists` (usage), `no_checkpoint` (usage)
 */
export async function openWorkFolder(params: {
  cache: string;
  key: unknown;
  start: 'new' | 'resume' | 'restart' | 'either';
  again: (flag: '' | '--resume' | '--restart') => string;
}): Promise<WorkFolder> {
  const { cache, key, start, again } = params;
  const parent = path.join(cache, 'training');
  await makePrivateFolder(parent);
  const folder = path.join(parent, bytesSha256(JSON.stringify(key)).slice(0, NAME_LENGTH));
  await makePrivateFolder(folder);
  const release = await takeStartLock(folder, { name: LOCK, taken: alreadyTraining });
  const hasCheckpoint = (): boolean => existsSync(path.join(folder, CHECKPOINT_FILE));
  const close = async (keep: boolean): Promise<void> => {
    if (!keep) await empty(folder);
    release();
    // Kept, or taken by another command meanwhile.
    if (!keep) await rmdir(folder).catch(() => undefined);
  };
  try {
    if (start === 'restart') await empty(folder);
    if (start === 'new' && hasCheckpoint())
      throw new CliError({
        message:
          `An earlier run of this training left a checkpoint. Continue it with \`${again('--resume')}\`, ` +
          `or start over with \`${again('--restart')}\`.`,
        exitCode: EXIT.usage,
        code: 'checkpoint_exists',
      });
    if (start === 'resume' && !hasCheckpoint())
      throw new CliError({
        message:
          'There is no checkpoint of a training with these rows, this name, base and parent, and these ' +
          `settings. Start it with \`${again('')}\`.`,
        exitCode: EXIT.usage,
        code: 'no_checkpoint',
      });
  } catch (error) {
    await close(hasCheckpoint());
    throw error;
  }
  return { path: folder, hasCheckpoint, close };
}

async function empty(folder: string): Promise<void> {
  for (const name of await readdir(folder))
    if (name !== LOCK) await rm(path.join(folder, name), { recursive: true, force: true });
}

const alreadyTraining = (pid: number): CliError =>
  new CliError({
    message: `This training already runs (process ${pid}). End it with Ctrl-C there first.`,
    code: 'already_running',
  });
