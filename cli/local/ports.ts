import net from 'node:net';
import { CliError } from '../cli-error.ts';

export const LOOPBACK = '127.0.0.1';

const HIGHEST_PORT = 65_535;

/**
 * @param port 0 = any free one.
 * @param host of the address; default: loopback.
 * @param given ports reserved for other parts of the same start.
 * @returns the port, free at this moment.
 * @throws CliError naming the flag that chooses another when it is taken.
 */
export async function needFreePort(params: {
  port: number;
  what: string;
  flag: string;
  host?: string;
  given?: readonly number[];
}): Promise<number> {
  const { port, what, flag, host = LOOPBACK, given = [] } = params;
  const unusable = (reason: string) =>
    new CliError({
      message: `Port ${port} for the ${what} ${reason}. Choose another with ${flag} <port>.`,
      code: 'port_taken',
    });
  if (port > HIGHEST_PORT) throw unusable(`is above ${HIGHEST_PORT}`);
  if (given.includes(port)) throw unusable('is used by another part of this start');
  for (;;) {
    const free = await tryPort({ port, host }, unusable);
    if (!given.includes(free)) return free;
  }
}

function tryPort(
  at: { port: number; host: string },
  unusable: (reason: string) => CliError,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      const isTaken = error.code === 'EADDRINUSE';
      reject(
        unusable(isTaken ? 'is taken (is another `graft dev` running?)' : `cannot be used: ${error.message}`),
      );
    });
    server.listen({ ...at, exclusive: true }, () => {
      const { port: free } = server.address() as net.AddressInfo;
      server.close(() => resolve(free));
    });
  });
}
