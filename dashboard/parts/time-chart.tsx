import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { type Grid, roundedUp, tickWords, timeTicks } from '../model/time-series.ts';
import { moment } from '../model/words.ts';

export interface ChartSeries {
  readonly name: string;
  /** One for each time of the grid; null = not known there. */
  readonly values: readonly (number | null)[];
  /** 1 to 4, or `alarm`. */
  readonly color: 1 | 2 | 3 | 4 | 'alarm';
}

const HEIGHT = 168;
const PLOT = { top: 10, bottom: 34, left: 52, right: 10 };
/** Pixels that the words of a tick take. */
const TICK_WIDTH = 76;
/** Pixels of a figure in it, in the widest of the fonts that browsers take. */
const FIGURE_WIDTH = 7;
/** Before the first width is known. */
const WIDTH = 320;

/**
 * One chart over time. Bars are stacked, the first series lowest; lines leave gaps where nothing is known. What the
 * pointer is on is written above; the figures beside the chart have its sums for those who do not see it.
 * @param write a value with its unit.
 */
export function TimeChart(props: {
  title: string;
  grid: Grid;
  kind: 'bars' | 'lines';
  series: readonly ChartSeries[];
  write: (value: number) => string;
  /** Below the title. */
  children?: ComponentChildren;
}) {
  const { title, grid, kind, series, write } = props;
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(WIDTH);
  const [pointed, setPointed] = useState<number | null>(null);
  useEffect(() => {
    const element = place.current;
    if (element === null) return;
    const watch = new ResizeObserver(() => setWidth(Math.max(200, element.clientWidth)));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  const count = grid.times.length;
  const inner = { width: width - PLOT.left - PLOT.right, height: HEIGHT - PLOT.top - PLOT.bottom };
  const tops = grid.times.map((_, i) => {
    const values = series.map(({ values: of }) => of[i] ?? 0);
    return kind === 'bars' ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values);
  });
  const most = roundedUp(Math.max(0, ...tops));
  const x = (i: number): number => PLOT.left + (inner.width * i) / count;
  const y = (value: number): number => PLOT.top + inner.height * (1 - value / most);
  const ticks = timeTicks(grid, Math.max(2, Math.floor(inner.width / TICK_WIDTH)));
  const words = tickWords(ticks.map((at) => at / 1000));
  const shown = pointed !== null && pointed < count ? pointed : null;
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
      <div ref={place}>
        <svg
          width={width}
          height={HEIGHT}
          role="img"
          aria-label={said(title, series, write)}
          onPointerMove={(event) => {
            const at = event.clientX - event.currentTarget.getBoundingClientRect().left - PLOT.left;
            setPointed(Math.min(count - 1, Math.max(0, Math.floor((at / inner.width) * count))));
          }}
          onPointerLeave={() => setPointed(null)}
        >
          {[0, 0.5, 1].map((share) => (
            <g key={share}>
              <line
                class="rule"
                x1={PLOT.left}
                x2={width - PLOT.right}
                y1={y(share * most)}
                y2={y(share * most)}
              />
              {/* Half of one request is written as one: twice the same would be another scale. */}
              {(share === 1 || write(share * most) !== write(most)) && (
                <text class="tick" x={PLOT.left - 6} y={y(share * most) + 4} text-anchor="end">
                  {write(share * most)}
                </text>
              )}
            </g>
          ))}
          {ticks.map((at, i) => {
            const left = x((at - (grid.times[0] ?? 0)) / grid.step);
            const lines = (words[i] ?? '').split('\n');
            // At the end a word would be cut.
            if (left + FIGURE_WIDTH * Math.max(...lines.map(({ length }) => length)) > width) return null;
            return lines.map((line, row) => (
              <text key={`${at} ${row}`} class="tick" x={left} y={HEIGHT - 18 + 14 * row} text-anchor="start">
                {line}
              </text>
            ));
          })}
          {shown !== null && (
            <rect
              class="pointed"
              x={x(shown)}
              y={PLOT.top}
              width={inner.width / count}
              height={inner.height}
            />
          )}
          {kind === 'bars' ? (
            <Bars {...{ series, x, y, count }} width={inner.width} />
          ) : (
            <Lines {...{ series, x, y }} />
          )}
        </svg>
      </div>
      {props.children}
    </figure>
  );
}

function Bars(props: {
  series: readonly ChartSeries[];
  count: number;
  width: number;
  x: (i: number) => number;
  y: (value: number) => number;
}) {
  const { series, count, x, y } = props;
  const each = props.width / count;
  const gap = each > 4 ? 1 : 0;
  return (
    <>
      {series.map(({ name, color, values }, nth) => {
        const below = (i: number): number =>
          series.slice(0, nth).reduce((sum, before) => sum + (before.values[i] ?? 0), 0);
        const path = values.map((value, i) => {
          if (!value) return '';
          const [from, to] = [y(below(i)), y(below(i) + value)];
          // What is there is seen, however small.
          const top = Math.min(to, from - 1);
          return `M${x(i).toFixed(2)} ${from.toFixed(2)}V${top.toFixed(2)}h${(each - gap).toFixed(2)}V${from.toFixed(2)}z`;
        });
        return <path key={name} class={`fill color-${color}`} d={path.join('')} />;
      })}
    </>
  );
}

function Lines(props: {
  series: readonly ChartSeries[];
  x: (i: number) => number;
  y: (value: number) => number;
}) {
  const { series, x, y } = props;
  return (
    <>
      {series.map(({ name, color, values }) => {
        const alone: number[] = [];
        const path = values.map((value, i) => {
          if (value === null) return '';
          const begins = values[i - 1] == null;
          if (begins && values[i + 1] == null) alone.push(i);
          const place = `${x(i + 0.5).toFixed(2)} ${y(value).toFixed(2)}`;
          return `${begins ? 'M' : 'L'}${place}`;
        });
        return (
          <g key={name} class={`color-${color}`}>
            <path class="stroke" d={path.join('')} />
            {alone.map((i) => (
              <circle key={i} class="fill" cx={x(i + 0.5)} cy={y(values[i] ?? 0)} r="3" />
            ))}
          </g>
        );
      })}
    </>
  );
}

function said(title: string, series: readonly ChartSeries[], write: (value: number) => string): string {
  const parts = series.map(({ name, values }) => {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? `${name}: nothing` : `${name}: at most ${write(Math.max(...known))}`;
  });
  return `${title} over time; ${parts.join(', ')}`;
}
