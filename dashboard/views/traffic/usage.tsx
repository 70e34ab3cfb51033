import { useState } from 'preact/hooks';
import type { UsageReport } from '../../../protocol/admin-api/usage.ts';
import { usageCsv } from '../../../protocol/usage-csv.ts';
import type { Client } from '../../api/client.ts';
import { saveText } from '../../api/save-text.ts';
import { money, whole } from '../../model/amounts.ts';
import { rangeOf, SPANS, type Span } from '../../model/usage-span.ts';
import { hashOf } from '../../model/view.ts';
import { Choices } from '../../parts/choices.tsx';
import { Skeleton } from '../../parts/skeleton.tsx';
import { Answered } from '../../parts/stale-note.tsx';
import { Table, type Column } from '../../parts/table.tsx';
import { useLoad } from '../../parts/use-load.ts';

const REFRESH_MS = 30_000;
const GROUPS = [
  ['key', 'Key'],
  ['tenant', 'Tenant'],
  ['name', 'Name'],
  ['version', 'Version'],
  ['day', 'Day'],
] as const;
type Group = (typeof GROUPS)[number][0];
/** More than a screen takes; the file has all. */
const SHOWN = 200;

/** Who used how much, and what that costs where the edge has a price list: the figures of `graft usage`. */
export function UsageView({ client }: { client: Client }) {
  const [by, setBy] = useState<Group>('key');
  const [span, setSpan] = useState<Span>('30');
  const usage = useLoad(
    `${by} ${span}`,
    () => client.call('GET /admin/usage', { query: { by, ...rangeOf(span, Date.now()) } }),
    REFRESH_MS,
  );
  const keys = useLoad(by === 'key' ? 'keys' : null, () => client.call('GET /admin/keys', {}));
  const labels = new Map(keys.data?.keys.map(({ id, label }) => [id, label]));
  const { data } = usage;
  return (
    <>
      <div class="title">
        <h1>Usage</h1>
        <Choices label="Time" of={SPANS} value={span} onChoose={setSpan} />
      </div>
      <div class="actions">
        <Choices label="One line for each" of={GROUPS} value={by} onChoose={setBy} />
        <button
          type="button"
          disabled={data === null || data.rows.length === 0}
          onClick={() => data !== null && saveText(`usage-by-${by}.csv`, 'text/csv', usageCsv(data, labels))}
        >
          Download CSV
        </button>
      </div>
      <Answered of={[usage]}>
        {data === null ? (
          usage.problem === null && <Skeleton label="usage" rows={6} />
        ) : data.rows.length === 0 ? (
          <p class="blank">
            <strong>Nothing was used in this time.</strong> Requests are counted by whole hours, a few seconds
            after their end. Choose a longer time, or ask something in the{' '}
            <a href={hashOf({ at: 'playground' })}>playground</a>.
          </p>
        ) : (
          <Rows report={data} labels={labels} />
        )}
      </Answered>
    </>
  );
}

function Rows({ report, labels }: { report: UsageReport; labels: ReadonlyMap<string, string> }) {
  const { by, rows, currency } = report;
  const columns: Column[] = [
    GROUPS.find(([group]) => group === by)?.[1] ?? by,
    { right: 'Requests' },
    { right: 'Errors' },
    { right: 'Prompt tokens' },
    { right: 'Answer tokens' },
    { right: 'Tokens' },
    ...(currency === undefined ? [] : [{ right: 'Cost' }]),
  ];
  const sum = (read: (row: UsageReport['rows'][number]) => number): number =>
    rows.reduce((before, row) => before + read(row), 0);
  const counts = (read: (of: (row: UsageReport['rows'][number]) => number) => number) => (
    <>
      <td class="right">{whole(read((row) => row.requests))}</td>
      <td class={`right ${read((row) => row.errors) > 0 ? 'alarm' : ''}`}>
        {whole(read((row) => row.errors))}
      </td>
      <td class="right">{whole(read((row) => row.prompt_tokens))}</td>
      <td class="right">{whole(read((row) => row.completion_tokens))}</td>
      <td class="right">{whole(read((row) => row.total_tokens))}</td>
      {currency !== undefined && (
        <td class="right">
          {money(
            read((row) => row.cost ?? 0),
            currency,
          )}
        </td>
      )}
    </>
  );
  return (
    <>
      <Table label={`Usage by ${by}`} columns={columns}>
        {rows.slice(0, SHOWN).map((row) => (
          <tr key={row.group}>
            <th scope="row" class="path">
              {labels.get(row.group) || row.group}
              {by === 'key' && !!labels.get(row.group) && <code class="under faint">{row.group}</code>}
            </th>
            {counts((read) => read(row))}
          </tr>
        ))}
        {rows.length > 1 && (
          <tr class="sum">
            <th scope="row">All together</th>
            {counts(sum)}
          </tr>
        )}
      </Table>
      <p class="hint">
        From {hour(report.from)} to {hour(report.to)} UTC, by whole hours. Errors were refused by an origin or
        broke off. <code>graft usage --by {by}</code> has the same figures.
        {rows.length > SHOWN &&
          ` The table has the first ${whole(SHOWN)} of ${whole(rows.length)} lines; the file has all.`}
        {report.truncated && ' There are more lines than one answer holds: choose a shorter time.'}
        {currency === undefined && (
          <>
            {' '}
            The edge has no price list (variable <code>PRICES</code>), so there are no costs.
          </>
        )}
      </p>
    </>
  );
}

const hour = (time: string): string => time.slice(0, 16).replace('T', ' ');
