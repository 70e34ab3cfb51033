/**
 * How often experiments are wrong, as docs/experiments.md says it: `node --import tsx bench/experiment-errors.ts
 * [--runs 2000] [--units 50000] [--only looks]`. By hand: ten minutes of one core. Prints markdown tables.
 */
import { parseArgs } from 'node:util';
import { BEFORE_SHAPES, BEFORE_SPLITS, KNOWN, simulateBefore } from './experiment-errors/before.ts';
import { simulateLooks, SPLITS } from './experiment-errors/looks.ts';
import { SHAPES } from './experiment-errors/units.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '2000' },
    units: { type: 'string', default: '50000' },
    only: { type: 'string' },
  },
});
const number = (flag: string, text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 10)
    throw new Error(`--${flag} ${text}: not a whole number from 10`);
  return value;
};
const runs = number('runs', values.runs);
const units = number('units', values.units);
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function table(title: string, head: readonly string[], rows: readonly (readonly string[])[]): void {
  console.log(`\n${title}\n\n${row(head)}\n${row(head.map((_, i) => (i === 0 ? '---' : '--:')))}`);
  for (const cells of rows) console.log(row(cells));
}

function looks(): void {
  const found = SHAPES.map((shape, i) => {
    const began = performance.now();
    const wrong = simulateLooks(shape, { runs, units, seed: 100 + i });
    console.error(`${shape.name}: ${((performance.now() - began) / 1_000).toFixed(0)} s`);
    return { name: shape.name, wrong };
  });
  const head = ['treatment’s share', ...SPLITS.map((share) => `${Math.round(100 * share)} %`)];
  const of = (which: 'verdicts' | 'guardrails') =>
    found.map(({ name, wrong }) => [name, ...wrong[which].map(percent)]);
  const what = `${runs} experiments without a difference, looked at all the time, to ${units} units`;
  table(`False verdicts: ${what}`, head, of('verdicts'));
  table(`Guardrails without an allowance that are lost by mistake: ${what}`, head, of('guardrails'));
}

function before(): void {
  const rows = BEFORE_SHAPES.flatMap((shape, i) => {
    const cells = simulateBefore(shape, { runs, units: Math.min(units, 20_000), seed: 300 + i });
    return KNOWN.map((known) => {
      const own = cells.filter((cell) => cell.known === known);
      const [even] = own;
      const plain = cells.find((cell) => cell.known === 0 && cell.split === even!.split);
      return [
        shape.name,
        percent(known),
        ...own.map(({ called }) => percent(called)),
        (even!.width / plain!.width).toFixed(2),
      ];
    });
  });
  const head = ['values', 'known', ...BEFORE_SPLITS.map((split) => `${100 * split} %`), 'width'];
  table(`CUPED with gaps: ${runs} experiments without a difference, by treatment’s share`, head, rows);
}

const PARTS: Readonly<Record<string, () => void>> = { looks, before };
for (const [name, part] of Object.entries(PARTS))
  if (values.only === undefined || values.only === name) part();
