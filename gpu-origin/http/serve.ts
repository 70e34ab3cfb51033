import { once } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { serve } from '@hono/node-server';

/** Maximum connections, and how long idle ones stay open; see limits.ts. */
export interface ConnectionLimits {
  /** Open at once; the rest of the server's own limit lets a new one wait until another is closed for it. */
  held: number;
  /** … of which unproved ones from one address. */
  unprovedOfAddress: number;
  /** Between two requests of a proved connection, ms. */
  keepAliveMs: number;
  /** … and of an unproved one, ms. */
  unprovedKeepAliveMs: number;
}

/** What handlers need of a request's connection. */
export interface ConnectionEnv {
  incoming?: { url?: string | undefined; socket?: { remoteAddress?: string | undefined } };
  /** Marks the connection as the edge's: a signature was valid. */
  proved?: () => void;
}

interface Unproved {
  readonly address: string;
  /** Running requests. */
  busy: number;
}

/**
 * Decides who may hold a connection. A connection with a validly signed request has proved itself: it is the
 * edge's, stays open long and is never closed for another. All others are unproved: they stay open briefly,
 * their number is bounded per address, and the oldest is closed if there is no space for a new one, so no
 * number of them keeps the edge out. All callers may share one address (a local proxy or tunnel), so a new
 * connection is never the one to be refused.
 */
export class Connections {
  readonly #limits: ConnectionLimits;
  /** Oldest first. */
  readonly #unproved = new Map<Socket, Unproved>();
  readonly #perAddress = new Map<string, number>();
  #open = 0;
  /** Responses that are not completely sent. */
  #answering = 0;
  #sent: (() => void)[] = [];

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  /** All open connections, and the unproved ones. */
  get counts(): { open: number; unproved: number } {
    return { open: this.#open, unproved: this.#unproved.size };
  }

  /** Handler of the server's `connection`. */
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

  /** Handler of the server's `request`; must run before any response. */
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
    // Node has just set its own timeout, which is the long one.
    response.once('finish', () => {
      if (this.#unproved.has(socket)) socket.setTimeout(this.#limits.unprovedKeepAliveMs);
    });
    response.once('close', () => (unproved.busy -= 1));
  };

  /** Resolves when all responses are sent: Node may close a connection as idle before that. */
  whenSent(): Promise<void> {
    return this.#answering === 0 ? Promise.resolve() : new Promise((resolve) => this.#sent.push(resolve));
  }

  /** A request on it had a valid signature. */
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

  /**
   * Prefers one without a running request: a signature may be being verified.
   * @param address null = any.
   */
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

/** Time for a client to send its headers, ms. */
const HEADERS_TIMEOUT_MS = 10_000;
/** … and a whole request; a 24 MiB part at 1 Mbit/s takes 200 s. */
const REQUEST_TIMEOUT_MS = 300_000;
/**
 * The edge's idle connections stay open longer than a proxy in front keeps them (cloudflared: 90 s): a
 * request fails if Node closes its connection at that moment (by default after 5 s).
 */
const KEEP_ALIVE_TIMEOUT_MS = 95_000;
/** Connections without a valid signature so far, such as a health check's, stay open only briefly. */
const UNPROVED_KEEP_ALIVE_MS = 5_000;
/** How often connections are checked for these timeouts; Node's default of 30 s would triple the first. */
const CHECK_MS = 5_000;
const MAX_HEADER_BYTES = 16 * 1024;
/** Far more than slots plus queue, far fewer than file descriptors allow. */
const MAX_CONNECTIONS = 4_096;
/** Connections that the kernel delivers at once (Node's backlog). */
const BACKLOG = 511;
/** As many can arrive before the first one that is closed for them has gone. */
const SPARE_CONNECTIONS = BACKLOG + 1;
/**
 * Two turns' worth: a connection whose headers arrive with it is read before that many newer ones can
 * displace it.
 */
const MAX_UNPROVED_OF_ADDRESS = 2 * BACKLOG;
/** An origin's limits; tests use others. */
export const CONNECTION_LIMITS: ConnectionLimits = {
  held: MAX_CONNECTIONS - SPARE_CONNECTIONS,
  unprovedOfAddress: MAX_UNPROVED_OF_ADDRESS,
  keepAliveMs: KEEP_ALIVE_TIMEOUT_MS,
  unprovedKeepAliveMs: UNPROVED_KEEP_ALIVE_MS,
};

/** Cannot listen on the address; the message is for the operator. */
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
  /** Default {@link CONNECTION_LIMITS}. */
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
    // Other code in this process expects Node's own response classes.
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

/** The origin's state between start and end, and its number of running requests. */
export class Serving {
  private current: ServingState = 'loading';
  private refusing = false;
  private active = 0;
  private idle: (() => void)[] = [];

  get state(): ServingState {
    return this.current;
  }

  /** New requests are refused: nothing is loaded yet, or it is about to end. */
  get refuses(): boolean {
    return this.current === 'loading' || this.refusing;
  }

  get inFlight(): number {
    return this.active;
  }

  ready(): void {
    if (this.current === 'loading') this.current = 'ready';
  }

  /** No longer ready, but still serving: load balancers take a moment to notice. */
  drain(): void {
    this.current = 'draining';
  }

  refuse(): void {
    this.refusing = true;
  }

  /** @returns a function to call once, when the response is completely sent. */
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

  /** Resolves when no request is running. */
  whenIdle(): Promise<void> {
    return this.active === 0 ? Promise.resolve() : new Promise((resolve) => this.idle.push(resolve));
  }
}

/** How long streams may continue after SIGTERM. Orchestrators usually kill after 60 s. */
export const DRAIN_MS = 55_000;
const LAST_WORDS_MS = 1_000;

/**
 * Shuts the origin down with as few interruptions as possible. It becomes unready, but serves for `graceMs`
 * so that balancers notice; then new requests get 503. Running ones may finish until 55 s after the start,
 * also if clients read slowly; the rest is aborted (streams end with an error event).
 * @param abortAll aborts every running request.
 * @param sleep injected, ms.
 */
export async function drain(params: {
  serving: Serving;
  server: Pick<Server, 'closeIdleConnections' | 'closeAllConnections'> & {
    close(closed: () => void): unknown;
  };
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
  // Aborted streams still have to write their last event.
  await Promise.race([serving.whenIdle().then(() => connections.whenSent()), sleep(LAST_WORDS_MS)]);
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  await Promise.race([closed, sleep(LAST_WORDS_MS)]);
  server.closeAllConnections();
}
