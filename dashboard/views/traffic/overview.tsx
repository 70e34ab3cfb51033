import type { TrafficReport } from '../../../protocol/admin-api/traffic.ts';
import type { Client } from '../../api/client.ts';
import { amount, duration, moment, number, percent, whole } from '../../model/words.ts';
import { fromFirst, gridOf, type Point, valuesOf } from '../../model/time-series.ts';
import { hashOf } from '../../model/view.ts';
import { Choices } from '../../parts/fields.tsx';
import { Answered, Skeleton } from '../../parts/notes.tsx';
import { TimeChart } from '../../parts/time-chart.tsx';
import { useLoad } from '../../parts/use-load.ts';
import { Changes, Failures, Running, TopNames } from './overview-lists.tsx';

const REFRESH_MS = 15_000;
const HOUR_MS = 3_600_000;
/** In hours. */
const SPANS = [
  ['1', 'Hour'],
  ['24', '24 hours'],
  ['720', '30 days'],
] as const;
type Span = (typeof SPANS)[number][0];
const DEFAULT_SPAN: Span = '24';
const LAST_CHANGES = '8';

/**
 * How it goes: of the tenant whose key it is; for the bootstrap key of all, or of one that is chosen.
 * @param props.query of the address, which holds what is chosen here.
 */
export function OverviewView({ client, query }: { client: Client; query: string }) {
  const asked = new URLSearchParams(query);
  const hours = SPANS.find(([span]) => span === asked.get('hours'))?.[0] ?? DEFAULT_SPAN;
  const tenant = asked.get('tenant') ?? '';
  const of: { tenant?: string } = tenant === '' ? {} : { tenant };
  const go = (to: { hours?: Span; tenant?: string }) => {
    const next = { hours, tenant, ...to };
    const chosen = {
      ...(next.hours === DEFAULT_SPAN ? {} : { hours: next.hours }),
      ...(next.tenant === '' ? {} : { tenant: next.tenant }),
    };
    location.replace(hashOf({ at: 'overview', query: new URLSearchParams(chosen) }));
  };
  const from = () => new Date(Date.now() - Number(hours) * HOUR_MS).toISOString();
  const traffic = useLoad(
    `traffic ${hours} ${tenant}`,
    () => client.call('GET /admin/traffic', { query: { from: from(), ...of } }),
    REFRESH_MS,
  );
  const names = useLoad(
    `names ${hours} ${tenant}`,
    () => client.call('GET /admin/usage', { query: { by: 'name', from: from(), ...of } }),
    REFRESH_MS,
  );
  const experiments = useLoad('experiments', () => client.call('GET /admin/experiments', {}), REFRESH_MS);
  const changes = useLoad(
    `changes ${tenant}`,
    () => client.call('GET /admin/history', { query: { limit: LAST_CHANGES, ...of } }),
    REFRESH_MS,
  );
  // Of the last thirty days.
  const tenants = useLoad('tenants', () => client.call('GET /admin/usage', { query: { by: 'tenant' } }));
  const { data } = traffic;
  return (
    <>
      <div class="title">
        <h1>Overview</h1>
        <TenantPicker
          known={tenants.data?.rows.map(({ group }) => group) ?? []}
          chosen={tenant}
          onChoose={(one) => go({ tenant: one })}
        />
        <Choices label="Time" of={SPANS} value={hours} onChoose={(span) => go({ hours: span })} />
      </div>
      <Answered of={[traffic, names, experiments, changes, tenants]}>
        {data === null ? (
          traffic.problem === null && <Skeleton label="traffic" />
        ) : (
          <Traffic report={data} tenant={tenant} />
        )}
        <div class="columns">
          <section>
            <h2>Names</h2>
            {names.data === null ? (
              names.problem === null && <Skeleton label="names" rows={3} />
            ) : (
              <TopNames report={names.data} />
            )}
          </section>
          <section>
            <h2>Experiments</h2>
            {experiments.data === null ? (
              experiments.problem === null && <Skeleton label="experiments" rows={3} />
            ) : (
              <Running list={experiments.data} tenant={tenant} />
            )}
          </section>
          {data !== null && data.total.errors > 0 && (
            <section>
              <h2>Errors</h2>
              <Failures report={data} />
            </section>
          )}
          <section>
            <h2>Last changes</h2>
            {changes.data === null ? (
              changes.problem === null && <Skeleton label="changes" rows={3} />
            ) : (
              <Changes list={changes.data} />
            )}
          </section>
        </div>
      </Answered>
    </>
  );
}

