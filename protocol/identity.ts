/** Digests, chain ids and key hashes: lower-case hex sha256 by Web Crypto, which Node, workerd and browsers share. */
import { z } from 'zod';

export const Digest = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits');
export type Digest = z.infer<typeof Digest>;

/** One member of a chain: the delta of `digest`, multiplied by `scale` on top of its own alpha/rank scale. */
export const ChainEntry = z.strictObject({ digest: Digest, scale: z.number().finite() });
export type ChainEntry = z.infer<typeof ChainEntry>;

export function toHex(bytes: ArrayBuffer | Uint8Array): string {
  let hex = '';
  for (const byte of bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes))
    hex += byte.toString(16).padStart(2, '0');
  return hex;
}

/** @returns sha256 as 64 lower-case hex digits. */
export async function sha256Hex(data: Uint8Array<ArrayBuffer> | string): Promise<string> {
  return toHex(
    await crypto.subtle.digest('SHA-256', typeof data === 'string' ? new TextEncoder().encode(data) : data),
  );
}

/**
 * Identity of an ordered chain (root first): sha256 of the lines `<digest> <scale>`, each ended by a newline,
 * with the scale as JavaScript prints the number. The empty chain (the base model) has the id of the empty string.
 */
export function chainId(chain: readonly ChainEntry[]): Promise<string> {
  return sha256Hex(chain.map((entry) => `${entry.digest} ${String(entry.scale)}\n`).join(''));
}
