/** What commands print: results on stdout, progress on stderr and only on a terminal. */
import { Ansis } from 'ansis';
import stringWidth from 'string-width';

export interface Output {
  /** `--json`: results are one JSON document, and errors too. */
  readonly json: boolean;
  /** Whether progress bars are drawn. */
  readonly terminal: boolean;
  result(value: unknown, text: () => string): void;
  /** A line about progress; not part of the result. */
  note(line: string): void;
  /** @param unit of `update`'s values; default: bytes. */
  progress(label: string, unit?: Unit): Progress;
}

export type Unit = 'bytes' | 'percent' | 'rows' | 'steps' | 'pages';

export interface Progress {
  /**
   * @param done and @param total in the same unit; a total of null is not known, and no bar is drawn.
   * @param detail follows the bar, which is then shorter.
   */
  update(done: number, total: number | null, detail?: string): void;
  /** Removes the bar; `line` replaces it. */
  end(line?: string): void;
}

/**
 * NO_COLOR (no-color.org) and pipes get plain text, FORCE_COLOR colour anywhere. Pipes are checked here: if
 * `CI` is set, ansis colours them too, and `graft ls | cut` would cut escapes.
 */
export const colors =
  process.stdout.isTTY || process.env['FORCE_COLOR'] !== undefined ? new Ansis() : new Ansis(0);

const MB = 1e6;
const BAR_WIDTH = 24;
/** Beside details, so that both fit 80 columns. */
const SHORT_BAR_WIDTH = 10;
/** Redraws a second: more flickers over ssh. */
const REDRAW_MS = 100;

export const megabytes = (bytes: number): string => `${(bytes / MB).toFixed(bytes < 10 * MB ? 1 : 0)} MB`;

/** Like `megabytes`, but in kilobytes instead of 0.0. */
export const fileSize = (bytes: number): string =>
  bytes < MB / 10 ? `${Math.ceil(bytes / 1_000)} kB` : megabytes(bytes);

/** @returns `2026-01-31 07:30Z`. */
export const when = (ms: number): string => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')}Z`;

/** @returns one line, such as `base  ████░░░░  41 of 93 MB`. */
export function progressLine(
  label: string,
  done: number,
  total: number | null,
  unit: Unit = 'bytes',
  detail = '',
): string {
  if (total === null) return `${label}  ${unit === 'bytes' ? megabytes(done) : `${done} ${unit}`}`;
  const share = total > 0 ? Math.min(1, done / total) : 0;
  const width = detail === '' ? BAR_WIDTH : SHORT_BAR_WIDTH;
  const full = Math.round(share * width);
  const bar = '█'.repeat(full) + '░'.repeat(width - full);
  const amount = {
    bytes: `${megabytes(done)} of ${megabytes(total)}`,
    percent: `${Math.floor(100 * share)} %`,
    rows: `${done} of ${total} rows`,
    steps: `${done} of ${total}`,
    pages: `${done} of ${total} pages`,
  }[unit];
  return `${label}  ${bar}  ${amount}${detail === '' ? '' : `  ${detail}`}`;
}

export function createOutput(params: {
  json: boolean;
  stdout?: NodeJS.WritableStream;
  stderr?: NodeJS.WritableStream & { isTTY?: boolean; columns?: number };
}): Output {
  const { json, stdout = process.stdout, stderr = process.stderr } = params;
  const terminal = stderr.isTTY === true;
  return {
    json,
    terminal,
    result(value, text) {
      const body = json ? stripControlCharsJson(value) : stripControlChars(text(), { colours: true });
      if (body !== '') stdout.write(`${body}\n`);
    },
    note(line) {
      if (!json) stderr.write(`${stripControlChars(line, { colours: true })}\n`);
    },
    progress(label, unit) {
      let drawn = 0;
      return {
        update(done, total, detail) {
          const now = Date.now();
          if (!terminal || (now - drawn < REDRAW_MS && done < (total ?? Infinity))) return;
          drawn = now;
          const line = progressLine(label, done, total, unit, detail);
          // A line that wraps could not be cleared.
          stderr.write(`\r\u001b[2K${line.slice(0, Math.max(0, (stderr.columns ?? Infinity) - 1))}`);
        },
        end(line) {
          if (terminal && drawn > 0) stderr.write('\r\u001b[2K');
          if (line !== undefined && !json) stderr.write(`${stripControlChars(line, { colours: true })}\n`);
        },
      };
    },
  };
}

