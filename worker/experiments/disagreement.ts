/** Whether a shadow says what the user was told: the metric `disagreement` of its requests. */

/**
 * Whether two answers to the request differ only where adapters do: it is greedy, or its chance is seeded. Any other
 * answer differs from itself.
 */
export const isRepeatable = (request: {
  temperature?: number | null | undefined;
  seed?: number | null | undefined;
}): boolean => request.temperature === 0 || (request.seed ?? null) !== null;

/** @param told, @param shadow the texts of all choices, in order. @returns 0 when they are the same but for outer space. */
export function disagreement(told: readonly string[], shadow: readonly string[]): 0 | 1 {
  const same = told.length === shadow.length && told.every((text, i) => text.trim() === shadow[i]?.trim());
  return same ? 0 : 1;
}
