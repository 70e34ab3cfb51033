/**
 * Orthogonal rotations that spread outliers before int8 quantization (QuaRot, Ashkboos et al. 2024, arXiv:2404.00456).
 * A rotation of size n = p * m (p the largest power of two dividing n) is diag(signs) * (Hadamard_p (x) Q_m): applying it
 * costs n * (log2 p + m) instead of n * n. Vectors are rows: x' = x R.
 */

export interface Rotation {
  readonly size: number;
  /** Largest power of two dividing `size`. */
  readonly power: number;
  /** size / power */
  readonly odd: number;
  /** `[odd, odd]`, orthogonal, row-major. */
  readonly small: Float64Array;
  /** `[size]`, each 1 or -1. */
  readonly signs: Float64Array;
}

/** Deterministic uniform numbers in [0, 1), the same on every machine: Tommy Ettinger's Mulberry32. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Orthogonal `[n, n]` from Gaussian rows by modified Gram-Schmidt, done twice for full precision. */
function orthogonal(n: number, random: () => number): Float64Array {
  const rows = new Float64Array(n * n);
  for (let i = 0; i < n * n; i++)
    rows[i] = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  for (let i = 0; i < n; i++) {
    for (let pass = 0; pass < 2; pass++)
      for (let j = 0; j < i; j++) {
        let dot = 0;
        for (let k = 0; k < n; k++) dot += rows[i * n + k]! * rows[j * n + k]!;
        for (let k = 0; k < n; k++) rows[i * n + k]! -= dot * rows[j * n + k]!;
      }
    let norm = 0;
    for (let k = 0; k < n; k++) norm += rows[i * n + k]! ** 2;
    norm = Math.sqrt(norm);
    for (let k = 0; k < n; k++) rows[i * n + k]! /= norm;
  }
  return rows;
}

export function largestPowerOfTwo(n: number): number {
  let power = 1;
  while (n % (power * 2) === 0) power *= 2;
  return power;
}

/** @param randomSigns false gives the plain Hadamard, for small blocks (a head, 64 of the ffn). */
export function makeRotation(size: number, seed: number, randomSigns: boolean): Rotation {
  const random = mulberry32(seed);
  const power = largestPowerOfTwo(size);
  const odd = size / power;
  const small = odd === 1 ? new Float64Array([1]) : orthogonal(odd, random);
  const signs = Float64Array.from({ length: size }, () => (randomSigns && random() < 0.5 ? -1 : 1));
  return { size, power, odd, small, signs };
}

/**
 * Unnormalized fast Walsh-Hadamard transform over `power` items that lie `odd` apart, for each of the `odd` columns. Two
 * stages at a time: the same sums in the same order, with half of the loads and stores.
 */
function walshHadamard(x: Float64Array, power: number, odd: number): void {
  const size = power * odd;
  let half = odd;
  for (; half * 4 <= size; half *= 4)
    for (let block = 0; block < size; block += 4 * half)
      for (let i = block; i < block + half; i++) {
        const a = x[i]!;
        const b = x[i + half]!;
        const c = x[i + 2 * half]!;
        const d = x[i + 3 * half]!;
        x[i] = a + b + (c + d);
        x[i + half] = a - b + (c - d);
        x[i + 2 * half] = a + b - (c + d);
        x[i + 3 * half] = a - b - (c - d);
      }
  // One stage is left if their number is odd.
  if (half < size)
    for (let i = 0; i < half; i++) {
      const a = x[i]!;
      const b = x[i + half]!;
      x[i] = a + b;
      x[i + half] = a - b;
    }
}

let workspace = new Float64Array(0);

/** Two vectors to work in until the next call: an adapter that is loaded would otherwise leave hundreds behind. */
function twoVectors(size: number): [Float64Array, Float64Array] {
  if (workspace.length < 2 * size) workspace = new Float64Array(2 * size);
  return [workspace.subarray(0, size), workspace.subarray(size, 2 * size)];
}

/** Blocks and columns processed together: a load serves two or three products, and no sum waits for another. */
const [BLOCKS, COLUMNS] = [2, 3];