/** Trailing spaces, before the escape sequence that ends a colour or not. */
const SPACES_AT_THE_END = / +(\u001b\[[\d;]*m)? *$/;
/** Between two columns. */
const GAP = '  ';

/** Columns of the results' terminal; null without one (a pipe gets whole lines). */
export const terminalWidth = (): number | null =>
  process.stdout.isTTY && process.stdout.columns > 0 ? process.stdout.columns : null;

/**
 * A table without borders, as in `ls` and `ps`; a cell with line breaks takes as many lines.
 * @param width its maximum columns; default: unlimited unless there is a terminal.
 */
export function plainTable(head: string[], rows: string[][], width = terminalWidth() ?? Infinity): string {
  const [titles = [], ...cells] = fitRows([head, ...rows], GAP.length, width);
  const lines = [titles.map((title) => colors.dim(title)), ...cells].flatMap(linesOf);
  const widths = head.map((_title, column) =>
    lines.reduce((widest, cells) => Math.max(widest, stringWidth(cells[column] ?? '')), 0),
  );
  return lines.map((cells) => aligned(cells, widths)).join('\n');
}

function linesOf(row: readonly string[]): string[][] {
  const cells = row.map((cell) => cell.split('\n'));
  const height = Math.max(1, ...cells.map(({ length }) => length));
  return Array.from({ length: height }, (_, line) => cells.map((cell) => cell[line] ?? ''));
}

/** Without spaces at the line's end. */
function aligned(cells: readonly string[], widths: readonly number[]): string {
  const last = cells.findLastIndex((cell) => cell !== '');
  return cells
    .slice(0, last + 1)
    .map((cell, column) =>
      column === last
        ? cell.replace(SPACES_AT_THE_END, '$1')
        : cell + ' '.repeat((widths[column] ?? 0) - stringWidth(cell)),
    )
    .join(GAP);
}

/** Minimum width of a name: its first and last characters are the most informative. */
const LEAST_WIDTH = 12;
/** Minimum width of a sentence. */
const LEAST_WRAPPED = 24;

/**
 * Fits a table to the terminal: sentences in the last column wrap, the widest other cells are shortened in the
 * middle.
 * @param rows cells of each line, including the head. Cells with colours or line breaks stay as they are.
 * @param gap columns between two cells. @param width columns of the terminal.
 * @returns the same rows; wrapped cells have line breaks.
 */
export function fitRows(rows: readonly (readonly string[])[], gap: number, width: number): string[][] {
  if (width === Infinity) return rows.map((row) => [...row]);
  const widths = columnWidths(rows);
  const columns = widths.length;
  const room = width - gap * (columns - 1);
  const over = widths.reduce((sum, each) => sum + each, 0) - room;
  if (over <= 0) return rows.map((row) => [...row]);
  const last = columns - 1;
  const wraps = rows.some((row) => stringWidth(row[last] ?? '') > LEAST_WRAPPED && row[last]?.includes(' '));
  const lastWidth = wraps ? Math.max(LEAST_WRAPPED, (widths[last] ?? 0) - over) : (widths[last] ?? 0);
  const fitted = fitColumns([...widths.slice(0, last), lastWidth], room);
  const fit = (cell: string, column: number): string => {
    if (cell.includes('\u001b') || cell.includes('\n')) return cell;
    const columnWidth = fitted[column] ?? 0;
    return wraps && column === last
      ? wrapText(cell, columnWidth).join('\n')
      : shortenMiddle(cell, columnWidth);
  };
  return rows.map((row) => row.map(fit));
}

function columnWidths(rows: readonly (readonly string[])[]): number[] {
  const widths: number[] = [];
  for (const row of rows)
    row.forEach((cell, column) => {
      for (const line of cell.split('\n')) widths[column] = Math.max(widths[column] ?? 0, stringWidth(line));
    });
  return widths;
}

/**
 * @param widths columns that each column of the table would take.
 * @param room for all of them, without the gaps.
 * @returns the widths to shorten to; columns that are narrow already, or at {@link LEAST_WIDTH}, stay, so the
 * sum may exceed `room` with many columns.
 */
export function fitColumns(widths: readonly number[], room: number): number[] {
  const fitted = [...widths];
  let over = fitted.reduce((sum, width) => sum + width, 0) - room;
  while (over > 0) {
    const widest = Math.max(...fitted);
    if (widest <= LEAST_WIDTH) break;
    fitted[fitted.lastIndexOf(widest)] = widest - 1;
    over -= 1;
  }
  return fitted;
}

/**
 * @returns `text` if it fits, otherwise its beginning and end around an ellipsis, exactly `width` columns or
 * one less.
 */
export function shortenMiddle(text: string, width: number): string {
  if (stringWidth(text) <= width) return text;
  const letters = [...new Intl.Segmenter(undefined, { granularity: 'grapheme' }).segment(text)].map(
    ({ segment }) => segment,
  );
  const half = Math.floor((width - 1) / 2);
  const begin = takeWidth(letters, width - 1 - half);
  const end = takeWidth(letters.reverse(), half);
  return `${begin.join('')}…${end.reverse().join('')}`;
}

function takeWidth(letters: readonly string[], width: number): string[] {
  let used = 0;
  const end = letters.findIndex((letter) => (used += stringWidth(letter)) > width);
  return letters.slice(0, end === -1 ? letters.length : end);
}

/**
 * Breaks between words; words wider than a line get their own.
 * @param width columns of a terminal. @returns at least one line.
 */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line !== '' && stringWidth(longer) > width) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return [...lines, line];
}

/** DEL, C1 and bidirectional controls, which JSON does not escape … */
const BEYOND_JSON = '\\u007f-\\u009f\\u202a-\\u202e\\u2066-\\u2069';
/** … and C0 except tab and newline. */
const CONTROLS = new RegExp(`[\\u0000-\\u0008\\u000b-\\u001f${BEYOND_JSON}]`, 'g');
const UNESCAPED = new RegExp(`[${BEYOND_JSON}]`, 'g');
/** Sequences in our own text: bold, dim, the common colours, and their ends. Not 8, which hides text. */
const COLOUR = /(\u001b\[(?:[012]|22|3[1-79]|9[0-7])m)/;

/**
 * Makes foreign text (an answer, a server's message, file content) safe for a terminal: control characters
 * could rewrite earlier output, set the clipboard or type on the user's behalf.
 * @param options.colours keeps colour sequences, which our own text has too.
 */
export function stripControlChars(text: string, options: { colours?: boolean } = {}): string {
  if (options.colours !== true) return text.replace(CONTROLS, '');
  return text
    .split(COLOUR)
    .map((piece, at) => (at % 2 === 1 ? piece : piece.replace(CONTROLS, '')))
    .join('');
}

/**
 * @returns the same JSON, printable: terminals interpret U+009B as the start of a command, and JSON does not
 * escape it.
 */
export const stripControlCharsJson = (value: unknown, indent?: number): string =>
  JSON.stringify(value, null, indent).replace(
    UNESCAPED,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
