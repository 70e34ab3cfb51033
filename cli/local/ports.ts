import { randomInt } from 'node:crypto';
import net from 'node:net';
import { CliError } from '../cli-error.ts';

export const LOOPBACK = '127.0.0.1';

const HIGHEST_PORT = 65_535;
/**
 * Any free port is one of these. Systems give ports from 32,768 up to whoever asks for any, so until its server
 * listens, a second later, nobody else gets it.
 */
const ANY_PORT = { lowest: 20_000, highest: 32_000 };

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
    const tried = port === 0 ? randomInt(ANY_PORT.lowest, ANY_PORT.highest) : port;
    if (given.includes(tried)) continue;
    const error = await listenOnce({ port: tried, host });
    if (error === null) return tried;
    const isTaken = error.code === 'EADDRINUSE';
    if (port === 0 && isTaken) continue;
    throw unusable(
      isTaken ? 'is taken (is another `graft dev` running?)' : `cannot be used: ${error.message}`,
    );
  }
}

/** @returns why nobody can listen there; null = it is free. */
function listenOnce(at: { port: number; host: string }): Promise<NodeJS.ErrnoException | null> {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', resolve);
    server.listen({ ...at, exclusive: true }, () => server.close(() => resolve(null)));
  });
}
