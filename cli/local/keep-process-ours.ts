/**
 * Undoes what Miniflare and wrangler do to the process that they run in: signal handlers, servers, waits, and
 * an orphaned workerd.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { type ChildProcess, spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import http from 'node:http';
import path from 'node:path';

/** Signals that end `graft dev`. */
export const ENDING_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs `work` and removes the listeners for ending signals that it installed. wrangler (on import) and
 * Miniflare (on start) install some that call `process.exit` at once, so that our own orderly shutdown would
 * never run.
 */
export async function keepSignalsOurs<T>(work: () => T | Promise<T>): Promise<T> {
  const before = ENDING_SIGNALS.map((signal) => new Set(process.listeners(signal)));
  try {
    return await work();
  } finally {
    for (const [index, signal] of ENDING_SIGNALS.entries())
      for (const listener of process.listeners(signal))
        if (!before[index]?.has(listener)) process.off(signal, listener);
  }
}

let steady = false;

/**
 * Miniflare's synchronous calls (`prepare`, `bind` of its D1) wait for another thread, which sets a flag and then
 * notifies. On a busy machine that thread is stopped in between: the notification comes to the next call, which wakes
 * with the flag unset, finds no answer and fails with `false == true`, and so does every call after it (seen in
 * miniflare 4.20260426.0, `SynchronousFetcher.fetch`). From this call on `Atomics.wait` goes on waiting until the value
 * has changed; what a caller gives as its time-out begins anew with each notification that changed nothing.
 */
export function waitForChange(): void {
  if (steady) return;
  steady = true;
  const wait = Atomics.wait.bind(Atomics);
  Atomics.wait = ((array: Int32Array, index: number, value: number, timeout?: number) => {
    for (let early = false; ; early = true) {
      const woken = wait(array, index, value, timeout);
      // It changed after a premature notification, before the next wait.
      if (woken === 'not-equal' && early) return 'ok';
      if (woken !== 'ok' || Atomics.load(array, index) !== value) return woken;
    }
  }) as typeof Atomics.wait;
}

/** The servers that the running `work` has created. */
const scope = new AsyncLocalStorage<http.Server[]>();
let listening = false;

/** Replaces `http.createServer`, once: only calls from within a scope get another one. */
function takeOver(): void {
  if (listening) return;
  listening = true;
  const createServer = http.createServer.bind(http) as (...args: unknown[]) => http.Server;
  http.createServer = ((...args: unknown[]) => {
    const server = createServer(...args);
    const servers = scope.getStore();
    if (servers === undefined) return server;
    servers.push(server);
    // Without node's own listener nothing of a connection is ever read.
    server.removeAllListeners('connection');
    return server.on('connection', (socket) => socket.destroy());
  }) as typeof http.createServer;
}

/**
 * Runs `work` so that the HTTP servers it makes, at once or later, hang up on everybody.
 *
 * Miniflare opens one on loopback, in this process, for its workers to reach it: it writes files of any name
 * (`/core/store-temp-file`), starts a browser, deletes state, and asks nobody who they are (seen in 4.20260426.0). A page
 * in a browser can send it such requests, and so can every user of the machine. Our workers need none of it: it would
 * bring logs of what they do not use, and where it cannot be reached, failures of the stores go to workerd's own log.
 *
 * @returns what `work` returned, and the servers, more of which may come.
 */
export function hangUpOn<T>(work: () => T): { made: T; servers: readonly http.Server[] } {
  takeOver();
  const servers: http.Server[] = [];
  return { made: scope.run(servers, work), servers };
}

/** Node reports every child process here (since 16.18), before it has an id. */
const CHANNEL = 'child_process';

interface Workerd {
  process: ChildProcess;
  /** It is to be ended in order, and not with us. */
  letGo: () => void;
}

/**
 * Finds the workerd that Miniflare starts but does not expose; from its first moment on it ends with us.
 * @returns what stops listening and returns the process.
 */
export function listenForWorkerd(): () => Workerd | null {
  let found: Workerd | null = null;
  const hear = (message: unknown) => {
    const { process: child } = message as { process: ChildProcess };
    child.once('spawn', () => {
      if (!path.basename(child.spawnfile).startsWith('workerd')) return;
      found = { process: child, letGo: endWithUs(child) };
      // Its number may soon be reused.
      child.once('exit', found.letGo);
    });
  };
  subscribe(CHANNEL, hear);
  return () => {
    unsubscribe(CHANNEL, hear);
    return found;
  };
}

/**
 * workerd does not notice that its parent is gone. When we are killed (kill -9), the pipe to this shell closes
 * and the shell kills workerd, so that it does not hold its port. It is out of reach of Ctrl-C, which is
 * handled here.
 * @returns a function that dismisses the shell.
 */
function endWithUs(child: ChildProcess): () => void {
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
