/** As much of the Hugging Face Hub's API as is asked: a model's commit, its tree, and its files by range. */
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export const HUB_COMMIT = 'a'.repeat(40);

const hashed = (algorithm: string, ...parts: (string | Uint8Array)[]): string =>
  parts.reduce((hash, part) => hash.update(part), createHash(algorithm)).digest('hex');

/** From this size on a file is stored with its sha256, else with git's hash. */
const LARGE_BYTES = 1_000;

/** One repository, whose branch `main` is at {@link HUB_COMMIT}. */
export async function startFakeHub(repository: string) {
  const hub = {
    files: new Map<string, Uint8Array>(),
    asked: [] as { url: string; range: string | undefined; token: string | undefined }[],
    /** What it says of the sha256 of all large files; null = the truth. */
    claimed: null as string | null,
    /** What it answers everything with, when it is in trouble. */
    trouble: null as number | null,
    /** Only with this token. */
    gate: null as string | null,
  };
  const server = createServer((request, response) => {
    const url = request.url!.split('?')[0]!;
    const { range } = request.headers;
    hub.asked.push({ url, range, token: request.headers.authorization });
    const json = (body: unknown): void => {
      response.setHeader('content-type', 'application/json').end(JSON.stringify(body));
    };
    if (hub.trouble !== null) {
      response.writeHead(hub.trouble).end('{"error":"later"}');
    } else if (hub.gate !== null && request.headers.authorization !== `Bearer ${hub.gate}`) {
      response.writeHead(401).end('{"error":"no"}');
    } else if (
      [`main`, HUB_COMMIT].some((revision) => url === `/api/models/${repository}/revision/${revision}`)
    ) {
      json({ id: repository, _id: '1', sha: HUB_COMMIT, lastModified: '2026-01-01T00:00:00.000Z' });
    } else if (url === `/api/models/${repository}/tree/${HUB_COMMIT}`) {
      json(
        [...hub.files].map(([path, bytes]) => {
          const size = bytes.length;
          const file = { type: 'file', path, size, oid: hashed('sha1', `blob ${size}\0`, bytes) };
          const oid = hub.claimed ?? hashed('sha256', bytes);
          return size < LARGE_BYTES ? file : { ...file, lfs: { oid, size, pointerSize: 130 } };
        }),
      );
    } else {
      const bytes = hub.files.get(
        decodeURIComponent(url.replace(`/${repository}/resolve/${HUB_COMMIT}/`, '')),
      );
      if (bytes === undefined) return void response.writeHead(404).end('{}');
      const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(range ?? 'bytes=0-') ?? [];
      const end = to === '' ? bytes.length - 1 : Number(to);
      response.setHeader('content-range', `bytes ${from}-${end}/${bytes.length}`).setHeader('etag', '"x"');
      response.writeHead(206).end(bytes.subarray(Number(from), end + 1));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(hub, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stop(): void {
      server.closeAllConnections();
      server.close();
    },
  });
}

export type FakeHub = Awaited<ReturnType<typeof startFakeHub>>;
