import net from 'node:net';
import { CliError } from '../cli-error.ts';

export const LOOPBACK = '127.0.0.1';

/**
 * @param port 0 asks for any free one.
 * @returns the port, free at this moment.
 * @throws CliError naming the flag that chooses another when it is taken.
 */
export function needFreePort(params: { port: number; what: string; flag: string }): Promise<number> {
  const { port, what, flag } = params;
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      const message =
        error.code === 'EADDRINUSE'
          ? `Port ${port} for the ${what} is taken (is another \`graft dev\` running?); choose one with ${flag} <port>.`
          : `Port ${port} for the ${what} cannot be used: ${error.message}; choose one with ${flag} <port>.`;
      reject(new CliError({ message, code: 'port_taken' }));
    });
    server.listen({ port, host: LOOPBACK, exclusive: true }, () => {
      const { port: free } = server.address() as net.AddressInfo;
      server.close(() => resolve(free));
    });
  });
}
