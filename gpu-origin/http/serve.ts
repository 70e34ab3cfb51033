import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import type { Hono } from 'hono';
import type { OriginEnv } from './origin-context.ts';

/** Time that a client has to send its headers, ms. */
const HEADERS_TIMEOUT_MS = 10_000;
/** … and a whole request; a 24 MiB part at 1 Mbit/s takes 200 s. */
const REQUEST_TIMEOUT_MS = 300_000;
/**
 * An idle connection is kept for longer than a proxy in front keeps it (cloudflared: 90 s): a request on one that Node is
 * closing just then (after 5 s, unless told otherwise) would fail.
 */
const KEEP_ALIVE_TIMEOUT_MS = 95_000;
/** How often connections are looked at for these two; Node's own 30 s would treble the first. */
const CHECK_MS = 5_000;
const MAX_HEADER_BYTES = 16 * 1024;
/** Far above slots plus queue, far below what file descriptors allow. */
const MAX_CONNECTIONS = 4_096;

/** The address cannot be listened on; the message is for the operator. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
}

export interface Listening {
  url: string;
  server: Server;
}

/** @throws ListenError */
export async function listen(params: {
  app: Hono<OriginEnv>;
  host: string;
  port: number;
}): Promise<Listening> {
  const { app, host, port } = params;
  const server = serve({
    fetch: app.fetch,
    hostname: host,
    port,
    // The response classes of Node itself are what other code in this process expects.
    overrideGlobalObjects: false,
    serverOptions: {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_MS,
    },
  }) as Server;
  server.maxConnections = MAX_CONNECTIONS;
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
  return { url: `http://${host.includes(':') ? `[${host}]` : host}:${actual}`, server };
}
