const SECOND_MS = 1_000;

/**
 * Counts how often each key was given suggestions in this second.
 * @param params.maxKeys that are counted in a second; further ones get none, so that memory has an end.
 * @returns whether the key may be given some now.
 */
export function createSuggestionBudget(params: {
  perSecond: number;
  maxKeys: number;
  now: () => number;
}): (keyId: string) => boolean {
  const { perSecond, maxKeys, now } = params;
  let second = -1;
  let counts = new Map<string, number>();
  return (keyId) => {
    const current = Math.floor(now() / SECOND_MS);
    if (current !== second) {
      second = current;
      counts = new Map();
    }
    const count = counts.get(keyId) ?? 0;
    if (count >= perSecond || (count === 0 && counts.size >= maxKeys)) return false;
    counts.set(keyId, count + 1);
    return true;
  };
}
