/** Edits farther than this share of the longer name are no likeness. */
const MAX_DISTANCE_SHARE = 0.5;
/** Longer ones are not compared: a path has any length, and comparing takes the product of both. */
const MAX_COMPARED = 128;

/** Levenshtein distance; O(a*b), names have at most 256 characters. */
export function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const change = previous[column - 1]! + (a[row - 1] === b[column - 1] ? 0 : 1);
      current.push(Math.min(change, previous[column]! + 1, current[column - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}

/** @returns at most `limit` of `candidates` that resemble `name`, neither longer than {@link MAX_COMPARED}, nearest first, ties by the alphabet. */
export function nearestNames(name: string, candidates: readonly string[], limit: number): string[] {
  if (name.length > MAX_COMPARED) return [];
  return candidates
    .filter((candidate) => candidate.length <= MAX_COMPARED)
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .filter(
      ({ candidate, distance }) => distance <= Math.max(candidate.length, name.length) * MAX_DISTANCE_SHARE,
    )
    .sort((a, b) => a.distance - b.distance || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, limit)
    .map(({ candidate }) => candidate);
}
