/** What a page sends to publish, and what it does when the edge is busy, away, or refuses. */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type GraftError, type PublishProgress } from '../../browser/messages.ts';
import { publishFile } from '../../browser/worker/publish.ts';
import { errorResponse, type ApiError } from '../../protocol/api-error.ts';
import { PublicationRequest, PUBLISH_PART_BYTES } from '../../protocol/browser-publications.ts';
import { trainingCard } from '../contracts/sample-training.ts';

const FILE = new Uint8Array(2 * PUBLISH_PART_BYTES + 5).fill(3);
const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const DIGEST = digestOf(FILE);
const MADE = { object: 'graft.publication', name: 'a/b', version: 3, digest: DIGEST, live: false };
const BUSY: ApiError = { code: 'rate_limit_exceeded', message: 'busy', retryAfterMs: 40 };
const SPENT: ApiError = { code: 'publish_token_spent', message: 'spent' };

/** Of the edge: the first answers, then good ones. */
let answers: (Response | Error)[];
let asked: { method: string; path: string; body: string; bearer: string | null }[];
const good = (path: string): Response =>
  path.includes('/parts/') ? Response.json({}) : Response.json(MADE, { status: 201 });

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  answers = [];
  asked = [];
  vi.stubGlobal('fetch', async (url: URL, init: RequestInit) => {
    init.signal?.throwIfAborted();
    const bearer = new Headers(init.headers).get('authorization');
    asked.push({
      method: init.method!,
      path: url.pathname + url.search,
      body: typeof init.body === 'string' ? init.body : digestOf(init.body as Uint8Array),
      bearer,
    });
    const next = answers.shift() ?? good(url.pathname);
    if (next instanceof Error) throw next;
    return next;
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** @returns what became of it, with all pauses passed. */
async function publish(
  more: { name?: string; signal?: AbortSignal; onProgress?: (progress: PublishProgress) => void } = {},
) {
  const { name = null, signal = new AbortController().signal, onProgress = () => undefined } = more;
  const made = publishFile({
    edge: 'https://edge.example/',
    token: 'gp_v1.x.y',
    name,
    digest: DIGEST,
    file: FILE,
    card: trainingCard(),
    onProgress,
    signal,
  });
  const settled = made.then(
    (value) => ({ value, error: null }),
    (error: unknown) => ({ value: null, error }),
  );
  let ended = false;
  void settled.then(() => (ended = true));
  while (!ended) {
    await vi.advanceTimersByTimeAsync(250);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return settled;
}
const codeOf = (error: unknown): string => (error as GraftError).code;

it('sends the file in parts of 4 MiB, then asks for the version, with the card and nothing else', async () => {
  const seen: number[] = [];
  const { value } = await publish({ name: 'a/b', onProgress: ({ done }) => seen.push(done) });
  expect(value).toEqual({ name: 'a/b', version: 3, live: false });
  expect(seen).toEqual([0, PUBLISH_PART_BYTES, 2 * PUBLISH_PART_BYTES, FILE.length]);
  const [first, second, third, close, ...rest] = asked;
  expect(rest).toEqual([]);
  for (const [index, part] of [first!, second!, third!].entries())
    expect(part).toMatchObject({
      method: 'PUT',
      path: `/v1/publications/parts/${index}?digest=${DIGEST}&sha256=${part.body}`,
      bearer: 'Bearer gp_v1.x.y',
    });
  expect(close).toMatchObject({ method: 'POST', path: '/v1/publications' });
  const body = JSON.parse(close!.body) as object;
  expect(Object.keys(body)).toEqual(['name', 'digest', 'file', 'training']);
  expect(PublicationRequest.parse(body)).toMatchObject({
    file: { bytes: FILE.length },
    training: trainingCard(),
  });
});

it('tries again when the edge is busy or away for a while', async () => {
  answers = [
    new TypeError('network'),
    errorResponse(BUSY),
    good('/parts/'),
    new Response('', { status: 502 }),
  ];
  expect((await publish()).value).toMatchObject({ version: 3 });
  expect(asked).toHaveLength(7);
});

it('gives up after four tries', async () => {
  answers = Array.from({ length: 4 }, () => new TypeError('network'));
  expect(codeOf((await publish()).error)).toBe('edge_unreachable');
  answers = Array.from({ length: 4 }, () => errorResponse(BUSY));
  expect(codeOf((await publish()).error)).toBe('rate_limit_exceeded');
  answers = Array.from({ length: 4 }, () => new Response('<html>', { status: 502 }));
  expect(codeOf((await publish()).error)).toBe('edge_unreachable');
  expect(asked).toHaveLength(12);
});

it('does not repeat what was refused', async () => {
  answers = [errorResponse({ code: 'invalid_api_key', message: 'The publish token has expired.' })];
  const { error } = await publish();
  expect([codeOf(error), (error as Error).message]).toEqual([
    'invalid_api_key',
    'The publish token has expired.',
  ]);
  expect(asked).toHaveLength(1);
});

it('finds the version whose answer was lost, and otherwise says that the token is spent', async () => {
  answers = [errorResponse(SPENT)];
  expect((await publish()).value).toMatchObject({ version: 3 });
  answers = [errorResponse(SPENT), errorResponse({ code: 'adapter_invalid', message: 'not sent' })];
  expect(codeOf((await publish()).error)).toBe('publish_token_spent');
});

it.each<[string, Response]>([
  ['no JSON', new Response('{')],
  ['something else', Response.json({ name: 'a' })],
  ['a name that is none', Response.json({ ...MADE, name: '../x' })],
])('takes %s for no version', async (_, answer) => {
  answers = [good('/parts/'), good('/parts/'), good('/parts/'), answer];
  expect(codeOf((await publish()).error)).toBe('edge_unreachable');
});

it('ends with the reason of the signal, also while it waits', async () => {
  const ending = new AbortController();
  answers = [errorResponse({ ...BUSY, retryAfterMs: 10_000 })];
  const answer = fetch;
  vi.stubGlobal('fetch', (url: URL, init: RequestInit) => {
    setTimeout(() => ending.abort('enough'), 5_000);
    return answer(url, init);
  });
  expect((await publish({ signal: ending.signal })).error).toBe('enough');
  expect(asked).toHaveLength(1);
});
