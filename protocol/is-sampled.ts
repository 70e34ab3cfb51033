/**
 * Whether a request is among the share that is logged. Decided by its id alone (FNV-1a, mixed), so that every part that
 * sees the id decides alike, and a request is either in all logs or in none.
 * @param share 0 to 1.
 */
export function isSampled(requestId: string, share: number): boolean {
  if (share >= 1) return true;
  let h = 0x811c9dc5;
  for (let i = 0; i < requestId.length; i += 1) h = Math.imul(h ^ requestId.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32 < share;
}
