/** The losses of a training as a picture of text. */
import type { TrainingCurve } from '../../protocol/training.ts';

export const CURVE_WIDTH = 60;
export const CURVE_HEIGHT = 8;

/** Dots of a braille character, and their bits by row and column (Unicode 16, 21.1 Braille). */
const DOTS_ACROSS = 2;
const DOTS_DOWN = 4;
const BITS = [
  [0x01, 0x08],
  [0x02, 0x10],
  [0x04, 0x20],
  [0x40, 0x80],
] as const;
const BRAILLE = 0x2800;
const HELD_OUT = 'o';

/** @returns three digits, such as 2.41, 0.0123, 1.2e-5. */
export const lossText = (loss: number): string =>
  loss !== 0 && Math.abs(loss) < 1e-3 ? loss.toExponential(1) : String(Number(loss.toPrecision(3)));

/**
 * Draws the training loss as a line and each held-out loss as an `o`.
 * @param size of the picture in characters, without its axes.
 * @returns its lines; none for fewer than two points.
 */
export function drawLossCurve(
  curve: TrainingCurve,
  { width, height }: { width: number; height: number } = { width: CURVE_WIDTH, height: CURVE_HEIGHT },
): string[] {
  const [first, last] = [curve[0], curve.at(-1)];
  if (first === undefined || last === undefined || first[0] === last[0]) return [];
  const losses = curve.flatMap(([, loss, heldOut]) => (heldOut === null ? [loss] : [loss, heldOut]));
  const [least, most] = [Math.min(...losses), Math.max(...losses)];
  const across = width * DOTS_ACROSS - 1;
  const down = height * DOTS_DOWN - 1;
  const xOf = (step: number): number => Math.round((across * (step - first[0])) / (last[0] - first[0]));
  const yOf = (loss: number): number =>
    most === least ? Math.round(down / 2) : Math.round((down * (most - loss)) / (most - least));

  const cells = Array.from({ length: height }, () => new Array<number>(width).fill(0));
  const dot = (x: number, y: number): void => {
    const row = cells[Math.floor(y / DOTS_DOWN)] as number[];
    const bits = BITS[(y % DOTS_DOWN) as 0 | 1 | 2 | 3];
    row[Math.floor(x / DOTS_ACROSS)]! |= bits[(x % DOTS_ACROSS) as 0 | 1];
  };
  curve.forEach(([step, loss], i) => {
    const [x, y] = [xOf(step), yOf(loss)];
    const before = curve[i - 1];
    const [fromX, fromY] = before === undefined ? [x, y] : [xOf(before[0]), yOf(before[1])];
    const dots = Math.max(1, Math.abs(x - fromX), Math.abs(y - fromY));
    for (let k = 0; k <= dots; k += 1)
      dot(Math.round(fromX + ((x - fromX) * k) / dots), Math.round(fromY + ((y - fromY) * k) / dots));
  });

  const picture = cells.map((row) =>
    row.map((bits) => (bits === 0 ? ' ' : String.fromCodePoint(BRAILLE + bits))),
  );
  for (const [step, , heldOut] of curve)
    if (heldOut !== null)
      picture[Math.floor(yOf(heldOut) / DOTS_DOWN)]![Math.floor(xOf(step) / DOTS_ACROSS)] = HELD_OUT;

  const [top, bottom] = [lossText(most), lossText(least)];
  const margin = Math.max(top.length, bottom.length);
  const lines = picture.map((row, i) => {
    const label = i === 0 ? top : i === height - 1 ? bottom : '';
    return `${label.padStart(margin)} ${label === '' ? '│' : '┤'}${row.join('')}`.trimEnd();
  });
  const indent = ' '.repeat(margin + 2);
  const [from, to] = [`step ${first[0]}`, String(last[0])];
  const hasHeldOut = curve.some(([, , heldOut]) => heldOut !== null);
  return [
    ...lines,
    `${' '.repeat(margin + 1)}└${'─'.repeat(width)}`,
    `${indent}${from}${to.padStart(Math.max(to.length + 1, width - from.length))}`,
    `${indent}line: loss of the rows trained on${hasHeldOut ? `; ${HELD_OUT}: held-out loss` : ''}`,
  ];
}
