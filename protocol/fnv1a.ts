/** Hashes for dealing and ranking; none of them keeps a secret or withstands anybody who wants a collision. */

const encoder = new TextEncoder();

/** FNV-1a of 32 bits over UTF-8 bytes (http://www.isthe.com/chongo/tech/comp/fnv/). A lone surrogate counts as U+FFFD. */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    // Encoding costs ten times the rest, and names are ASCII.
    if (unit >= 0x80) return ofBytes(encoder.encode(text));
    hash = Math.imul(hash ^ unit, 0x01000193);
  }
  return hash >>> 0;
}

function ofBytes(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** {@link fnv1a} with MurmurHash3's finalizer: every bit depends on all of the text, as shares and ranks need it. */
export function fnv1aMixed(text: string): number {
  let hash = fnv1a(text);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * Whether a request is among the share that is logged. Decided by its id alone (FNV-1a, mixed), so that every part that
 * sees the id decides alike, and a request is either in all logs or in none.
 * @param share 0 to 1.
 */
export function isSampled(requestId: string, share: number): boolean {
  if (share >= 1) return true;
  return fnv1aMixed(requestId) / 2 ** 32 < share;
}
