/**
 * llama.cpp stores the rows of q and k of a Llama for interleaved rotary positions: per head, rows `[headDim/2, 2]`
 * where Hugging Face has `[2, headDim/2]` (llama.cpp `conversion/llama.py`, `LlamaModel.permute`). B of an adapter has
 * its rows in the order of the layer's.
 */

/** Heads of the base's attention. */
export interface AttentionShape {
  readonly heads: number;
  /** Heads of k and v; fewer than `heads` under grouped-query attention. */
  readonly kvHeads: number;
}

/** Whether `rows` rows are whole heads of an even size, which rotary positions need. */
export const isHeads = (rows: number, heads: number): boolean =>
  Number.isInteger(heads) && heads > 0 && rows % (2 * heads) === 0;

/** Per head, from `[outer, inner]` to `[inner, outer]`; rows are moved as bytes, so any type may be in them. */
function transposeRows(
  rows: Uint8Array,
  heads: number,
  rowBytes: number,
  outerOf: (headDim: number) => number,
): Uint8Array<ArrayBuffer> {
  const headDim = rows.byteLength / rowBytes / heads;
  const outer = outerOf(headDim);
  const inner = headDim / outer;
  const out = new Uint8Array(rows.byteLength);
  for (let head = 0; head < heads; head++)
    for (let i = 0; i < outer; i++)
      for (let j = 0; j < inner; j++) {
        const from = (head * headDim + i * inner + j) * rowBytes;
        out.set(rows.subarray(from, from + rowBytes), (head * headDim + j * outer + i) * rowBytes);
      }
  return out;
}

/**
 * Hugging Face's order to GGUF's.
 * @param rows `[heads * headDim, rowBytes]`, headDim even ({@link isHeads}). @returns a new array.
 */
export const permuteRows = (rows: Uint8Array, heads: number, rowBytes: number): Uint8Array<ArrayBuffer> =>
  transposeRows(rows, heads, rowBytes, () => 2);

/** GGUF's order to Hugging Face's; the inverse of {@link permuteRows}, with the same parameters. */
export const unpermuteRows = (rows: Uint8Array, heads: number, rowBytes: number): Uint8Array<ArrayBuffer> =>
  transposeRows(rows, heads, rowBytes, (headDim) => headDim / 2);
