import { toHex } from '../../protocol/index.ts';
import type { Sha256 } from './ports.ts';

/** sha256 of bytes that come by, in constant memory; workerd's own class, Web Crypto has none. */
export function createSha256(): Sha256 {
  const stream = new crypto.DigestStream('SHA-256');
  const writer = stream.getWriter();
  return {
    update: (chunk) => writer.write(chunk),
    async digest() {
      await writer.close();
      return toHex(await stream.digest);
    },
  };
}
