/** Tables that are wider than the terminal: sentences in the last column wrap, the widest others lose their middle. */
import stringWidth from 'string-width';

/** What a name keeps at least: its first and last few characters say most. */
const LEAST_WIDTH = 12;
/** A sentence in less is a column of words. */
const LEAST_WRAPPED = 24;

/**
 * @param rows cells of each line, the head among them. Those with colours, or line breaks, stay as they are.
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
 * @param widths columns of a terminal that each column of the table would take.
 * @param room for all of them, without the gaps.
 * @returns the widths to shorten to; those that are narrow already, or at {@link LEAST_WIDTH}, stay as they are, so
 *   that the sum is above `room` where there are too many of them.
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

/** @returns `text` when it is no wider, else its beginning and end around an ellipsis, exactly `width` columns or one less. */
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
 * Breaks between words; a word that is wider than a line has one of its own.
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
