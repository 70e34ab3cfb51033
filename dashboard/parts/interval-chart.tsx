import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { pointedAt, valueRange, type IntervalColumns, type Scale } from '../model/interval-series.ts';
import { TICK_SECONDS, tickWords, timeRange } from '../model/time-series.ts';
import { moment, number, percent, signed } from '../model/words.ts';

const HEIGHT = 260;
/** Before the first width is known. */
const WIDTH = 320;

/**
 * Each variant's interval as a band with its estimate in it, and 0, which it has to leave. The table below has the same
 * figures for those who do not see it.
 */
export function IntervalChart(props: { columns: IntervalColumns; scale: Scale; metric: string }) {
  const { columns, scale, metric } = props;
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const dark = useDark();
  const [pointed, setPointed] = useState<number | null>(null);
  const drawn = columns.series.some(({ estimate }) => estimate.some((value) => value !== null));
  const names = drawn ? columns.series.map(({ variant }) => variant).join(' ') : '';

  // Made anew when the lines are others; new looks of the same ones are only data.
  useEffect(() => {
    const element = place.current;
    if (element === null || names === '') return;
    const made = new uPlot(
      options({
        ...{ element, variants: names.split(' '), scale, onPoint: setPointed },
        columns: () => latest.current,
      }),
      dataOf(latest.current),
      element,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [names, scale, metric, dark]);
  const latest = useRef(columns);
  latest.current = columns;
  useEffect(() => plot.current?.setData(dataOf(columns)), [columns]);

  if (names === '')
    return <p class="hint">No look has an interval of {metric} yet: it takes some values of each variant.</p>;
  return (
    <>
      <div ref={place} class="chart" role="img" aria-label={said(columns, scale, metric)} />
      <Readout columns={columns} scale={scale} pointed={pointed} />
    </>
  );
}

const writer =
  (scale: Scale) =>
  (value: number): string =>
    signed(scale === 'lift' ? percent(value) : number(value));

/** The values that the pointer is at; the last ones while it is elsewhere. */
function Readout(props: { columns: IntervalColumns; scale: Scale; pointed: number | null }) {
  const { columns, scale, pointed } = props;
  const last = columns.times.length - 1;
  const index = pointed === null || pointed > last ? last : pointed;
  const write = writer(scale);
  const at = columns.times[index];
  if (at === undefined) return null;
  return (
    <p class="readout">
      <time class="hint">{moment(1000 * at)}</time>
      {pointedAt(columns, index).map(({ variant, low, estimate, high }) => (
        <span key={variant}>
          <span
            class={`dot series-${(columns.series.findIndex((one) => one.variant === variant) % 4) + 1}`}
          />
          {variant} <strong>{write(estimate)}</strong>{' '}
          <span class="hint">
            {write(low)} to {write(high)}
          </span>
        </span>
      ))}
    </p>
  );
}

const dataOf = ({ times, series }: IntervalColumns): uPlot.AlignedData => [
  times,
  ...series.flatMap(({ low, estimate, high }) => [high, estimate, low]),
];

function options(params: {
  element: HTMLElement;
  variants: readonly string[];
  scale: Scale;
  /** What is drawn now. */
  columns: () => IntervalColumns;
  /** Told of the look that the pointer is nearest to; null = it is elsewhere. */
  onPoint: (index: number | null) => void;
}): uPlot.Options {
  const { element, variants, scale, columns } = params;
  const style = getComputedStyle(element);
  const color = (name: string): string => style.getPropertyValue(name).trim();
  const ink = color('--muted');
  const line = color('--line');
  const font = `12px ${style.fontFamily}`;
  const write = writer(scale);
  const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return {
    width: element.clientWidth || WIDTH,
    height: HEIGHT,
    padding: [12, 30, 0, 0],
    legend: { show: false },
    // A line at the look that is pointed at; nothing is chosen or enlarged by it.
    cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
    scales: {
      // Of a single look uPlot itself makes three years.
      x: { range: () => timeRange(columns().times[0] ?? 0, columns().times.at(-1) ?? 0) },
      y: { range: () => valueRange(columns()) },
    },
    axes: [
      { ...axis, space: 70, incrs: [...TICK_SECONDS], values: (_, ticks) => tickWords(ticks) },
      { ...axis, size: (_, words) => roomFor(words), values: (_, ticks) => ticks.map(write) },
    ],
    series: [
      {},
      ...variants.flatMap((variant, i): uPlot.Series[] => {
        const stroke = color(`--series-${(i % 4) + 1}`);
        const edge = { stroke, width: 0, points: { show: false }, spanGaps: false };
        return [
          { ...edge, label: `${variant} high` },
          { label: variant, stroke, width: 2, points: { show: true, size: 5, stroke, fill: stroke } },
          { ...edge, label: `${variant} low` },
        ];
      }),
    ],
    bands: variants.map((_, i) => ({
      series: [3 * i + 1, 3 * i + 3],
      fill: color(`--band-${(i % 4) + 1}`),
    })),
    hooks: {
      draw: [
        (made) => drawZero(made, color('--text')),
        (made) => drawSingle(made, columns(), (i) => color(`--series-${(i % 4) + 1}`)),
      ],
      setCursor: [
        ({ cursor }) =>
          params.onPoint(cursor.left === undefined || cursor.left < 0 ? null : (cursor.idx ?? null)),
      ],
    },
  };
}

function drawZero(made: uPlot, stroke: string): void {
  const { ctx, bbox } = made;
  const y = Math.round(made.valToPos(0, 'y', true)) + 0.5;
  ctx.save();
  ctx.strokeStyle = stroke;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

/** A band needs two looks: of one, each variant's interval is a line. */
function drawSingle(made: uPlot, { times, series }: IntervalColumns, strokeOf: (i: number) => string): void {
  const [at] = times;
  if (at === undefined || times.length > 1) return;
  const { ctx } = made;
  ctx.save();
  ctx.lineWidth = 2 * devicePixelRatio;
  for (const [i, { low, high }] of series.entries()) {
    const [from, to] = [low[0], high[0]];
    if (from == null || to == null) continue;
    // Beside each other, so that none hides another.
    const x = made.valToPos(at, 'x', true) + 6 * devicePixelRatio * (i - (series.length - 1) / 2);
    ctx.strokeStyle = strokeOf(i);
    ctx.beginPath();
    ctx.moveTo(x, made.valToPos(from, 'y', true));
    ctx.lineTo(x, made.valToPos(to, 'y', true));
    ctx.stroke();
  }
  ctx.restore();
}

/** Pixels that the longest of the words takes, in the font above; none are known when the chart is made. */
const roomFor = (words: readonly string[] | null): number =>
  16 + 7 * Math.max(4, ...(words ?? []).map(({ length }) => length));

function said({ series }: IntervalColumns, scale: Scale, metric: string): string {
  const write = writer(scale);
  const last = series.map(({ variant, low, high }) => {
    const from = low.findLast((value) => value !== null);
    const to = high.findLast((value) => value !== null);
    return from == null || to == null
      ? `${variant}: nothing yet`
      : `${variant}: ${write(from)} to ${write(to)}`;
  });
  return `${scale === 'lift' ? 'Lift' : 'Difference'} of ${metric} over time; at the last look ${last.join('; ')}`;
}

/** Canvas takes its colours once: it is drawn again when they change. */
function useDark(): boolean {
  const [dark, setDark] = useState(() => matchMedia('(prefers-color-scheme: dark)').matches);
  useEffect(() => {
    const query = matchMedia('(prefers-color-scheme: dark)');
    const onChange = () => setDark(query.matches);
    query.addEventListener('change', onChange);
    return () => query.removeEventListener('change', onChange);
  }, []);
  return dark;
}
