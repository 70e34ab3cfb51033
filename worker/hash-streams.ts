import { toHex } from '../protocol/index.ts';

/** sha256 of several streams, one after the other, in constant memory; workerd's own class, Web Crypto has none. */
export async function hashStreams(streams: AsyncIterable<ReadableStream<Uint8Array>>): Promise<string> {
  const digest = new crypto.DigestStream('SHA-256');
  for await (const stream of streams) await stream.pipeTo(digest, { preventClose: true });
  await digest.close();
  return toHex(await digest.digest);
}