/** Nothing where there is nothing to choose: a tenant's key sees its own alone. */
function TenantPicker(props: {
  known: readonly string[];
  chosen: string;
  onChoose: (tenant: string) => void;
}) {
  const { known, chosen, onChoose } = props;
  // One that has used nothing lately may be in the address.
  const all = [...new Set([...known, ...(chosen === '' ? [] : [chosen])])].sort();
  if (chosen === '' && all.length < 2) return null;
  return (
    <label class="tenant">
      <span>Tenant</span>
      <select value={chosen} onChange={(event) => onChoose(event.currentTarget.value)}>
        <option value="">All that the key sees</option>
        {all.map((tenant) => (
          <option key={tenant} value={tenant}>
            {tenant}
          </option>
        ))}
      </select>
    </label>
  );
}

/** @param props.tenant empty = of all that the key sees. */
function Traffic({ report, tenant }: { report: TrafficReport; tenant: string }) {
  const { total, points } = report;
  if (total.requests === 0)
    return (
      <div class="blank">
        <p>
          <strong>No request{tenant !== '' && ` of ${tenant}`} in this time.</strong> Ask an adapter in the{' '}
          <a href={hashOf({ at: 'playground' })}>playground</a>, or from your application with an API key:
        </p>
        <pre>
          <code>
            {`curl ${location.origin}/v1/chat/completions \\
  -H "authorization: Bearer gk_…" -H "content-type: application/json" \\
  -d '{"model": "base", "messages": [{"role": "user", "content": "Hello"}]}'`}
          </code>
        </pre>
        <p class="hint">A request is counted here some ten seconds after its end.</p>
      </div>
    );
  const asked = gridOf(report);
  const grid = fromFirst(asked, points);
  const counts = (read: (point: Point) => number) => valuesOf(grid, points, read, 0);
  const times = (read: (point: Point) => number | null) => valuesOf(grid, points, read, null);
  const share = total.errors / total.requests;
  return (
    <>
      <dl class="tiles">
        <Tile name="Requests" value={counted(total.requests)} sub={rateOf(report)} />
        <Tile
          name="Errors"
          value={percent(share)}
          sub={`${counted(total.errors)} refused or broken off`}
          alarm={share > 0.01}
        />
        <Tile
          name="Tokens"
          value={amount(total.prompt_tokens + total.completion_tokens)}
          sub={`${amount(total.prompt_tokens)} in prompts, ${amount(total.completion_tokens)} in answers`}
        />
        <Tile
          name="TTFT p50"
          value={ms(total.ttft_ms.p50)}
          sub={`p95 ${ms(total.ttft_ms.p95)}, of streams`}
        />
        <Tile
          name="Duration p50"
          value={ms(total.duration_ms.p50)}
          sub={`p95 ${ms(total.duration_ms.p95)}, to the last byte`}
        />
      </dl>
      <div class="charts">
        <TimeChart
          title="Requests"
          kind="bars"
          grid={grid}
          write={amount}
          series={[
            { name: 'answered', color: 1, values: counts(({ requests, errors }) => requests - errors) },
            { name: 'errors', color: 'alarm', values: counts(({ errors }) => errors) },
          ]}
        />
        <TimeChart
          title="Tokens"
          kind="bars"
          grid={grid}
          write={amount}
          series={[
            { name: 'answers', color: 4, values: counts((point) => point.completion_tokens) },
            { name: 'prompts', color: 3, values: counts((point) => point.prompt_tokens) },
          ]}
        />
        <TimeChart
          title="Time to first token"
          kind="lines"
          grid={grid}
          write={duration}
          series={[
            { name: 'p50', color: 1, values: times((point) => point.ttft_ms.p50) },
            { name: 'p95', color: 2, values: times((point) => point.ttft_ms.p95) },
          ]}
        />
        <TimeChart
          title="Duration"
          kind="lines"
          grid={grid}
          write={duration}
          series={[
            { name: 'p50', color: 1, values: times((point) => point.duration_ms.p50) },
            { name: 'p95', color: 2, values: times((point) => point.duration_ms.p95) },
          ]}
        />
        {grid.times.length < asked.times.length && (
          <p class="hint">
            The charts begin at {moment(grid.times[0] ?? 0)}: in this time there was no request before.
          </p>
        )}
      </div>
    </>
  );
}

/** All digits as long as a tile is as wide. */
const counted = (value: number): string => (value < 1e7 ? whole(value) : amount(value));

const ms = (value: number | null): string => (value === null ? '–' : duration(value));

function rateOf({ from, to, total }: TrafficReport): string {
  const minutes = (Math.min(Date.parse(to), Date.now()) - Date.parse(from)) / 60_000;
  const each = total.requests / minutes;
  if (each >= 60) return `${number(each / 60)} a second`;
  if (each >= 1) return `${number(each)} a minute`;
  return 60 * each >= 1 ? `${number(60 * each)} an hour` : 'less than one an hour';
}

function Tile(props: { name: string; value: string; sub: string; alarm?: boolean }) {
  return (
    <div>
      <dt>{props.name}</dt>
      <dd class={props.alarm === true ? 'alarm' : undefined}>{props.value}</dd>
      <dd class="sub">{props.sub}</dd>
    </div>
  );
}
