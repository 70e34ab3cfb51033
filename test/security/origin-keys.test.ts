import { expect, it } from 'vitest';
import { SIGNATURE_HEADER, verifySignature, type SigningKey } from '../../protocol/signature.ts';
import { createOriginFetch } from '../../worker/origins/connection.ts';

const NOW = 1_700_000_000_000;
const keyOf = (kid: string, byte: number): SigningKey => ({ kid, secret: new Uint8Array(32).fill(byte) });
const [A, B] = [keyOf('a', 1), keyOf('b', 2)];

/** An origin that has one key, its own. */
async function answer(origin: string, key: SigningKey, init: RequestInit): Promise<Response> {
  const header = new Headers(init.headers).get(SIGNATURE_HEADER) ?? undefined;
  const checked = await verifySignature({
    header,
    keys: [key],
    originId: origin,
    method: 'GET',
    pathAndQuery: '/base',
    now: NOW,
    startedAt: NOW - 1_000,
    rememberNonce: () => 'new',
  });
  if (checked.ok) return Response.json({ origin });
  return Response.json({ error: { reason: checked.error.kind } }, { status: 401 });
}

it('each origin may have a key of its own, so that one that was taken over cannot call the others', async () => {
  const seen: { origin: string; init: RequestInit }[] = [];
  const send = createOriginFetch({
    keys: [A, B],
    now: () => NOW,
    fetch: async (url, init) => {
      const origin = new URL(url).hostname;
      seen.push({ origin, init });
      return answer(origin, origin === 'one' ? A : B, init);
    },
  });
  const ask = async (id: string) => {
    const sent = await send({ id, url: `http://${id}` }, { method: 'GET', path: '/base' });
    return sent.ok ? sent.value.status : 0;
  };
  for (const id of ['one', 'two', 'one', 'two']) expect(await ask(id)).toBe(200);
  // The second one's key is found once, and remembered.
  expect(seen.map(({ origin }) => origin)).toEqual(['one', 'two', 'two', 'one', 'two']);
  // What one of them has seen, or can sign itself, opens nothing at the other.
  for (const { origin, init } of seen) {
    const other = origin === 'one' ? 'two' : 'one';
    expect((await answer(other, other === 'one' ? A : B, init)).status).toBe(401);
  }
});
