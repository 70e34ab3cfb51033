import { once } from 'node:events';
import net, { type AddressInfo } from 'node:net';

export interface CuttingProxy {
  readonly url: string;
  /** Bytes that went through, both ways, since the last `reset`. */
  passed(): number;
  /** Counts from 0 again; after `cutAt` bytes every connection breaks, at that very byte. null = never. */
  reset(cutAt: number | null): void;
  /** Lets this many more bytes pass, then breaks every connection; null = no limit. Open connections stay. */
  cutAfter(bytes: number | null): void;
  stop(): Promise<void>;
}

/** A TCP proxy that breaks all its connections after a given number of bytes, and takes none from then on. */
export async function startCuttingProxy(target: string): Promise<CuttingProxy> {
  const { hostname, port } = new URL(target);
  const open = new Set<net.Socket>();
  let limit = Infinity;
  let count = 0;

  /** Passes on what may still pass. */
  const pass = (chunk: Buffer, to: net.Socket) => {
    const room = Math.max(0, limit - count);
    count += Math.min(chunk.length, room);
    if (room > 0) to.write(chunk.subarray(0, room));
    if (count >= limit) for (const socket of open) socket.resetAndDestroy();
  };

  const server = net.createServer((client) => {
    if (count >= limit) return client.resetAndDestroy();
    const upstream = net.connect(Number(port), hostname);
    const pairs = [
      [client, upstream],
      [upstream, client],
    ] as const;
    for (const [from, to] of pairs) {
      open.add(from);
      from.on('data', (chunk: Buffer) => pass(chunk, to));
      from.on('error', () => undefined);
      from.on('close', () => {
        open.delete(from);
        to.end();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    passed: () => count,
    reset(cutAt) {
      for (const socket of open) socket.destroy();
      limit = cutAt ?? Infinity;
      count = 0;
    },
    cutAfter(bytes) {
      limit = bytes === null ? Infinity : count + bytes;
      if (count >= limit) for (const socket of open) socket.resetAndDestroy();
    },
    async stop() {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
