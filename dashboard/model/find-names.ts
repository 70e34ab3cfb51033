/** Names in the order in which people count, and those that have a text in them. */

const NATURAL = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

/** `v2` before `v10`; what differs by nothing else stands in the order of its characters. */
export const byName = (a: string, b: string): number => NATURAL.compare(a, b) || (a < b ? -1 : Number(a > b));

/** @param text parts of the name, between blanks, in any order. */
export function isFound(name: string, text: string): boolean {
  const small = name.toLowerCase();
  return text
    .toLowerCase()
    .split(/\s+/)
    .every((part) => small.includes(part));
}

/** How well a name that was found fits: its last segment, then where it begins, then anywhere; smaller is better. */
export function fit(name: string, text: string): number {
  const [first = ''] = text.toLowerCase().trim().split(/\s+/);
  const small = name.toLowerCase();
  const last = small.slice(small.lastIndexOf('/') + 1);
  return small === first ? 0 : last.startsWith(first) ? 1 : small.startsWith(first) ? 2 : 3;
}
