/** Charts, with one style and engine for traffic, origins, experiment intervals and loss curves. */
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import { lossRange, lossText, type LossColumns } from '../model/training-card.ts';
import { pointedAt, valueRange, type IntervalColumns, type Scale } from '../model/interval-series.ts';
import { TICK_SECONDS, tickWords, timeRange, timeTicks, roundedUp, type Grid } from '../model/time-series.ts';
import { moment, number, percent, signed } from '../model/words.ts';

/** Width before the first measurement. */
const WIDTH = 320;

/** Styles that options take from the page. */
interface PlotStyle {
  /** The value of one of its variables, such as `--line`. */
  readonly color: (name: string) => string;
  /** Of both axes. */
  readonly axis: uPlot.Axis;
}

type PlotOptions = Omit<uPlot.Options, 'width' | 'height'>;

/**
 * A plot as wide as its container, which reports the pointer's position.
 * @param params.about identifies its options: when it changes, the plot is rebuilt; null = no plot. New data
 * alone is only redrawn.
 * @returns its element, and the index of the time nearest to the pointer; null = the pointer is elsewhere.
 */
function usePlot(params: {
  about: string | null;
  height: number;
  data: uPlot.AlignedData;
  options: (style: PlotStyle) => PlotOptions;
}) {
  const { about, height, data } = params;
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(params);
  latest.current = params;
  const dark = useDark();
  const [pointed, setPointed] = useState<number | null>(null);
  useEffect(() => {
    const element = place.current;
    if (element === null || about === null) return;
    const style = getComputedStyle(element);
    const color = (name: string): string => style.getPropertyValue(name).trim();
    const axis: uPlot.Axis = {
      stroke: color('--muted'),
      font: `11px ${style.fontFamily}`,
      grid: { stroke: color('--line'), width: 1 },
      ticks: { show: false },
    };
    const { hooks, ...options } = latest.current.options({ color, axis });
    const made = new uPlot(
      {
        ...options,
        width: element.clientWidth || WIDTH,
        height,
        legend: { show: false },
        // A line at the pointer; no selection or zoom.
        cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
        hooks: {
          ...hooks,
          setCursor: [
            ({ cursor }) =>
              setPointed(cursor.left === undefined || cursor.left < 0 ? null : (cursor.idx ?? null)),
          ],
        },
      },
      latest.current.data,
      element,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [about, height, dark]);
  useEffect(() => plot.current?.setData(data), [data]);
  return { place, pointed };
}

/** A canvas does not follow colour changes, so it is redrawn. */
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

export interface ChartSeries {
  readonly name: string;
  /** One per time of the grid; null = unknown. */
  readonly values: readonly (number | null)[];
  /** 1 to 4, or `alarm`. */
  readonly color: 1 | 2 | 3 | 4 | 'alarm';
}

interface Timed {
  readonly grid: Grid;
  readonly kind: 'bars' | 'lines';
  readonly series: readonly ChartSeries[];
  /** A value with its unit. */
  readonly write: (value: number) => string;
}

const TIME_HEIGHT = 168;
const FRAME = { top: 10, right: 10, bottom: 34, left: 52 };
/** Pixels per tick label. */
const TICK_WIDTH = 76;
/** Pixels of a digit, in the widest of the browsers' fonts. */
const FIGURE_WIDTH = 7;

/**
 * One chart over time. Bars are stacked, the first series lowest; lines have gaps where data is missing. Values
 * under the pointer are shown above; the figures beside the chart give the sums to readers who do not see it.
 */
export function TimeChart(
  props: Timed & {
    title: string;
    /** Below the title. */
    children?: ComponentChildren;
  },
) {
  const { title, grid, kind, series, write } = props;
  const latest = useRef<Timed>(props);
  latest.current = props;
  const { place, pointed } = usePlot({
    about: [kind, ...series.map(({ color }) => color)].join(' '),
    height: TIME_HEIGHT,
    data: useMemo(() => timeData(props), [grid, kind, series]),
    options: (style) => timeOptions(() => latest.current, style),
  });
  const shown = pointed !== null && pointed < grid.times.length ? pointed : null;
  return (
    <figure class="time-chart">
      <figcaption>
        <h3>{title}</h3>
        <p class="legend">
          {series.map(({ name, color, values }) => (
            <span key={name}>
              <i class={`swatch color-${color}`} /> {name}
              {shown !== null && <strong> {values[shown] == null ? '–' : write(values[shown] ?? 0)}</strong>}
            </span>
          ))}
          {shown !== null && <time>{moment(grid.times[shown] ?? 0)}</time>}
        </p>
      </figcaption>
      <div ref={place} role="img" aria-label={timeWords(title, series, write)} />
      {props.children}
    </figure>
  );
}

/** Unit of the value axis. */
function topOf({ grid, kind, series }: Timed): number {
  const tops = grid.times.map((_, i) => {
    const values = series.map(({ values: of }) => of[i] ?? 0);
    return kind === 'bars' ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values);
  });
  return roundedUp(Math.max(0, ...tops));
}

/** In the middle of each step; bars contain cumulative sums. */
function timeData({ grid, kind, series }: Timed): uPlot.AlignedData {
  const times = grid.times.map((at) => (at + grid.step / 2) / 1000);
  if (kind === 'lines') return [times, ...series.map(({ values }) => [...values])];
  let sums = times.map(() => 0);
  return [times, ...series.map(({ values }) => (sums = sums.map((below, i) => below + (values[i] ?? 0))))];
}

/** Each bar starts at the end of the previous series. */
function stackedBars({ data, bbox, valToPos }: uPlot, nth: number): uPlot.Series.Paths {
  const fill = new Path2D();
  const each = bbox.width / data[0].length;
  const gap = each > 4 * devicePixelRatio ? devicePixelRatio : 0;
  for (const [i, sum] of data[nth]!.entries()) {
    const below = nth === 1 ? 0 : data[nth - 1]![i]!;
    if (sum === below) continue;
    const [from, to] = [valToPos(below, 'y', true), valToPos(sum!, 'y', true)];
    // Small values stay visible.
    const height = Math.max(from - to, devicePixelRatio);
    fill.rect(bbox.left + i * each, from - height, each - gap, height);
  }
  return { fill };
}

function timeOptions(latest: () => Timed, { color, axis }: PlotStyle): PlotOptions {
  const { kind, series } = latest();
  const write = (value: number): string => latest().write(value);
  const begin = (): number => latest().grid.times[0] ?? 0;
  const end = (): number => begin() + latest().grid.times.length * latest().grid.step;
  const inner = ({ width }: uPlot): number => width - FRAME.left - FRAME.right;
  const drawn = series.map(({ color: of }): uPlot.Series => {
    const ink = color(of === 'alarm' ? '--alarm' : `--series-${of}`);
    return kind === 'bars'
      ? { fill: ink, width: 0, points: { show: false }, paths: stackedBars }
      : { stroke: ink, width: 2, points: { show: false, filter: alone, size: 6, fill: ink } };
  });
  return {
    padding: [FRAME.top, FRAME.right, 0, 0],
    scales: {
      x: { range: () => [begin() / 1000, end() / 1000] },
      y: { range: () => [0, topOf(latest())] },
    },
    axes: [
      {
        ...axis,
        size: FRAME.bottom,
        align: 1,
        grid: { show: false },
        splits: (plot) =>
          timeTicks(latest().grid, Math.max(2, Math.floor(inner(plot) / TICK_WIDTH))).map((at) => at / 1000),
        values: (plot, ticks) =>
          tickWords(ticks, latest().grid.step / 1000).map((words, i) => {
            const left = (inner(plot) * (1000 * ticks[i]! - begin())) / (end() - begin());
            const wide = FIGURE_WIDTH * Math.max(...words.split('\n').map(({ length }) => length));
            // At the end a label would be cut off.
            return left + wide > inner(plot) + FRAME.right ? '' : words;
          }),
      },
      {
        ...axis,
        size: FRAME.left,
        splits: (_, __, from, to) => [from, to / 2, to],
        // Half a request is shown as one: repeating the label would suggest another scale.
        values: (_, [from, half, to]) =>
          [from!, half!, to!].map((value) =>
            value === half && write(half) === write(to!) ? '' : write(value),
          ),
      },
    ],
    series: [{}, ...drawn],
  };
}

/** A value between two gaps has no line, so it is drawn as a point. */
const alone = ({ data }: uPlot, nth: number): number[] => {
  const values = data[nth]!;
  return [...values.keys()].filter(
    (i) => values[i] != null && values[i - 1] == null && values[i + 1] == null,
  );
};

function timeWords(title: string, series: readonly ChartSeries[], write: (value: number) => string): string {
  const parts = series.map(({ name, values }) => {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? `${name}: nothing` : `${name}: at most ${write(Math.max(...known))}`;
  });
  return `${title} over time; ${parts.join(', ')}`;
}

/** Losses over the steps of a training; those under the pointer are shown above. */
export function LossChart({ columns }: { columns: LossColumns }) {
  const latest = useRef(columns);
  latest.current = columns;
  const { steps, training, heldOut } = columns;
  const isHeldOut = heldOut.some((loss) => loss !== null);
  const { place, pointed } = usePlot({
    about: steps.length === 0 ? null : String(isHeldOut),
    height: TIME_HEIGHT,
    data: useMemo((): uPlot.AlignedData => [[...steps], [...training], [...heldOut]], [columns]),
    options: (style) => lossOptions(() => latest.current, style),
  });
  if (steps.length === 0) return null;
  const at = pointed !== null && pointed < steps.length ? pointed : null;
  const series = [
    { name: 'training', color: 1, values: training },
    ...(isHeldOut ? [{ name: 'held out', color: 2, values: heldOut }] : []),
  ] as const;
  return (
    <figure class="time-chart">
      <figcaption>
        <h4>Loss</h4>
        <p class="legend">
          {series.map(({ name, color, values }) => (
            <span key={name}>
              <i class={`swatch color-${color}`} /> {name}
              {at !== null && <strong> {values[at] == null ? '–' : lossText(values[at])}</strong>}
            </span>
          ))}
          {at !== null && <span class="push">step {steps[at]}</span>}
        </p>
      </figcaption>
      <div
        ref={place}
        role="img"
        aria-label={`Loss over ${steps.at(-1)} steps; ${series.map(({ name, values }) => `${name}: ${fromTo(values)}`).join(', ')}`}
      />
    </figure>
  );
}

function fromTo(values: readonly (number | null)[]): string {
  const known = values.filter((value) => value !== null);
  return `from ${lossText(known[0] ?? 0)} to ${lossText(known.at(-1) ?? 0)}`;
}

function lossOptions(latest: () => LossColumns, { color, axis }: PlotStyle): PlotOptions {
  const line = (nth: number): uPlot.Series => {
    const stroke = color(`--series-${nth}`);
    return {
      stroke,
      width: 2,
      spanGaps: true,
      points: { show: false, filter: alone, size: 6, fill: stroke },
    };
  };
  return {
    // The last step's number is centred at the end.
    padding: [FRAME.top, 2 * FRAME.right, 0, 0],
    scales: {
      x: {
        time: false,
        // A single point would have no width.
        range: () => [
          latest().steps[0] ?? 0,
          Math.max(latest().steps.at(-1) ?? 0, (latest().steps[0] ?? 0) + 1),
        ],
      },
      y: { range: () => lossRange(latest()) },
    },
    axes: [
      { ...axis, grid: { show: false }, size: STEP_AXIS, values: (_, ticks) => ticks.map(stepWord) },
      {
        ...axis,
        size: FRAME.left,
        splits: (_, __, from, to) => [from, from / 2 + to / 2, to],
        values: (_, ticks) => ticks.map(lossText),
      },
    ],
    series: [{}, line(1), line(2)],
  };
}

const STEP_AXIS = 24;
/** Only whole steps have a label. */
const stepWord = (step: number): string => (Number.isInteger(step) ? String(step) : '');

const INTERVAL_HEIGHT = 260;

/**
 * Each variant's interval as a band with its estimate, and the line at 0, which a significant interval
 * excludes. The table below gives the same figures to readers who do not see it.
 */
export function IntervalChart(props: { columns: IntervalColumns; scale: Scale; metric: string }) {
  const { columns, scale, metric } = props;
  const latest = useRef(columns);
  latest.current = columns;
  const drawn = columns.series.some(({ estimate }) => estimate.some((value) => value !== null));
  const variants = columns.series.map(({ variant }) => variant);
  const { place, pointed } = usePlot({
    about: drawn ? [...variants, scale, metric].join(' ') : null,
    height: INTERVAL_HEIGHT,
    data: useMemo(() => intervalData(columns), [columns]),
    options: (style) => intervalOptions({ variants, scale, columns: () => latest.current }, style),
  });

  if (!drawn)
    return <p class="hint">No look has an interval for {metric} yet: each variant needs more values.</p>;
  return (
    <>
      <div ref={place} class="chart" role="img" aria-label={intervalWords(columns, scale, metric)} />
      <Readout columns={columns} scale={scale} pointed={pointed} />
    </>
  );
}

const writer =
  (scale: Scale) =>
  (value: number): string =>
    signed(scale === 'lift' ? percent(value) : number(value));

/** Values under the pointer; the last ones while it is elsewhere. */
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

const intervalData = ({ times, series }: IntervalColumns): uPlot.AlignedData => [
  times,
  ...series.flatMap(({ low, estimate, high }) => [high, estimate, low]),
];

function intervalOptions(
  params: {
    variants: readonly string[];
    scale: Scale;
    /** The current plot. */
    columns: () => IntervalColumns;
  },
  { color, axis }: PlotStyle,
): PlotOptions {
  const { variants, scale, columns } = params;
  const write = writer(scale);
  return {
    padding: [12, 30, 0, 0],
    scales: {
      // For a single look uPlot itself would show three years.
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

/** A band needs two looks: with one, each variant's interval is a line. */
function drawSingle(made: uPlot, { times, series }: IntervalColumns, strokeOf: (i: number) => string): void {
  const [at] = times;
  if (at === undefined || times.length > 1) return;
  const { ctx } = made;
  ctx.save();
  ctx.lineWidth = 2 * devicePixelRatio;
  for (const [i, { low, high }] of series.entries()) {
    const [from, to] = [low[0], high[0]];
    if (from == null || to == null) continue;
    // Side by side, so that none hides another.
    const x = made.valToPos(at, 'x', true) + 6 * devicePixelRatio * (i - (series.length - 1) / 2);
    ctx.strokeStyle = strokeOf(i);
    ctx.beginPath();
    ctx.moveTo(x, made.valToPos(from, 'y', true));
    ctx.lineTo(x, made.valToPos(to, 'y', true));
    ctx.stroke();
  }
  ctx.restore();
}

/** Pixels of the longest label, in the font above; unknown when the chart is created. */
const roomFor = (words: readonly string[] | null): number =>
  16 + 7 * Math.max(4, ...(words ?? []).map(({ length }) => length));

function intervalWords({ series }: IntervalColumns, scale: Scale, metric: string): string {
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
