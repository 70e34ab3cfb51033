/**
 * Values that decide who may do what are sealed: `<HMAC-SHA-256, hex>\n<JSON>`, the MAC over
 * `graft-kv-v1\n<KV key>\n<JSON>`. Whoever can write KV, but has not the secret, can neither make a value nor move one
 * to another key; an old genuine value of the same key can be put back.
 */
import { toHex } from '../../protocol/index.ts';

export interface Sealer {
  seal(key: string, value: unknown): Promise<string>;
  /** @returns the value, or null when the text was not sealed for this key. */
  open(key: string, text: string): Promise<{ value: unknown } | null>;
}

const MAC_DIGITS = 64;

type MacKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

const importOnce = (secret: Uint8Array<ArrayBuffer>): (() => Promise<MacKey>) => {
  let imported: MacKey | undefined;
  return async () =>
    (imported ??= await crypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, [
      'sign',
      'verify',
    ]));
};

/**
 * @param secret at least 32 random bytes; seals and opens.
 * @param accepted secrets that open as well: the one before, or the one to come, while they are rotated.
 */
export function createSealer(
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): Sealer {
  const macKey = importOnce(secret);
  const openers = [macKey, ...accepted.map(importOnce)];
  const message = (key: string, json: string) => new TextEncoder().encode(`graft-kv-v1\n${key}\n${json}`);
  return {
    async seal(key, value) {
      const json = JSON.stringify(value);
      return `${toHex(await crypto.subtle.sign('HMAC', await macKey(), message(key, json)))}\n${json}`;
    },
    async open(key, text) {
      const mac = text.slice(0, MAC_DIGITS);
      if (!/^[0-9a-f]{64}$/.test(mac) || text[MAC_DIGITS] !== '\n') return null;
      const json = text.slice(MAC_DIGITS + 1);
      const bytes = Uint8Array.from(mac.match(/../g) ?? [], (pair) => parseInt(pair, 16));
      for (const opener of openers)
        if (await crypto.subtle.verify('HMAC', await opener(), bytes, message(key, json)))
          return { value: JSON.parse(json) as unknown };
      return null;
    },
  };
}
