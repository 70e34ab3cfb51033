import { spawn, type ChildProcess } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import path from 'node:path';

/** Node tells of every child process here (since 16.18), before it has an id. */
const CHANNEL = 'child_process';

/**
 * Listens for the workerd that Miniflare starts: it gives nobody the process.
 * @returns what ends the listening and says which process it is.
 */
export function listenForWorkerd(): () => ChildProcess | null {
  const children: ChildProcess[] = [];
  const hear = (message: unknown) => {
    children.push((message as { process: ChildProcess }).process);
  };
  subscribe(CHANNEL, hear);
  return () => {
    unsubscribe(CHANNEL, hear);
    return children.find((child) => path.basename(child.spawnfile).startsWith('workerd')) ?? null;
  };
}

/**
 * workerd does not notice that its parent is gone. When we are killed without a chance to end it (kill -9), the pipe to
 * this shell closes and the shell kills it, so that it does not hold its port. Out of reach of Ctrl-C, which is ours.
 * @returns what calls the shell off.
 */
export function endWithUs(child: ChildProcess): () => void {
  if (child.pid === undefined || process.platform === 'win32') return () => undefined;
  const guard = spawn('/bin/sh', ['-c', 'read -r _; kill -9 "$0"', String(child.pid)], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  guard.on('error', () => undefined);
  guard.stdin?.on('error', () => undefined);
  guard.unref();
  return () => {
    guard.kill('SIGKILL');
  };
}
