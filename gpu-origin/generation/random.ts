/**
 * Reproducible uniform numbers: sfc32 (Chris Doty-Humphrey's PractRand), seeded by 32-bit mixing of the whole seed.
 * The same seed gives the same sequence on every machine.
 * @param seed any safe integer.
 * @returns draws in [0, 1) with 53 bits.
 */
export function seededRandom(seed: number): () => number {
  const low = seed | 0;
  const high = Math.floor(seed / 2 ** 32) | 0;
  let a = mix(low ^ 0x9e3779b9);
  let b = mix(high ^ 0x243f6a88);
  let c = mix(a ^ b);
  let counter = 1;
  const next = (): number => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  // The first outputs still show the seed.
  for (let round = 0; round < 12; round += 1) next();
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}

/** MurmurHash3's finalizer. */
function mix(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return x ^ (x >>> 16);
}
