import { AsyncLocalStorage } from 'node:async_hooks';
import http from 'node:http';

/** The servers that the running `work` has made. */
const scope = new AsyncLocalStorage<http.Server[]>();
let listening = false;

/** Takes `http.createServer` over, once: only what is called from within a scope finds another one. */
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
