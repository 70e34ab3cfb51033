import { once } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { serve } from '@hono/node-server';

/** How many connections there may be, and for how long one that does nothing stays; see limits.ts. */
export interface ConnectionLimits {
  /** Open at once; the rest of the server's own limit is where a new one stands until another is closed for it. */
  held: number;
  /** … of them those of one address that have not proved themselves. */
  unprovedOfAddress: number;
  /** Between two requests of one that has proved itself, ms. */
  keepAliveMs: number;
  /** … and of one that has not, ms. */
  unprovedKeepAliveMs: number;
}

/** What handlers know of a request's connection. */
export interface ConnectionEnv {
  incoming?: { url?: string | undefined; socket?: { remoteAddress?: string | undefined } };
  /** The request's connection is one of the edge's, whose signature was good. */
  proved?: () => void;
}

interface Unproved {
  readonly address: string;
  /** Requests under way. */
  busy: number;
}

/**
 * Who may hold a connection. One on which a request came that only the edge can send (its signature was good) has
 * proved itself, stays long and is never closed for another. All others are strangers': they are kept for a moment only,
 * a bounded number of them for an address, and the oldest is closed when there is no room for a new one, so that no
 * number of them keeps the edge out. All callers may come from one address (a proxy or tunnel on this machine): a new
 * connection is therefore never the one that is refused.
 */
