/** Logits of the tokens that a grammar lets through. A mask has bit `id % 32` of word `id >> 5` set for each of them. */
import type { Row } from './exp-bins.ts';
import type { Peak } from './logits.ts';

type Logits = Pick<Row, 'logits' | 'offset' | 'length'>;

/** Shared by all rows, since nothing awaits between its filling and its last use. */
let scratch = new Float32Array(0);

/**
 * The largest logit of those that are let through, the smallest id among equals; words without a bit are passed over.
 * @param from finite. @throws RangeError when none is let through: a bug of whoever made the mask.
 */
export function maskedPeak({ logits, offset, length }: Logits, mask: Int32Array): Peak {
  let max = -Infinity;
  let best = -1;
  for (let at = 0; at < mask.length; at += 1) {
    let word = mask[at]!;
    while (word !== 0) {
      const id = (at << 5) + 31 - Math.clz32(word & -word);
      word &= word - 1;
      if (id >= length) break;
      const value = logits[offset + id]!;
      if (value > max || best === -1) {
        max = value;
        best = id;
      }
    }
  }
  if (best === -1) throw new RangeError('a mask that lets nothing through');
  return { id: best, max };
}

/**
 * A copy in which what is not let through is -Infinity, which no draw takes.
 * @returns `[length]` from 0, valid until the next call; `top` of what is let through.
 */
export function maskedRow(from: Logits, mask: Int32Array): { row: Float32Array; top: Peak } {
  const { logits, offset, length } = from;
  const top = maskedPeak(from, mask);
  if (scratch.length < length) scratch = new Float32Array(length);
  for (let id = 0; id < length; id += 1)
    scratch[id] = (mask[id >> 5]! >>> (id & 31)) & 1 ? logits[offset + id]! : -Infinity;
  return { row: scratch, top };
}
