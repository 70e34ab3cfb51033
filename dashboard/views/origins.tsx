import { useEffect, useRef, useState } from 'preact/hooks';
import type { NamedFile, OriginView, OriginHistory } from '../../protocol/admin-api/origins.ts';
import type { Client } from '../api/client.ts';
import { hashOf } from '../model/view.ts';
import { bytes, duration, lasting, number, percent, amount, moment } from '../model/words.ts';
import { Breakable, Table } from '../parts/table.tsx';
import { Answered, Skeleton } from '../parts/notes.tsx';
import { useLoad } from '../parts/hooks.ts';
import type { OriginFigures } from '../../protocol/origin-wire.ts';
import { fromFirst, gridOf, valuesOf } from '../model/time-series.ts';
import { TimeChart } from '../parts/charts.tsx';

const REFRESH_MS = 5_000;
/** Averaging window of rates: shorter ones jump with each request. */
const WINDOW_MS = 60_000;

export function OriginsView({ client }: { client: Client }) {
  const origins = useLoad(
    'origins',
    () => client.call('GET /admin/origins', { query: { figures: 'true', names: 'true' } }),
    REFRESH_MS,
  );
  const { data } = origins;
  const rates = useRates(data?.origins ?? null);
  return (
    <>
      <h1>Origins</h1>
      <Answered of={[origins]}>
        {data === null && origins.problem === null && <Skeleton label="origins" rows={6} />}
        {data?.origins.some(({ base, figures }) => base !== null && figures == null) === true && (
          <p class="note calm">Only the bootstrap key sees how busy an origin is, and what it holds.</p>
        )}
        {data?.origins.length === 0 && (
          <p class="blank">
            <strong>This edge has no origin.</strong> No model can be served until you list one in{' '}
            <code>ORIGINS</code>. See docs/run/cloudflare.md.
          </p>
        )}
        <div class="cards">
          {data?.origins.map((origin) => (
            <OriginCard
              key={origin.id}
              client={client}
              origin={origin}
              names={data.names ?? []}
              rates={rates.get(origin.id) ?? null}
            />
          ))}
        </div>
      </Answered>
    </>
  );
}

/** Compares each answer with the oldest one of the last minute. */
function useRates(origins: readonly OriginView[] | null): ReadonlyMap<string, OriginRates> {
  const kept = useRef(new Map<string, Measured[]>());
  const [rates, setRates] = useState<ReadonlyMap<string, OriginRates>>(new Map());
  useEffect(() => {
    const at = Date.now();
    const found = new Map<string, OriginRates>();
    for (const { id, figures } of origins ?? []) {
      if (figures == null) continue;
      const before = (kept.current.get(id) ?? []).filter((one) => one.at >= at - WINDOW_MS);
      found.set(id, originRates(before[0] ?? null, { at, figures }));
      kept.current.set(id, [...before, { at, figures }]);
    }
    setRates(found);
  }, [origins]);
  return rates;
}

function OriginCard(props: {
  client: Client;
  origin: OriginView;
  names: readonly NamedFile[];
  rates: OriginRates | null;
}) {
  const { client, origin, names, rates } = props;
  const { id, base, figures, residents, configured_base: configured } = origin;
  const isWrong = base !== null && configured !== undefined && configured !== base.id;
  return (
    <section class="card" aria-label={`Origin ${id}`}>
      <div class="title">
        <h2 class="name">{id}</h2>
        <span class={`state ${base === null || isWrong ? 'lost' : 'live'}`}>
          {base === null ? 'no answer' : isWrong ? 'wrong base' : 'answers'}
        </span>
      </div>
      {base === null ? (
        <p class="hint">
          {origin.reason?.replace(/[^.]$/, '$&.') ?? 'It did not answer the edge.'} Check that it runs and has
          the same <code>GRAFT_ORIGIN_KEYS</code> and <code>--origin-id</code>.
          {configured !== undefined && ` It should serve ${configured}.`}
        </p>
      ) : (
        <p class="facts">
          {base.id}, {base.weights}, context {number(base.context)}
        </p>
      )}
      {isWrong && (
        <p class="note">
          The edge's <code>ORIGINS</code> lists it with {configured}, so it gets no requests. Restart it with
          that base, or correct <code>ORIGINS</code>.
        </p>
      )}
      {figures != null && rates !== null && (
        <>
          <dl class="figures">
            <Figure
              name="Throughput"
              value={rates.throughput === null ? '–' : `${number(rates.throughput)} tokens/s`}
            />
            <Figure name="TTFT" value={rates.ttft === null ? '–' : duration(rates.ttft)} />
            <Figure name="Per token" value={rates.perToken === null ? '–' : duration(rates.perToken)} />
            <Figure name="Rows in a step" value={rates.batch === null ? '–' : number(rates.batch)} />
          </dl>
          <p class="hint">
            {rates.since === 'earlier' ? 'Means over the last minute.' : 'Means since it started.'} Up for{' '}
            {lasting(Date.now() - figures.started_at)}.
          </p>
          <Gauge
            name="Rows"
            part={figures.rows_running}
            whole={figures.slots}
            text={`${figures.rows_running} of ${figures.slots} run, ${figures.requests_waiting} wait, ${figures.requests_loading} load`}
          />
          <Gauge
            name="Context"
            part={figures.kv_tokens}
            whole={figures.kv_capacity_tokens}
            text={`${number(figures.kv_tokens)} of ${number(figures.kv_capacity_tokens)} tokens`}
          />
          <Gauge
            name="Adapters"
            part={figures.adapter_bytes}
            whole={figures.adapter_budget_bytes}
            text={`${figures.adapters_resident} resident, ${bytes(figures.adapter_bytes)} of ${bytes(figures.adapter_budget_bytes)}`}
          />
          <p class="hint">
            Memory of the process {bytes(figures.memory_bytes)}. {number(figures.requests_finished)} requests,{' '}
            {number(figures.completion_tokens)} tokens; adapters loaded {number(figures.adapter_loads)} times,
            unloaded {number(figures.adapter_evictions)} times.
          </p>
        </>
      )}
      {figures != null && <OriginHistoryCharts client={client} origin={id} />}
      {residents !== null && residents.adapters.length > 0 && (
        <OriginResidents
          origin={id}
          residents={residents.adapters}
          names={names}
          budget={residents.budget_bytes}
        />
      )}
    </section>
  );
}

