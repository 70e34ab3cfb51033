import { MAX_JSON_CONTAINERS, MAX_JSON_DEPTH } from './limits.ts';

const [QUOTE, BACKSLASH, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [
  0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d,
];

/**
 * How deep arrays and objects lie inside one another, and how many there are. Looks at the bytes before they are
 * parsed: a megabyte of brackets parses, slowly, and then whatever walks the value runs out of stack.
 * @param json UTF-8; that it is JSON at all is for the parser to say.
 * @param enough counting ends where either is above it.
 */
export function jsonShape(
  json: Uint8Array,
  enough: { depth: number; containers: number },
): { depth: number; containers: number } {
  let [depth, deepest, containers] = [0, 0, 0];
  let inString = false;
  for (let at = 0; at < json.length; at += 1) {
    const byte = json[at];
    if (inString) {
      if (byte === BACKSLASH) at += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      depth += 1;
      containers += 1;
      if (depth > deepest) deepest = depth;
      if (deepest > enough.depth || containers > enough.containers) break;
    } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth -= 1;
  }
  return { depth: deepest, containers };
}

/** @returns what is wrong with the shape of a body, in words for its sender; null when it may be parsed. */
export function badShape(json: Uint8Array, maxDepth: number = MAX_JSON_DEPTH): string | null {
  const { depth, containers } = jsonShape(json, { depth: maxDepth, containers: MAX_JSON_CONTAINERS });
  if (depth > maxDepth) return `The body is nested deeper than ${maxDepth} levels.`;
  return containers > MAX_JSON_CONTAINERS
    ? `The body has more than ${MAX_JSON_CONTAINERS} arrays and objects.`
    : null;
}