/** y = x R; overwrites `x`. Both have `rotation.size` items. */
function applyRow(rotation: Rotation, x: Float64Array, y: Float64Array): void {
  const { size, power, odd, small, signs } = rotation;
  for (let i = 0; i < size; i++) x[i]! *= signs[i]!;
  walshHadamard(x, power, odd);
  const norm = 1 / Math.sqrt(power);
  if (odd === 1) {
    for (let i = 0; i < size; i++) y[i] = x[i]! * norm;
    return;
  }
  let block = 0;
  for (; block + BLOCKS * odd <= size; block += BLOCKS * odd) {
    let column = 0;
    for (; column + COLUMNS <= odd; column += COLUMNS) {
      let a0 = 0;
      let a1 = 0;
      let a2 = 0;
      let b0 = 0;
      let b1 = 0;
      let b2 = 0;
      for (let at = column, i = block; at < small.length; at += odd, i++) {
        const w0 = small[at]!;
        const w1 = small[at + 1]!;
        const w2 = small[at + 2]!;
        const a = x[i]!;
        const b = x[i + odd]!;
        a0 += a * w0;
        a1 += a * w1;
        a2 += a * w2;
        b0 += b * w0;
        b1 += b * w1;
        b2 += b * w2;
      }
      const to = block + column;
      y[to] = a0 * norm;
      y[to + 1] = a1 * norm;
      y[to + 2] = a2 * norm;
      y[to + odd] = b0 * norm;
      y[to + odd + 1] = b1 * norm;
      y[to + odd + 2] = b2 * norm;
    }
    for (; column < odd; column++)
      for (let from = block; from < block + BLOCKS * odd; from += odd)
        y[from + column] = mixed(rotation, x, from, column) * norm;
  }
  for (; block < size; block += odd)
    for (let column = 0; column < odd; column++) y[block + column] = mixed(rotation, x, block, column) * norm;
}

/** One item of `x` times Q. */
function mixed({ odd, small }: Rotation, x: Float64Array, block: number, column: number): number {
  let sum = 0;
  for (let k = 0; k < odd; k++) sum += x[block + k]! * small[k * odd + column]!;
  return sum;
}

/** x <- x R^T, in place: undoes {@link applyRow}. `work` has `odd` items. */
function undoRow(rotation: Rotation, x: Float64Array, work: Float64Array): void {
  const { size, power, odd, small, signs } = rotation;
  for (let block = 0; odd > 1 && block < size; block += odd) {
    for (let row = 0; row < odd; row++) {
      let sum = 0;
      for (let k = 0; k < odd; k++) sum += x[block + k]! * small[row * odd + k]!;
      work[row] = sum;
    }
    for (let k = 0; k < odd; k++) x[block + k] = work[k]!;
  }
  walshHadamard(x, power, odd);
  const norm = 1 / Math.sqrt(power);
  for (let i = 0; i < size; i++) x[i]! *= norm * signs[i]!;
}

/**
 * Undoes the rotation of row vectors: X <- X * R^T, in place, in float64.
 * @param vectors `[rows, rotation.size]`
 */
export function undoRotation(vectors: Float32Array, rotation: Rotation): void {
  const { size } = rotation;
  const [x, work] = twoVectors(size);
  for (let start = 0; start < vectors.length; start += size) {
    for (let i = 0; i < size; i++) x[i] = vectors[start + i]!;
    undoRow(rotation, x, work);
    for (let i = 0; i < size; i++) vectors[start + i] = x[i]!;
  }
}

/**
 * Rotates the columns of a matrix: W <- W * blockdiag(R, R, …), in place, in float64.
 * @param matrix `[rows, columns]`, columns a multiple of the rotation's size.
 */
export function rotateColumns(
  matrix: Float64Array | Float32Array,
  columns: number,
  rotation: Rotation,
): void {
  const { size } = rotation;
  const [x, y] = twoVectors(size);
  for (let start = 0; start < matrix.length; start += size) {
    for (let i = 0; i < size; i++) x[i] = matrix[start + i]!;
    applyRow(rotation, x, y);
    for (let i = 0; i < size; i++) matrix[start + i] = y[i]!;
  }
  if (columns % size !== 0) throw new Error(`a rotation of ${size} does not divide ${columns} columns`);
}

/**
 * Rotates the rows of a matrix: W <- blockdiag(R, R, …)^T * W, in place, in float64. (Each column c becomes c R as a row.)
 * @param matrix `[rows, columns]`, rows a multiple of the rotation's size.
 */
export function rotateRows(matrix: Float64Array | Float32Array, columns: number, rotation: Rotation): void {
  const { size } = rotation;
  const rows = matrix.length / columns;
  if (rows % size !== 0) throw new Error(`a rotation of ${size} does not divide ${rows} rows`);
  const [x, y] = twoVectors(size);
  for (let block = 0; block < rows; block += size)
    for (let column = 0; column < columns; column++) {
      for (let i = 0; i < size; i++) x[i] = matrix[(block + i) * columns + column]!;
      applyRow(rotation, x, y);
      for (let i = 0; i < size; i++) matrix[(block + i) * columns + column] = y[i]!;
    }
}

