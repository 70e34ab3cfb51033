/**
 * How often experiments are wrong, as docs/internals/statistics.md says it: `node --import tsx bench/experiment-errors.ts
 * [--runs 2000] [--units 50000] [--only looks|before|ratio|found]`. By hand: ten minutes of one core. Prints markdown tables.
 */
import { parseArgs } from 'node:util';
import { BEFORE_SHAPES, BEFORE_SPLITS, KNOWN, simulateBefore } from './experiment-errors/before.ts';
import { simulateFound } from './experiment-errors/found.ts';
import { simulateLooks, SPLITS } from './experiment-errors/looks.ts';
import { BROKEN, HEALTHY, simulateRatio } from './experiment-errors/ratio.ts';
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

function ratio(): void {
  const shown = (shares: readonly number[]) =>
    shares.map((share) => Number((100 * share).toFixed(2))).join(' / ');
  table(
    `Healthy experiments that alarm until so many units have come, ${runs} each`,
    ['shares', '1,000', '10,000', '100,000', '1,000,000'],
    HEALTHY.map((split, i) => {
      const alarms = simulateRatio(split, { runs, units: 1_000_000, seed: 500 + i });
      const by = (most: number) => percent(alarms.filter((n) => n <= most).length / runs);
      return [shown(split.expected), by(1_000), by(10_000), by(100_000), by(1_000_000)];
    }),
  );
  const few = Math.ceil(runs / 10);
  table(
    `Units until a broken one alarms, ${few} each`,
    ['expected', 'true', 'median', 'nine in ten'],
    BROKEN.map((split, i) => {
      const alarms = simulateRatio(split, { runs: few, units: 1_000_000, seed: 600 + i });
      const at = (share: number) => String(alarms[Math.floor(share * few)] ?? '–');
      return [shown(split.expected), shown(split.true), at(0.5), at(0.9)];
    }),
  );
}

function found(): void {
  const few = Math.ceil(runs / 4);
  const effects = [0.5, 0.1].flatMap((treatment) =>
    (
      [
        [0.3, 0.2],
        [0.3, 0.1],
        [0.3, -0.1],
        [0.05, 0.5],
        [0.05, -0.5],
      ] as const
    ).map(([rate, lift]) => ({ rate, lift, treatment })),
  );
  table(
    `Planned and found, ${few} experiments each; control has the rate, treatment the lift`,
    [
      'rate',
      'lift',
      'treatment’s share',
      'units planned',
      'promised',
      'found',
      'interval without the truth',
      'not worse than this lift',
    ],
    effects.map((effect, i) => {
      const { planned, promised, missed, kept, ...seen } = simulateFound(effect, {
        runs: few,
        seed: 700 + i,
      });
      return [
        percent(effect.rate),
        percent(effect.lift),
        percent(effect.treatment),
        String(planned),
        percent(promised),
        percent(seen.found),
        percent(missed),
        effect.lift < 0 ? percent(kept) : '–',
      ];
    }),
  );
}

const PARTS: Readonly<Record<string, () => void>> = { looks, before, ratio, found };
for (const [name, part] of Object.entries(PARTS))
  if (values.only === undefined || values.only === name) part();
