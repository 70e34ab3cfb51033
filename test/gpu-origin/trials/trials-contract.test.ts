import { originTrialsContract, type TriedOrigin } from '../../contracts/origin-trials.ts';
import { startFakeOrigin } from '../../fakes/fake-origin.ts';
import { TINY_BASE, tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { KEY, ORIGIN_ID, sha256, signedFetch, startTestOrigin } from '../http/harness.ts';

const tried = (origin: { url: string; stop(): Promise<void> }, held: string): TriedOrigin => ({
  post: (path, body) => signedFetch(origin, path, { method: 'POST', body: JSON.stringify(body) }),
  unsigned: (path, body) => fetch(origin.url + path, { method: 'POST', body: JSON.stringify(body) }),
  held,
  stop: () => origin.stop(),
});

originTrialsContract('the origin', async () => {
  const origin = await startTestOrigin({ signed: true });
  return tried(origin, origin.adapter);
});

originTrialsContract('the fake', async () => {
  const origin = await startFakeOrigin({ id: ORIGIN_ID, keys: [KEY], base: TINY_BASE });
  const { bytes, digest } = tinyAdapter({ seed: 1 });
  const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: sha256(bytes) }] };
  await signedFetch(origin, `/adapters/${digest}`, { method: 'PUT', body: JSON.stringify(record) });
  const path = `/adapters/${digest}/parts/0`;
  await signedFetch(origin, path, { method: 'PUT', body: new Uint8Array(bytes) });
  return tried(origin, digest);
});
