import type { TrafficReport } from '../../../protocol/admin-api/traffic.ts';
import { type Client, readUsage } from '../../api/client.ts';
import { amount, duration, moment, number, percent, whole } from '../../model/words.ts';
import { fromFirst, gridOf, type Point, valuesOf } from '../../model/time-series.ts';
import { hashOf } from '../../model/view.ts';
import { Choices } from '../../parts/fields.tsx';
import { Answered, Skeleton } from '../../parts/notes.tsx';
import { TimeChart } from '../../parts/charts.tsx';
import { useLoad } from '../../parts/hooks.ts';
import type { ChangeList } from '../../../protocol/admin-api/names.ts';
import type { UsageReport } from '../../../protocol/admin-api/tenants.ts';
import type { ExperimentList } from '../../../protocol/admin-api/experiments.ts';
import { coverageWords, standing } from '../../model/experiment-words.ts';
import { outcomeWords } from '../../model/request-phases.ts';
import { Breakable, Table } from '../../parts/table.tsx';

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
 * Traffic of the key's tenant; with the bootstrap key of all tenants, or of a chosen one.
 * @param props.query of the address, which contains the choices.
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
    () => readUsage(client, { by: 'name', from: from(), ...of }),
    REFRESH_MS,
  );
  const experiments = useLoad('experiments', () => client.call('GET /admin/experiments', {}), REFRESH_MS);
  const changes = useLoad(
    `changes ${tenant}`,
    () => client.call('GET /admin/history', { query: { limit: LAST_CHANGES, ...of } }),
    REFRESH_MS,
  );
  // Of the last thirty days.
  const tenants = useLoad('tenants', () => readUsage(client, { by: 'tenant' }));
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

/** Empty if there is no choice: a tenant's key sees only its own. */
function TenantPicker(props: {
  known: readonly string[];
  chosen: string;
  onChoose: (tenant: string) => void;
}) {
  const { known, chosen, onChoose } = props;
  // The address may name a tenant without recent usage.
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

/** @param props.tenant empty = all visible to the key. */
function Traffic({ report, tenant }: { report: TrafficReport; tenant: string }) {
  const { total, points } = report;
  if (total.requests === 0)
    return (
      <div class="blank">
        <p>
          <strong>No requests{tenant !== '' && ` of ${tenant}`} in this time.</strong> Send one in the{' '}
          <a href={hashOf({ at: 'playground' })}>playground</a>, or from your application with an API key:
        </p>
        <pre>
          <code>
            {`curl ${location.origin}/v1/chat/completions \\
  -H "authorization: Bearer gk_…" -H "content-type: application/json" \\
  -d '{"model": "base", "messages": [{"role": "user", "content": "Hello"}]}'`}
          </code>
        </pre>
        <p class="hint">A request is counted here about ten seconds after its end.</p>
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
          sub={`${counted(total.errors)} refused or failed`}
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
            The charts begin at {moment(grid.times[0] ?? 0)}: there was no earlier request in this time.
          </p>
        )}
      </div>
    </>
  );
}

/** All digits, if they fit the tile. */
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

const TOP = 8;

function TopNames({ report }: { report: UsageReport }) {
  if (report.rows.length === 0)
    return (
      <p class="blank">
        No usage in this time. Publish an adapter with <code>graft publish</code>, and use it by its name.
      </p>
    );
  return (
    <>
      <Table
        label="Names by tokens"
        columns={['Name', { right: 'Requests' }, { right: 'Errors' }, { right: 'Tokens' }]}
      >
        {report.rows.slice(0, TOP).map((row) => (
          <tr key={row.group}>
            <th scope="row" class="path">
              <a href={hashOf(row.group === 'base' ? { at: 'usage' } : { at: 'adapters', name: row.group })}>
                <Breakable text={row.group} />
              </a>
            </th>
            <td class="right">{whole(row.requests)}</td>
            <td class={`right ${row.errors > 0 ? 'alarm' : ''}`}>{whole(row.errors)}</td>
            <td class="right">{amount(row.total_tokens)}</td>
          </tr>
        ))}
      </Table>
      {report.rows.length > TOP && (
        <p class="hint">
          {whole(report.rows.length - TOP)}
          {report.cursor !== null ? ' and more are' : ' more are'} in{' '}
          <a href={hashOf({ at: 'usage' })}>Usage</a>.
        </p>
      )}
    </>
  );
}

/** @param props.tenant empty = all visible to the key. */
function Running({ list, tenant }: { list: ExperimentList; tenant: string }) {
  const running = list.experiments.filter(
    ({ owner, document }) =>
      ['running', 'ramping'].includes(document.status) && (tenant === '' || owner === tenant),
  );
  if (running.length === 0)
    return (
      <p class="blank">
        None is running. An experiment gives some users one version and others another, and shows which is
        better: <a href={hashOf({ at: 'new-experiment', name: '' })}>create one</a>.
      </p>
    );
  return (
    <Table label="Running experiments" asCards columns={['Name', { right: 'Coverage' }, 'Last look']}>
      {running.map((view) => (
        <tr key={view.id}>
          <th scope="row" class="path">
            <a href={hashOf({ at: 'experiments', id: view.id })}>
              <Breakable text={view.document.name} />
            </a>
          </th>
          <td class="right">{coverageWords(view.document)}</td>
          <td class="words whole">{standing(view).text}</td>
        </tr>
      ))}
    </Table>
  );
}

function Failures({ report }: { report: TrafficReport }) {
  const failures = report.total.outcomes.filter(({ status }) => status >= 400 && status !== 499);
  return (
    <Table label="Errors by code" asCards columns={['Error', 'Meaning', { right: 'Requests' }]}>
      {failures.slice(0, TOP).map((outcome) => (
        <tr key={`${outcome.status} ${outcome.code}`}>
          <th scope="row" class="path">
            <a href={hashOf({ at: 'requests' })}>
              {outcome.status} <Breakable text={outcome.code} />
            </a>
          </th>
          <td class="words whole">{outcomeWords(outcome)}</td>
          <td class="right">{whole(outcome.requests)}</td>
        </tr>
      ))}
    </Table>
  );
}

function Changes({ list }: { list: ChangeList }) {
  if (list.changes.length === 0)
    return (
      <p class="blank">
        No changes yet. Publications, promotions and rollbacks are listed here, with their author.
      </p>
    );
  return (
    <Table label="Last changes" columns={['Name', 'What', 'When']}>
      {list.changes.map((change) => (
        <tr key={change.id}>
          <th scope="row" class="path">
            <ChangedName change={change} />
          </th>
          <td>
            {change.action.replaceAll('_', ' ')}
            {change.to !== null && `\u00a0@${change.to}`}
          </td>
          <td>
            <time>{moment(change.at)}</time>
            <span class="under faint">{change.actor}</span>
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** Targets that are not names (a tenant's or a prefix's) have no link. */
function ChangedName({ change: { name, owner } }: { change: ChangeList['changes'][number] }) {
  if (name === '**') return <span class="faint">all of {owner}</span>;
  if (name.endsWith('/**')) return <Breakable text={name} />;
  return (
    <a href={hashOf({ at: 'adapters', name })}>
      <Breakable text={name} />
    </a>
  );
}
