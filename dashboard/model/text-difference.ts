/** Where two texts differ, word by word. */

export interface Piece {
  readonly text: string;
  /** It is in the other text, too, in the same order. */
  readonly same: boolean;
}

/** Words of both, multiplied: the table has as many cells, and 4 million take some 30 ms. */
const MAX_CELLS = 4_000_000;

/**
 * By a longest common subsequence of words.
 * @returns the pieces of each; null when they are too long to be compared.
 */
export function differences(a: string, b: string): { a: Piece[]; b: Piece[] } | null {
  const [left, right] = [words(a), words(b)];
  if (left.length * right.length > MAX_CELLS) return null;
  const width = right.length + 1;
  /** Longest common subsequence of what is left of both from (i, j) on. */
  const longest = new Uint16Array((left.length + 1) * width);
  for (let i = left.length - 1; i >= 0; i -= 1)
    for (let j = right.length - 1; j >= 0; j -= 1)
      longest[i * width + j] =
        left[i] === right[j]
          ? longest[(i + 1) * width + j + 1]! + 1
          : Math.max(longest[(i + 1) * width + j]!, longest[i * width + j + 1]!);
  const pieces: { a: Piece[]; b: Piece[] } = { a: [], b: [] };
  for (let i = 0, j = 0; i < left.length || j < right.length;) {
    const isSame = i < left.length && j < right.length && left[i] === right[j];
    const fromLeft =
      j >= right.length || (i < left.length && longest[(i + 1) * width + j]! >= longest[i * width + j + 1]!);
    if (isSame || fromLeft) add(pieces.a, left[i++]!, isSame);
    if (isSame || !fromLeft) add(pieces.b, right[j++]!, isSame);
  }
  return pieces;
}

/** With the blanks behind them; those at the beginning are a word of their own. */
const words = (text: string): string[] => text.match(/^\s+|\S+\s*/g) ?? [];

function add(pieces: Piece[], text: string, same: boolean): void {
  const last = pieces.at(-1);
  if (last?.same === same) pieces[pieces.length - 1] = { text: last.text + text, same };
  else pieces.push({ text, same });
}
