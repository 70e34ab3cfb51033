/** What spreadsheets take for the beginning of a formula. */
const FORMULA = /^[=+\-@\t\r]/;

/** Text of others must stay text: a label `=HYPERLINK(…)` would run where the file is opened. */
const inert = (text: string): string => (FORMULA.test(text) ? `'${text}` : text);

const quoted = (cell: string): string => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

/** RFC 4180: CRLF after every line, quotes where they are needed. Numbers stay numbers, texts cannot be formulas. */
export const csv = (head: readonly string[], rows: readonly (readonly (string | number)[])[]): string =>
  [head, ...rows]
    .map((row) => row.map((cell) => quoted(typeof cell === 'number' ? String(cell) : inert(cell))).join(','))
    .map((line) => `${line}\r\n`)
    .join('');
