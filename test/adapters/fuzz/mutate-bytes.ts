/** Damage without any idea of what the bytes mean. */
import type { Random } from './random.ts';

/** Sizes and counts at the edges of the types that readers compute with. */
const EDGES = [
  0n,
  1n,
  7n,
  0x7fn,
  0xffn,
  0xffffn,
  0x7fffffffn,
  0xffffffffn,
  1n << 53n,
  (1n << 63n) - 1n,
  (1n << 64n) - 1n,
];

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function overwrite(bytes: Uint8Array, random: Random): Uint8Array {
  const width = random.pick([4, 8]);
  if (bytes.length < width) return bytes;
  const copy = bytes.slice();
  // Half of them where headers are.
  const limit = random.chance(0.5) ? Math.min(64, bytes.length) : bytes.length;
  const at = random.below(Math.max(1, limit - width));
  const view = new DataView(copy.buffer);
  const value = random.pick(EDGES);
  if (width === 4) view.setUint32(at, Number(BigInt.asUintN(32, value)), true);
  else view.setBigUint64(at, value, true);
  return copy;
}

function flip(bytes: Uint8Array, random: Random): Uint8Array {
  const copy = bytes.slice();
  for (let flips = 1 + random.below(8); flips > 0 && copy.length > 0; flips--)
    copy[random.below(copy.length)]! ^= 1 << random.below(8);
  return copy;
}

const noise = (random: Random): Uint8Array =>
  Uint8Array.from({ length: 1 + random.below(32) }, () => random.below(256));

const MUTATIONS: readonly ((bytes: Uint8Array, random: Random) => Uint8Array)[] = [
  flip,
  flip,
  overwrite,
  (bytes, random) => bytes.subarray(0, random.below(bytes.length + 1)),
  (bytes, random) => bytes.subarray(random.below(Math.min(16, bytes.length) + 1)),
  (bytes, random) => join(bytes, noise(random)),
  (bytes, random) => {
    const at = random.below(bytes.length + 1);
    return join(bytes.subarray(0, at), noise(random), bytes.subarray(at));
  },
  (bytes, random) => {
    const at = random.below(bytes.length + 1);
    const end = Math.min(bytes.length, at + 1 + random.below(64));
    return random.chance(0.5)
      ? join(bytes.subarray(0, at), bytes.subarray(end))
      : join(bytes.subarray(0, end), bytes.subarray(at));
  },
];

export const mutateBytes = (bytes: Uint8Array, random: Random): Uint8Array =>
  random.pick(MUTATIONS)(bytes, random);

/** Words that training leaves only when it fails, or never: NaN, infinities, the largest, subnormals, minus zero. */
const FLOAT_WORDS = [
  0x7fc00000, 0x7f800000, 0xff800000, 0x7f7fffff, 0x00000001, 0x80000000, 0x7f007f00, 0x3f803f80,
];

/** Puts odd numbers into tensors' bytes. */
export function mutateValues(data: Uint8Array, random: Random): Uint8Array {
  const copy = data.slice();
  const words = copy.length >> 2;
  if (words === 0) return copy;
  const view = new DataView(copy.buffer);
  if (random.chance(0.2)) return copy.fill(random.pick([0, 0xff, 0x7f]));
  for (let count = 1 + random.below(4); count > 0; count--)
    view.setUint32(random.below(words) * 4, random.pick(FLOAT_WORDS), true);
  return copy;
}
