/** DEL, C1 and the marks that turn the direction of text around: what JSON leaves as it is, too. */
const BEYOND_JSON = '\\u007f-\\u009f\\u202a-\\u202e\\u2066-\\u2069';
/** … and C0 but tab and newline. */
const CONTROLS = new RegExp(`[\\u0000-\\u0008\\u000b-\\u001f${BEYOND_JSON}]`, 'g');
const UNESCAPED = new RegExp(`[${BEYOND_JSON}]`, 'g');
/** What our own text sets: bold, dim, the common colours, and their ends. Not 8, which hides what follows. */
const COLOUR = /(\u001b\[(?:[012]|22|3[1-79]|9[0-7])m)/;

/**
 * Text of others (an answer, a server's message, what is in a file) as a terminal may have it: with control characters
 * it could rewrite what was printed before, set the clipboard or type on the user's behalf.
 * @param options.colours keeps the sequences that set colours, which our own text has too.
 */
export function harmless(text: string, options: { colours?: boolean } = {}): string {
  if (options.colours !== true) return text.replace(CONTROLS, '');
  return text
    .split(COLOUR)
    .map((piece, at) => (at % 2 === 1 ? piece : piece.replace(CONTROLS, '')))
    .join('');
}

/** @returns the same JSON, printable: terminals take U+009B for the beginning of a command, and JSON does not escape it. */
export const harmlessJson = (value: unknown, indent?: number): string =>
  JSON.stringify(value, null, indent).replace(
    UNESCAPED,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
