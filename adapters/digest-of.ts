import { sha256Hex } from '../protocol/identity.ts';

/** As much of Node's crypto as is used here; this code also runs where there is none. */
interface NodeCrypto {
  createHash(name: 'sha256'): { update(bytes: Uint8Array): { digest(encoding: 'hex'): string } };
}
export interface Runtime {
  process?: { getBuiltinModule?: (name: 'node:crypto') => NodeCrypto | undefined };
}

/**
 * Web Crypto copies what it hashes, and an adapter may fill much of the memory. Node, Deno and Bun can do without, and
 * are asked at run time: nothing is imported, so that browsers and bundlers need not know.
 * @returns sha256 as 64 lower-case hex digits.
 */
export async function digestOf(
  bytes: Uint8Array<ArrayBuffer>,
  runtime: Runtime = globalThis as Runtime,
): Promise<string> {
  const crypto = runtime.process?.getBuiltinModule?.('node:crypto');
  return crypto ? crypto.createHash('sha256').update(bytes).digest('hex') : sha256Hex(bytes);
}
