/** An origin as the configuration names it. */
export interface Origin {
  id: string;
  url: string;
}

/** FNV-1a, 32 bits, finished by murmur3's mixer: short and even enough to rank a handful of origins. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * Rendezvous hashing (Thaler and Ravishankar 1998): each name ranks the origins in an order of its own, so that an
 * origin that leaves moves only its own names.
 * @param origins not empty. @returns all of them, the preferred one first.
 */
export function rankOrigins(name: string, origins: readonly Origin[]): Origin[] {
  return origins
    .map((origin) => ({ origin, weight: hash(`${origin.id}\n${name}`) }))
    .sort((a, b) => b.weight - a.weight || (a.origin.id < b.origin.id ? -1 : 1))
    .map(({ origin }) => origin);
}
