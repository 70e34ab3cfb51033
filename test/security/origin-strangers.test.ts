/** Connections that strangers hold, against those of the edge. */
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { CONNECTION_LIMITS } from '../../gpu-origin/http/serve.ts';
import { sign } from '../../protocol/signature.ts';
import { KEY, ORIGIN_ID, sha256, startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';

const HEALTH = 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n';
const FEW = { held: 40, unprovedOfAddress: 20, keepAliveMs: 95_000, unprovedKeepAliveMs: 60_000 };

let origin: Origin | null = null;
let sockets: net.Socket[] = [];
let agents: http.Agent[] = [];
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  for (const agent of agents) agent.destroy();
  [sockets, agents] = [[], []];
  await origin?.stop();
  origin = null;
});

const portOf = ({ url }: Origin) => Number(new URL(url).port);

/** Holds a connection from one of loopback's many addresses. */
async function hold(to: Origin, said = HEALTH, localAddress = '127.0.0.1'): Promise<net.Socket> {
  const socket = net.connect({ host: '127.0.0.1', port: portOf(to), localAddress });
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  if (said !== '') socket.write(said);
  if (said === HEALTH) await Promise.race([once(socket, 'data'), once(socket, 'close')]);
  return socket;
}

/** One client with one connection, as the edge is one. */
function edgeOf(to: Origin) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  agents.push(agent);
  const ask = async (key = KEY) => {
    const parts = { originId: ORIGIN_ID, method: 'GET', pathAndQuery: '/base', bodyHash: sha256('') };
    const signature = await sign(key, parts, Date.now());
    const request = http.get(`${to.url}/base`, { agent, headers: { 'x-graft-signature': signature } });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    response.resume();
    await once(response, 'end');
    return {
      status: response.statusCode,
      reused: request.reusedSocket,
      socket: request.socket as net.Socket,
    };
  };
  return { ask };
}

describe('connections of strangers', () => {
  it('as many as the origin can have, kept alive, keep the edge out neither on a new connection nor on an old one', async () => {
    origin = await startTestOrigin({ signed: true });
    const old = edgeOf(origin);
    expect((await old.ask()).status).toBe(200);
    const to = origin;
    for (let i = 0; i < 4_200; i += 300) await Promise.all(Array.from({ length: 300 }, () => hold(to)));
    expect(await edgeOf(origin).ask()).toMatchObject({ status: 200 });
    expect(await old.ask()).toMatchObject({ status: 200, reused: true });
    const { open, unproved } = origin.connections.counts;
    expect(unproved).toBeLessThanOrEqual(CONNECTION_LIMITS.unprovedOfAddress);
    expect(open - unproved).toBe(2);
  });

  it.each([
    ['after a request', HEALTH],
    ['without a word', ''],
    ['in the middle of a head', 'GET /healthz HTTP/1.1\r\nHost: '],
    [
      'in the middle of a body',
      'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{',
    ],
  ])('%s, of one address, have a limit: the oldest is closed for a new one', async (_what, said) => {
    origin = await startTestOrigin({ signed: true, limits: FEW });
    const first = await hold(origin, said);
    for (let i = 0; i < 19; i += 1) await hold(origin, said);
    const closed = once(first, 'close');
    first.resume();
    await hold(origin, said);
    await closed;
    expect(origin.connections.counts.unproved).toBe(20);
  });

  it('from many addresses fill what there is, and still no connection that has proved itself is closed', async () => {
    origin = await startTestOrigin({ signed: true, limits: FEW });
    const edges = Array.from({ length: 10 }, edgeOf.bind(null, origin));
    for (const edge of edges) expect((await edge.ask()).status).toBe(200);
    for (let i = 0; i < 100; i += 1) await hold(origin, HEALTH, `127.0.1.${1 + (i % 50)}`);
    expect(origin.connections.counts).toEqual({ open: 40, unproved: 30 });
    for (const edge of edges) expect(await edge.ask()).toMatchObject({ status: 200, reused: true });
    const late = edgeOf(origin);
    expect(await late.ask()).toMatchObject({ status: 200 });
    await hold(origin, HEALTH, '127.0.2.1');
    expect(await late.ask()).toMatchObject({ status: 200, reused: true });
  });

  it('prove nothing by a signature that is not good', async () => {
    origin = await startTestOrigin({ signed: true, limits: FEW });
    const stranger = edgeOf(origin);
    const forged = { kid: KEY.kid, secret: new Uint8Array(32) };
    expect((await stranger.ask(forged)).status).toBe(401);
    expect(origin.connections.counts).toEqual({ open: 1, unproved: 1 });
    expect(await stranger.ask()).toMatchObject({ status: 200, reused: true });
    expect(origin.connections.counts).toEqual({ open: 1, unproved: 0 });
  });

  it('end a moment after their last request; one of the edge does not', async () => {
    origin = await startTestOrigin({ signed: true, limits: { ...FEW, unprovedKeepAliveMs: 30 } });
    const edge = edgeOf(origin);
    const { socket } = await edge.ask();
    const stranger = await hold(origin);
    await once(stranger, 'close');
    expect(socket.destroyed).toBe(false);
    expect(await edge.ask()).toMatchObject({ status: 200, reused: true });
    expect([CONNECTION_LIMITS.keepAliveMs, CONNECTION_LIMITS.unprovedKeepAliveMs]).toEqual([95_000, 5_000]);
  });

  it('an origin in dev mode, which has no signatures, takes whoever asks it for more than its health for proved', async () => {
    origin = await startTestOrigin({ limits: FEW });
    await hold(origin);
    expect(origin.connections.counts.unproved).toBe(1);
    await hold(origin, 'GET /base HTTP/1.1\r\nHost: evil.example\r\n\r\n');
    expect(origin.connections.counts.unproved).toBe(2);
    const socket = await hold(origin, 'GET /base HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(socket, 'data');
    expect(origin.connections.counts.unproved).toBe(2);
  });
});
