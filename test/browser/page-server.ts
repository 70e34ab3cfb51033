/** A loopback server of a few files in memory. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** The strictest that a page with a script can have: no inline script, no eval, nothing from elsewhere. */
const POLICY =
  "default-src 'none'; script-src 'self'; connect-src 'self'; require-trusted-types-for 'script'; base-uri 'none'";

export interface PageFile {
  readonly type: string;
  readonly body: string | Uint8Array;
}

export interface PageServer {
  readonly url: string;
  stop(): Promise<void>;
}

/** @param files by path, with the leading slash; anything else is 404. @param policy the strictest unless given. */
export async function startPageServer(
  files: ReadonlyMap<string, PageFile>,
  policy = POLICY,
): Promise<PageServer> {
  const server = createServer((request, response) => {
    const file = files.get(request.url ?? '');
    if (file === undefined) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      'content-type': file.type,
      'content-security-policy': policy,
      'x-content-type-options': 'nosniff',
    });
    response.end(file.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