export class Connections {
  readonly #limits: ConnectionLimits;
  /** Oldest first. */
  readonly #unproved = new Map<Socket, Unproved>();
  readonly #perAddress = new Map<string, number>();
  #open = 0;
  /** Answers that are not sent to their last byte. */
  #answering = 0;
  #sent: (() => void)[] = [];

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  /** Open ones, and those among them that have not proved themselves. */
  get counts(): { open: number; unproved: number } {
    return { open: this.#open, unproved: this.#unproved.size };
  }

  /** The server's `connection`. */
  readonly opened = (socket: Socket): void => {
    const address = socket.remoteAddress ?? '';
    this.#open += 1;
    socket.once('close', () => {
      this.#open -= 1;
      this.#forget(socket);
    });
    const ofAddress = this.#perAddress.get(address) ?? 0;
    if (ofAddress >= this.#limits.unprovedOfAddress) this.#closeOldest(address);
    else if (this.#open > this.#limits.held) this.#closeOldest(null);
    this.#unproved.set(socket, { address, busy: 0 });
    this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1);
  };

  /** The server's `request`; to be called before anybody answers it. */
  readonly requested = (request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request;
    this.#answering += 1;
    response.once('close', () => {
      this.#answering -= 1;
      if (this.#answering === 0) for (const resolve of this.#sent.splice(0)) resolve();
    });
    const unproved = this.#unproved.get(socket);
    if (unproved === undefined) return;
    unproved.busy += 1;
    // Node has just set its own time, which is the long one.
    response.once('finish', () => {
      if (this.#unproved.has(socket)) socket.setTimeout(this.#limits.unprovedKeepAliveMs);
    });
    response.once('close', () => (unproved.busy -= 1));
  };

  /** Resolves when no answer is being sent: Node closes a connection as idle before what was written has gone out. */
  whenSent(): Promise<void> {
    return this.#answering === 0 ? Promise.resolve() : new Promise((resolve) => this.#sent.push(resolve));
  }

  /** A request on it was one that only the edge can send. */
  prove(socket: Socket): void {
    this.#forget(socket);
  }

  #forget(socket: Socket): void {
    const unproved = this.#unproved.get(socket);
    if (unproved === undefined) return;
    this.#unproved.delete(socket);
    const left = (this.#perAddress.get(unproved.address) ?? 1) - 1;
    if (left === 0) this.#perAddress.delete(unproved.address);
    else this.#perAddress.set(unproved.address, left);
  }

  /** One without a request under way if there is one: a signature may just be looked at. @param address null = any. */
  #closeOldest(address: string | null): void {
    let oldest: Socket | null = null;
    for (const [socket, unproved] of this.#unproved) {
      if (address !== null && unproved.address !== address) continue;
      oldest ??= socket;
      if (unproved.busy > 0) continue;
      oldest = socket;
      break;
    }
    if (oldest === null) return;
    this.#forget(oldest);
    oldest.destroy();
  }
}

/** Time that a client has to send its headers, ms. */
const HEADERS_TIMEOUT_MS = 10_000;
/** … and a whole request; a 24 MiB part at 1 Mbit/s takes 200 s. */
const REQUEST_TIMEOUT_MS = 300_000;
/**
 * An idle connection of the edge is kept for longer than a proxy in front keeps it (cloudflared: 90 s): a request on one
 * that Node is closing just then (after 5 s, unless told otherwise) would fail.
 */
const KEEP_ALIVE_TIMEOUT_MS = 95_000;
/** One on which nobody has shown a good signature yet, such as a health check's, is kept for a moment only. */
const UNPROVED_KEEP_ALIVE_MS = 5_000;
/** How often connections are looked at for these two; Node's own 30 s would treble the first. */
const CHECK_MS = 5_000;
const MAX_HEADER_BYTES = 16 * 1024;
/** Far above slots plus queue, far below what file descriptors allow. */
const MAX_CONNECTIONS = 4_096;
/** Connections that the kernel hands over in one go (Node's backlog). */
const BACKLOG = 511;
/** So many can arrive before the first of those that are closed for them has gone. */
const SPARE_CONNECTIONS = BACKLOG + 1;
/** Two turns' worth: a connection whose head has come with it is read before so many newer ones can push it out. */
const MAX_UNPROVED_OF_ADDRESS = 2 * BACKLOG;
/** Of the origin; others are for tests. */
export const CONNECTION_LIMITS: ConnectionLimits = {
  held: MAX_CONNECTIONS - SPARE_CONNECTIONS,
  unprovedOfAddress: MAX_UNPROVED_OF_ADDRESS,
  keepAliveMs: KEEP_ALIVE_TIMEOUT_MS,
  unprovedKeepAliveMs: UNPROVED_KEEP_ALIVE_MS,
};

/** The address cannot be listened on; the message is for the operator. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
}

interface Listening {
  url: string;
  server: Server;
  connections: Connections;
}

/** @throws ListenError */
export async function listen(params: {
  app: { fetch(request: Request, env: ConnectionEnv): Response | Promise<Response> };
  host: string;
  port: number;
  /** {@link CONNECTION_LIMITS} unless given. */
  limits?: ConnectionLimits;
}): Promise<Listening> {
  const { app, host, port, limits = CONNECTION_LIMITS } = params;
  const connections = new Connections(limits);
  const server = serve({
    fetch: (request, env) => {
      const { incoming } = env as { incoming: IncomingMessage };
      return app.fetch(request, { incoming, proved: () => connections.prove(incoming.socket) });
    },
    hostname: host,
    port,
    // The response classes of Node itself are what other code in this process expects.
    overrideGlobalObjects: false,
    serverOptions: {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: limits.keepAliveMs,
      connectionsCheckingInterval: CHECK_MS,
    },
  }) as Server;
  server.maxConnections = limits.held + SPARE_CONNECTIONS;
  server.on('connection', connections.opened);
  server.on('request', connections.requested);
  try {
    if (!server.listening) await once(server, 'listening');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new ListenError(
      code === 'EADDRINUSE'
        ? `port ${port} on ${host} is taken. Choose another with --port`
        : `cannot listen on ${host}:${port}: ${message}`,
    );
  }
  const { port: actual } = server.address() as AddressInfo;
  return { url: `http://${host.includes(':') ? `[${host}]` : host}:${actual}`, server, connections };
}

type ServingState = 'loading' | 'ready' | 'draining';

/** Where the origin is between its start and its end, and how many requests it is answering. */
export class Serving {
  private current: ServingState = 'loading';
  private refusing = false;
  private active = 0;
  private idle: (() => void)[] = [];

  get state(): ServingState {
    return this.current;
  }

  /** New requests are refused: nothing is loaded yet, or the end is near. */
  get refuses(): boolean {
    return this.current === 'loading' || this.refusing;
  }

  get inFlight(): number {
    return this.active;
  }

  ready(): void {
    if (this.current === 'loading') this.current = 'ready';
  }

  /** Not ready any more, but still serving: whoever balances the load needs a moment to notice. */
  drain(): void {
    this.current = 'draining';
  }

  refuse(): void {
    this.refusing = true;
  }

  /** @returns a function to call once, when the request has been answered to its last byte. */
  enter(): () => void {
    this.active += 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.active -= 1;
      if (this.active === 0) for (const resolve of this.idle.splice(0)) resolve();
    };
  }

  /** Resolves when no request is being answered. */
  whenIdle(): Promise<void> {
    return this.active === 0 ? Promise.resolve() : new Promise((resolve) => this.idle.push(resolve));
  }
}

/** How long streams may go on after SIGTERM. Orchestrators commonly kill after 60 s. */
export const DRAIN_MS = 55_000;
const LAST_WORDS_MS = 1_000;

/**
 * Ends the origin without cutting anybody off if it can be helped: not ready any more, but serving for `graceMs` so
 * that balancers notice; then new requests get 503; running ones may finish until 55 s after the beginning; the rest
 * is aborted (streams end with an error event). Who reads an answer slowly has as long.
 * @param abortAll ends every running request.
 * @param sleep injected, ms.
 */
export async function drain(params: {
  serving: Serving;
  server: Server;
  connections: Pick<Connections, 'whenSent'>;
  graceMs: number;
  abortAll: () => Promise<void>;
  sleep: (ms: number) => Promise<void>;
}): Promise<void> {
  const { serving, server, connections, graceMs, abortAll, sleep } = params;
  serving.drain();
  if (graceMs > 0) await sleep(graceMs);
  serving.refuse();
  const end = sleep(DRAIN_MS - graceMs);
  await Promise.race([serving.whenIdle().then(() => connections.whenSent()), end]);
  await abortAll();
  // Aborted streams still have their last event to write.
  await Promise.race([serving.whenIdle().then(() => connections.whenSent()), sleep(LAST_WORDS_MS)]);
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  await Promise.race([closed, sleep(LAST_WORDS_MS)]);
  server.closeAllConnections();
}
