import { fnv1aMixed } from './fnv1a.ts';

/**
 * Whether a request is among the share that is logged. Decided by its id alone (FNV-1a, mixed), so that every part that
 * sees the id decides alike, and a request is either in all logs or in none.
 * @param share 0 to 1.
 */
export function isSampled(requestId: string, share: number): boolean {
  if (share >= 1) return true;
  return fnv1aMixed(requestId) / 2 ** 32 < share;
}
