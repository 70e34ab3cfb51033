/** Passes over one row of logits. A row is `[vocab]` inside a larger buffer, from `offset`. */

export interface Peak {
  /** Index of the largest logit; the smallest index among equals. */
  readonly id: number;
  readonly max: number;
}

/**
 * Largest logit and whether every logit is finite, in one pass: a sum of float32 values in float64 cannot overflow,
 * so it is finite exactly when all of them are. Four chains, because one would wait for each addition.
 * @returns null when a logit is NaN or infinite.
 */
export function peak(logits: Float32Array, offset: number, length: number): Peak | null {
  let max = -Infinity;
  let id = 0;
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  const end = offset + length;
  let i = offset;
  for (; i + 3 < end; i += 4) {
    const a = logits[i]!;
    const b = logits[i + 1]!;
    const c = logits[i + 2]!;
    const d = logits[i + 3]!;
    s0 += a;
    s1 += b;
    s2 += c;
    s3 += d;
    if (a > max) {
      max = a;
      id = i;
    }
    if (b > max) {
      max = b;
      id = i + 1;
    }
    if (c > max) {
      max = c;
      id = i + 2;
    }
    if (d > max) {
      max = d;
      id = i + 3;
    }
  }
  for (; i < end; i += 1) {
    const a = logits[i]!;
    s0 += a;
    if (a > max) {
      max = a;
      id = i;
    }
  }
  return Number.isFinite(s0 + s1 + s2 + s3) ? { id: id - offset, max } : null;
}

/** @returns ids of the `count` largest logits, largest first, smaller id first among equals. */
export function topIds(logits: Float32Array, offset: number, length: number, count: number): number[] {
  const ids: number[] = [];
  const kept = Math.min(count, length);
  if (kept === 0) return ids;
  let smallest = -Infinity;
  for (let id = 0; id < length; id += 1) {
    const value = logits[offset + id]!;
    if (ids.length === kept && value <= smallest) continue;
    if (ids.length === kept) ids.pop();
    let place = ids.length;
    while (place > 0 && logits[offset + ids[place - 1]!]! < value) place -= 1;
    ids.splice(place, 0, id);
    smallest = logits[offset + ids[ids.length - 1]!]!;
  }
  return ids;
}

/** Place of the token `id` among all, from 1; equals share the best. */
export function rankOf(logits: Float32Array, offset: number, length: number, id: number): number {
  const own = logits[offset + id]!;
  let rank = 1;
  for (let at = offset; at < offset + length; at += 1) if (logits[at]! > own) rank += 1;
  return rank;
}
