import type { ChangeList } from '../../../protocol/admin-api/names.ts';
import type { TrafficReport } from '../../../protocol/admin-api/traffic.ts';
import type { UsageReport } from '../../../protocol/admin-api/tenants.ts';
import type { ExperimentList } from '../../../protocol/admin-api/experiments.ts';
import { amount, moment, whole } from '../../model/words.ts';
import { coverageWords, standing } from '../../model/experiment-words.ts';
import { outcomeWords } from '../../model/request-phases.ts';
import { hashOf } from '../../model/view.ts';
import { Breakable } from '../../parts/breakable.tsx';
import { Table } from '../../parts/table.tsx';

const TOP = 8;

export function TopNames({ report }: { report: UsageReport }) {
  if (report.rows.length === 0)
    return (
      <p class="blank">
        Nothing was used in this time. Publish an adapter with <code>graft publish</code>, and ask for it by
        its name.
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
          {report.truncated ? ' and more are' : ' more are'} in <a href={hashOf({ at: 'usage' })}>Usage</a>.
        </p>
      )}
    </>
  );
}

/** @param props.tenant empty = of all that the key sees. */
export function Running({ list, tenant }: { list: ExperimentList; tenant: string }) {
  const running = list.experiments.filter(
    ({ owner, document }) =>
      ['running', 'ramping'].includes(document.status) && (tenant === '' || owner === tenant),
  );
  if (running.length === 0)
    return (
      <p class="blank">
        None is running. An experiment gives some users one version and others another one, and says which is
        better: <a href={hashOf({ at: 'new-experiment', name: '' })}>begin one</a>.
      </p>
    );
  return (
    <Table label="Running experiments" columns={['Name', { right: 'Coverage' }, 'Last look']}>
      {running.map((view) => (
        <tr key={view.id}>
          <th scope="row" class="path">
            <a href={hashOf({ at: 'experiments', id: view.id })}>
              <Breakable text={view.document.name} />
            </a>
          </th>
          <td class="right">{coverageWords(view.document)}</td>
          <td class="words">{standing(view).text}</td>
        </tr>
      ))}
    </Table>
  );
}

export function Failures({ report }: { report: TrafficReport }) {
  const failures = report.total.outcomes.filter(({ status }) => status >= 400 && status !== 499);
  return (
    <Table label="Errors by code" columns={['Error', 'What it is', { right: 'Requests' }]}>
      {failures.slice(0, TOP).map((outcome) => (
        <tr key={`${outcome.status} ${outcome.code}`}>
          <th scope="row" class="path">
            <a href={hashOf({ at: 'requests' })}>
              {outcome.status} <Breakable text={outcome.code} />
            </a>
          </th>
          <td class="words">{outcomeWords(outcome)}</td>
          <td class="right">{whole(outcome.requests)}</td>
        </tr>
      ))}
    </Table>
  );
}

export function Changes({ list }: { list: ChangeList }) {
  if (list.changes.length === 0)
    return (
      <p class="blank">
        Nothing was changed yet. What is published, promoted or rolled back is listed here, with who did it.
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
            {change.to !== null && ` @${change.to}`}
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

/** What is no name, all of a tenant's or all below one, leads nowhere. */
function ChangedName({ change: { name, owner } }: { change: ChangeList['changes'][number] }) {
  if (name === '**') return <span class="faint">all of {owner}</span>;
  if (name.endsWith('/**')) return <Breakable text={name} />;
  return (
    <a href={hashOf({ at: 'adapters', name })}>
      <Breakable text={name} />
    </a>
  );
}