const Figure = ({ name, value }: { name: string; value: string }) => (
  <div>
    <dt>{name}</dt>
    <dd>{value}</dd>
  </div>
);

function Gauge({ name, part, whole, text }: { name: string; part: number; whole: number; text: string }) {
  return (
    <div class="gauge">
      <span>{name}</span>
      <meter min={0} max={Math.max(1, whole)} value={Math.min(part, whole)} aria-label={`${name}: ${text}`} />
      <span class="hint">{text}</span>
    </div>
  );
}

/** Adapters of an origin, with name and owner if the registry knows them. @param budget bytes for adapters. */
function OriginResidents(props: {
  origin: string;
  residents: readonly Resident[];
  names: readonly NamedFile[];
  budget: number;
}) {
  const { origin, residents, names, budget } = props;
  const files = filesByDigest(names);
  return (
    <details>
      <summary>Resident adapters, and their owners</summary>
      <Table
        label={`Memory of adapters of ${origin}, by tenant`}
        columns={['Tenant', { right: 'Adapters' }, { right: 'Size' }, { right: 'Of the budget' }]}
      >
        {sharesOf(residents, files).map((share) => (
          <tr key={share.owner}>
            <th scope="row" class="path">
              {share.owner ?? <span class="faint">not in the registry</span>}
            </th>
            <td class="right">{share.adapters}</td>
            <td class="right">{bytes(share.bytes)}</td>
            <td class="right">{percent(share.bytes / Math.max(1, budget))}</td>
          </tr>
        ))}
      </Table>
      <Table
        label={`Resident adapters of ${origin}`}
        columns={[
          'Name',
          'Tenant',
          'State',
          { right: 'Rank' },
          { right: 'Size' },
          { right: 'In use' },
          'Digest',
        ]}
      >
        {residents.map((adapter) => {
          const [file, ...more] = files.get(adapter.digest) ?? [];
          return (
            <tr key={adapter.digest}>
              <th scope="row" class="path">
                {file === undefined ? (
                  <span class="faint">not in the registry</span>
                ) : (
                  <>
                    <a href={hashOf({ at: 'adapters', name: file.name })}>
                      <Breakable text={file.name} />
                    </a>
                    @{file.version}
                    {more.length > 0 && (
                      <span class="under faint">and {more.length} more of the same file</span>
                    )}
                  </>
                )}
              </th>
              <td>{file?.owner ?? '–'}</td>
              <td class="nowrap">
                {adapter.state}
                {adapter.pinned && ', pinned'}
              </td>
              <td class="right">{adapter.rank}</td>
              <td class="right">{bytes(adapter.bytes)}</td>
              <td class="right">{adapter.references}</td>
              <td>
                <code title={adapter.digest}>{adapter.digest.slice(0, 12)}</code>
              </td>
            </tr>
          );
        })}
      </Table>
    </details>
  );
}

/** An origin's work between two of its answers. */
interface OriginRates {
  /**
   * Tokens a second, over all rows; null = there is no earlier answer: an average over idle hours says nothing.
   */
  readonly throughput: number | null;
  /** Means in ms; null = no data. */
  readonly ttft: number | null;
  readonly perToken: number | null;
  /** Average rows of a decode step. */
  readonly batch: number | null;
  /** `start`: averages since the origin's start, because there is no earlier answer of this run. */
  readonly since: 'start' | 'earlier';
}