/** Columns undone together: their numbers lie side by side, and those of a rotation's rows fit the second cache. */
const UNDONE_COLUMNS = 64;

/**
 * Undoes the rotation of a matrix's rows: W <- blockdiag(R, R, …) * W, in place, in float64. (Undoes `rotateRows`.)
 * @param matrix `[rows, columns]`, rows a multiple of the rotation's size.
 */
export function undoRows(matrix: Float32Array, columns: number, rotation: Rotation): void {
  const { size, power, odd, small, signs } = rotation;
  const norm = 1 / Math.sqrt(power);
  const x = new Float64Array(size * UNDONE_COLUMNS);
  const mixed = new Float64Array(odd * UNDONE_COLUMNS);
  for (let block = 0; block < matrix.length; block += size * columns)
    for (let first = 0; first < columns; first += UNDONE_COLUMNS) {
      const width = Math.min(UNDONE_COLUMNS, columns - first);
      for (let i = 0; i < size; i++)
        for (let c = 0; c < width; c++) x[i * width + c] = matrix[block + i * columns + first + c]!;
      for (let from = 0; odd > 1 && from < size; from += odd) {
        mixed.fill(0);
        for (let row = 0; row < odd; row++)
          for (let k = 0; k < odd; k++) {
            const factor = small[row * odd + k]!;
            for (let c = 0; c < width; c++) mixed[row * width + c]! += x[(from + k) * width + c]! * factor;
          }
        x.set(mixed.subarray(0, odd * width), from * width);
      }
      walshHadamard(x, power, odd * width);
      for (let i = 0; i < size; i++)
        for (let c = 0; c < width; c++)
          matrix[block + i * columns + first + c] = x[i * width + c]! * (norm * signs[i]!);
    }
}

/** The rotation as a dense `[size, size]` float32 matrix, row-major. Only for small ones: the online Hadamard. */
export function denseRotation(rotation: Rotation): Float32Array<ArrayBuffer> {
  const { size } = rotation;
  const identity = new Float64Array(size * size);
  for (let i = 0; i < size; i++) identity[i * size + i] = 1;
  rotateColumns(identity, size, rotation);
  return Float32Array.from(identity);
}

export interface RotationSet {
  /** Residual stream, `[hidden]`; null = not rotated. */
  stream: Rotation | null;
  /** Input of q, k, v, gate, up and head: the stream's or, if that is null, blocks applied at run time. */
  input: Rotation;
  /** Every head of v, `[headDim]`; null where a gate follows attention, which a rotation would not pass. */
  value: Rotation | null;
  /** o_proj's input: as `value`, or, if that is null, blocks applied at run time, also to the input of Qwen3.5's out_proj. */
  head: Rotation;
  /** Blocks of down_proj's input, applied at run time. */
  down: Rotation;
  /** Where layers differ in size, each one's own; those above are of the first. */
  layers?: readonly RotationSet[];
}

export const rotationsOf = <T extends RotationSet | null | undefined>(
  rotations: T,
  layer: number,
): RotationSet | T => rotations?.layers?.[layer] ?? rotations;

/** Block of an online rotation: 64 gave KL 0.004-0.007 on SmolLM2 against 0.008-0.019 without it. */
const MAX_BLOCK = 64;

const block = (size: number, seed: number): Rotation =>
  makeRotation(Math.min(MAX_BLOCK, largestPowerOfTwo(size)), seed, false);

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/**
 * With norms between a linear and the residual stream (`postNorms`), the stream cannot be rotated: their gains
 * do not commute with a rotation.
 */
export function makeRotations(config: {
  hidden: number;
  headDim: number;
  ffn: number;
  postNorms: boolean;
  layerSizes?: readonly { headDim: number; ffn: number }[] | null;
  outputGate: boolean;
  deltaNet: { valueDim: number } | null;
}): RotationSet {
  const stream = config.postNorms ? null : makeRotation(config.hidden, 1, true);
  const input = stream ?? block(config.hidden, 1);
  const sized = ({ headDim, ffn }: { headDim: number; ffn: number }): RotationSet => {
    const heads = config.deltaNet === null ? headDim : gcd(headDim, config.deltaNet.valueDim);
    const head = config.outputGate ? block(heads, 2) : makeRotation(headDim, 2, false);
    return { stream, input, value: config.outputGate ? null : head, head, down: block(ffn, 3) };
  };
  const { layerSizes } = config;
  return layerSizes == null ? sized(config) : { ...sized(config), layers: layerSizes.map(sized) };
}
