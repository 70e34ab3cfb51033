/** Edits beyond this share of a word's length make another word. */
const MAX_EDITS_PER_LETTER = 0.4;

/** Edits (insert, remove, replace, swap two neighbours) that make `a` into `b`: optimal string alignment. */
export function editDistance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => {
    const row = new Array<number>(b.length + 1).fill(0);
    row[0] = i;
    return row;
  });
  const at = (i: number, j: number): number => rows[i]?.[j] ?? 0;
  for (let j = 0; j <= b.length; j++) (rows[0] as number[])[j] = j;
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped =
        i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(i - 2, j - 2) + 1 : Infinity;
      (rows[i] as number[])[j] = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, replaced, swapped);
    }
  return at(a.length, b.length);
}

/** @returns ` Did you mean 'x'?` for the closest of `known`, or nothing when none is close. */
export function didYouMean(word: string, known: Iterable<string>, prefix = ''): string {
  let best = '';
  let edits = Infinity;
  for (const candidate of known) {
    const distance = editDistance(word, candidate);
    if (distance < edits) [best, edits] = [candidate, distance];
  }
  const close = edits <= Math.max(1, Math.floor(MAX_EDITS_PER_LETTER * Math.max(word.length, best.length)));
  return close && best !== '' ? ` Did you mean ${prefix}${best}?` : '';
}