interface Measured {
  /** Unix ms. */
  readonly at: number;
  readonly figures: OriginFigures;
}

/** @param earlier null = none; an answer from before a restart counts as none. */
export function originRates(earlier: Measured | null, now: Measured): OriginRates {
  const { figures } = now;
  const before =
    earlier !== null && earlier.at < now.at && earlier.figures.started_at === figures.started_at
      ? earlier
      : null;
  const grown = (read: (of: OriginFigures) => number): number =>
    read(figures) - (before === null ? 0 : read(before.figures));
  const mean = (sum: (of: OriginFigures) => number, count: (of: OriginFigures) => number): number | null =>
    grown(count) > 0 ? grown(sum) / grown(count) : null;
  const scaled = (value: number | null): number | null => (value === null ? null : 1000 * value);
  return {
    // A row's tokens: the first one, and those after it.
    throughput:
      before === null
        ? null
        : (1000 * grown((of) => of.first_token.count + of.next_token.count)) / (now.at - before.at),
    ttft: scaled(
      mean(
        (of) => of.first_token.seconds,
        (of) => of.first_token.count,
      ),
    ),
    perToken: scaled(
      mean(
        (of) => of.next_token.seconds,
        (of) => of.next_token.count,
      ),
    ),
    batch: mean(
      (of) => of.decode.rows,
      (of) => of.decode.steps,
    ),
    since: before === null ? 'start' : 'earlier',
  };
}

export type Resident = NonNullable<OriginView['residents']>['adapters'][number];

interface Share {
  /** Tenant; null = not in the registry. */
  readonly owner: string | null;
  readonly adapters: number;
  readonly bytes: number;
}

export const filesByDigest = (names: readonly NamedFile[]): ReadonlyMap<string, NamedFile[]> => {
  const files = new Map<string, NamedFile[]>();
  for (const file of names) files.set(file.digest, [...(files.get(file.digest) ?? []), file]);
  return files;
};

/** @returns largest first. A file of several tenants counts for the alphabetically first. */
export function sharesOf(
  residents: readonly Resident[],
  files: ReadonlyMap<string, readonly NamedFile[]>,
): Share[] {
  const shares = new Map<string | null, { adapters: number; bytes: number }>();
  for (const { digest, bytes } of residents) {
    const owner = files.get(digest)?.[0]?.owner ?? null;
    const share = shares.get(owner) ?? { adapters: 0, bytes: 0 };
    shares.set(owner, { adapters: share.adapters + 1, bytes: share.bytes + bytes });
  }
  return [...shares].map(([owner, share]) => ({ owner, ...share })).sort((a, b) => b.bytes - a.bytes);
}

const HISTORY_REFRESH_MS = 60_000;

/** The last 24 hours of an origin; for the bootstrap key. */
function OriginHistoryCharts({ client, origin }: { client: Client; origin: string }) {
  const history = useLoad(
    origin,
    () => client.call('GET /admin/origins/history', { query: { origin } }),
    HISTORY_REFRESH_MS,
  );
  const { data, problem } = history;
  if (data === null) return problem === null ? <Skeleton label={`the last 24 hours of ${origin}`} /> : null;
  if (data.points.length === 0)
    return (
      <p class="hint">Its last 24 hours are sampled each minute; the first sample is not complete yet.</p>
    );
  return <Charts history={data} />;
}

function Charts({ history }: { history: OriginHistory }) {
  const asked = gridOf(history);
  const grid = fromFirst(asked, history.points);
  const values = (read: (point: OriginHistory['points'][number]) => number) =>
    valuesOf(grid, history.points, read, null);
  return (
    <div class="charts within">
      <TimeChart
        title="Rows"
        kind="bars"
        grid={grid}
        write={amount}
        series={[
          { name: 'running', color: 1, values: values((point) => point.rows_running) },
          { name: 'waiting', color: 2, values: values((point) => point.requests_waiting) },
        ]}
      />
      <TimeChart
        title="Memory"
        kind="lines"
        grid={grid}
        write={bytes}
        series={[
          { name: 'process', color: 3, values: values((point) => point.memory_bytes) },
          { name: 'adapters', color: 4, values: values((point) => point.adapter_bytes) },
        ]}
      />
      <TimeChart
        title="Resident adapters"
        kind="lines"
        grid={grid}
        write={amount}
        series={[{ name: 'resident', color: 1, values: values((point) => point.adapters_resident) }]}
      />
      <p class="hint">
        The maximum of each five minutes,{' '}
        {grid.times.length < asked.times.length
          ? `since ${moment(grid.times[0] ?? 0)}; earlier data is missing`
          : 'of the last 24 hours'}
        . A gap means that it did not answer.
      </p>
    </div>
  );
}
