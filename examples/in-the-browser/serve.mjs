// An application's own server: the page, graft-lora/browser, and tokens that it makes with its API key. See README.md.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const BUILT = path.join(HERE, '../../dist/browser');
const { GRAFT_URL = 'http://127.0.0.1:8787', GRAFT_PAGE_KEY, PORT = '8790' } = process.env;
const ORIGIN = `http://127.0.0.1:${PORT}`;
const EDGE = new URL(GRAFT_URL).origin;
/** Names of the page's own; anything else it asks for is refused. */
const NAMES = new Set(['medicine/cardiology/dr-lee', 'medicine/cardiology', 'medicine', 'support/intent']);

const HEADERS = {
  // Threads: a page that shares memory must be isolated.
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  // What such a page needs and nothing else.
  'content-security-policy': `default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; connect-src 'self' ${EDGE}`,
  'x-content-type-options': 'nosniff',
};
const TYPES = {
  '.html': 'text/html',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
};

/** The page publishes under this name alone; a real application has one for each user. */
const PUBLISHED = 'support/intent/mine';

/** A real application signs its user in here first. */
async function token(request) {
  const body = JSON.parse(await text(request));
  const names = body.names.filter((name) => NAMES.has(name));
  return made('download', { names });
}

/** @param kind `download` or `publish`. */
async function made(kind, body) {
  const answer = await fetch(`${EDGE}/v1/${kind}-tokens`, {
    method: 'POST',
    headers: { authorization: `Bearer ${GRAFT_PAGE_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ ...body, origin: ORIGIN }),
  });
  return { status: answer.status, body: await answer.text() };
}

async function text(request) {
  let all = '';
  for await (const chunk of request) {
    all += chunk;
    if (all.length > 4_096) throw new Error('too long');
  }
  return all;
}

async function answer(request) {
  const { pathname } = new URL(request.url, ORIGIN);
  if (pathname === '/token' && request.method === 'POST')
    return { type: 'application/json', ...(await token(request)) };
  if (pathname === '/publish-token' && request.method === 'POST')
    return { type: 'application/json', ...(await made('publish', { name: PUBLISHED })) };
  if (pathname === '/settings')
    return {
      type: 'application/json',
      status: 200,
      body: JSON.stringify({ url: EDGE, base: `${EDGE}/base/` }),
    };
  const file = pathname.startsWith('/graft/')
    ? path.join(BUILT, path.normalize(pathname.slice('/graft'.length)))
    : path.join(
        HERE,
        { '/': 'index.html', '/page.js': 'page.js', '/page.css': 'page.css' }[pathname] ?? 'none',
      );
  return { type: TYPES[path.extname(file)] ?? 'text/plain', status: 200, body: await readFile(file) };
}

if (GRAFT_PAGE_KEY === undefined) {
  console.error('Set GRAFT_PAGE_KEY to an API key for pages: graft keys create --download --publish');
  process.exit(2);
}
createServer((request, response) => {
  answer(request).then(
    ({ type, status, body }) => response.writeHead(status, { 'content-type': type, ...HEADERS }).end(body),
    () =>
      response
        .writeHead(404, HEADERS)
        .end('There is no such file. Was graft-lora/browser built? npm run build:browser'),
  );
}).listen(Number(PORT), '127.0.0.1', () => console.log(`Open ${ORIGIN}`));
