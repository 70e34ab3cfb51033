import { once } from 'node:events';
import type { IncomingMessage, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import type { Hono } from 'hono';
import { Connections, type ConnectionLimits } from './connections.ts';
import type { OriginEnv } from './origin-context.ts';

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

export interface Listening {
  url: string;
  server: Server;
  connections: Connections;
}

/** @throws ListenError */
export async function listen(params: {
  app: Hono<OriginEnv>;
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
        ? `port ${port} on ${host} is taken; choose another with --port`
        : `cannot listen on ${host}:${port}: ${message}`,
    );
  }
  const { port: actual } = server.address() as AddressInfo;
  return { url: `http://${host.includes(':') ? `[${host}]` : host}:${actual}`, server, connections };
}
