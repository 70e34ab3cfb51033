/** The desk's address: work, adapters and a page's files out, logits and rates in. */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { Desk, Rates } from './part.ts';

/** Threads share memory on pages that say this. */
const ISOLATED = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
};
const TYPES: Record<string, string> = {
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
  '.html': 'text/html',
};

export interface OpenDesk {
  /** Ends with a slash. */
  readonly address: string;
  /** What came last; null = nothing yet. */
  rates: Rates | null;
  close(): Promise<void>;
}

/** @param folder of files that pages ask for. */
export async function openDesk(desk: Desk, folder: string): Promise<OpenDesk> {
  const open: OpenDesk = {
    address: '',
    rates: null,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
  const answer = async (request: IncomingMessage): Promise<string | Uint8Array> => {
    const [kind = '', ...rest] = (request.url ?? '/').slice(1).split('/');
    if (kind === 'work') return JSON.stringify(desk.work);
    if (kind === 'adapters') return desk.file(rest[0]!);
    if (kind === 'rows') {
      await desk.hand(Number(rest[0]), Number(rest[1]), new Float32Array(await bodyOf(request)));
      return '';
    }
    if (kind === 'rates') {
      const [prompt = NaN, decode = NaN] = new Float64Array(await bodyOf(request));
      open.rates = { prompt, decode };
      return '';
    }
    return readFileSync(path.join(folder, kind === '' ? 'index.html' : [kind, ...rest].join('/')));
  };
  const server = createServer((request, response) => {
    const type = TYPES[path.extname(request.url === '/' ? '.html' : (request.url ?? ''))];
    answer(request).then(
      (body) => response.writeHead(200, { ...ISOLATED, ...(type && { 'content-type': type }) }).end(body),
      (error: unknown) => response.writeHead(404, ISOLATED).end(String(error)),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return Object.assign(open, { address });
}

async function bodyOf(request: IncomingMessage): Promise<ArrayBuffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const all = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all.buffer;
}
