import { useState } from 'preact/hooks';
import { type UsageReport, usageCsv } from '../../../protocol/admin-api/tenants.ts';
import { type Client, readKeys, readUsage } from '../../api/client.ts';
import { saveText } from '../../api/save-file.ts';
import { fromFirst, usageSeries, valuesOf } from '../../model/time-series.ts';
import { amount, money, number, whole } from '../../model/words.ts';
import { hashOf } from '../../model/view.ts';
import { TimeChart } from '../../parts/charts.tsx';
import { Choices, Field } from '../../parts/fields.tsx';
import { Answered, Skeleton } from '../../parts/notes.tsx';
import { Breakable, Table, type Column } from '../../parts/table.tsx';
import { useLoad } from '../../parts/hooks.ts';
import { err, ok, type Result } from '../../../protocol/api-error.ts';

const REFRESH_MS = 30_000;
const GROUPS = [
  ['key', 'Key'],
  ['tenant', 'Tenant'],
  ['name', 'Name'],
  ['version', 'Version'],
  ['day', 'Day'],
] as const;
type Group = (typeof GROUPS)[number][0];
const DEFAULT_GROUP: Group = 'key';
const NO_DATES: Dates = { from: '', to: '' };
/** More than fits a screen; the file has all. */
const SHOWN = 200;

/**
 * Usage, and costs if the edge has a price list: the figures of `graft usage`.
 * @param props.query of the address, which contains the choices.
 */
export function UsageView({ client, query }: { client: Client; query: string }) {
  const asked = new URLSearchParams(query);
  const by = GROUPS.find(([group]) => group === asked.get('by'))?.[0] ?? DEFAULT_GROUP;
  const time = usageTimeOf(asked);
  const range = rangeOf(time, Date.now());
  const go = (to: { by?: Group; time?: UsageTime }) => {
    const { by: group = by, time: of = time } = to;
    const chosen = { ...(group === DEFAULT_GROUP ? {} : { by: group }), ...usageTimeQuery(of) };
    location.replace(hashOf({ at: 'usage', query: new URLSearchParams(chosen) }));
  };
  const usage = useLoad(
    range.ok ? JSON.stringify([by, time]) : null,
    () => {
      const now = rangeOf(time, Date.now());
      return readUsage(client, { by, ...(now.ok ? now.value : {}) });
    },
    REFRESH_MS,
  );
  const step = range.ok ? stepOf(range.value) : 'day';
  const other = useLoad(
    range.ok && by !== step ? JSON.stringify([step, time]) : null,
    () => {
      const now = rangeOf(time, Date.now());
      return readUsage(client, { by: step, ...(now.ok ? now.value : {}) });
    },
    REFRESH_MS,
  );
  const course = by === step ? usage : other;
  const keys = useLoad(by === 'key' ? 'keys' : null, () => readKeys(client));
  const labels = new Map(keys.data?.entries.map(({ id, label }) => [id, label]));
  const { data } = usage;
  return (
    <>
      <div class="title">
        <h1>Usage</h1>
        <Choices
          label="Time"
          of={SPANS}
          value={typeof time === 'string' ? time : null}
          onChoose={(span) => go({ time: span })}
        />
      </div>
      <DatesForm
        key={JSON.stringify(time)}
        dates={typeof time === 'string' ? NO_DATES : time}
        wrong={range.ok ? null : range.error}
        onDates={(dates) => go({ time: dates })}
      />
      <div class="actions">
        <Choices label="Group by" of={GROUPS} value={by} onChoose={(group) => go({ by: group })} />
        <button
          type="button"
          disabled={data === null || data.rows.length === 0}
          onClick={() => data !== null && saveText(`usage-by-${by}.csv`, 'text/csv', usageCsv(data, labels))}
        >
          Download CSV
        </button>
      </div>
      <Answered of={[usage, course]}>
        {course.data === null
          ? course.problem === null && range.ok && <Skeleton label="usage over time" />
          : course.data.rows.length > 0 && <Course report={course.data} />}
        {data === null ? (
          usage.problem === null && range.ok && <Skeleton label="usage" rows={6} />
        ) : data.rows.length === 0 ? (
          <p class="blank">
            <strong>No usage in this time.</strong> Requests are counted in whole hours, a few seconds after
            their end. Choose a longer time, or send a request in the{' '}
            <a href={hashOf({ at: 'playground' })}>playground</a>.
          </p>
        ) : (
          <Rows report={data} labels={labels} />
        )}
      </Answered>
    </>
  );
}

/** Custom days besides the preset spans; sent when both are complete, not at each digit. */
function DatesForm(props: { dates: Dates; wrong: WrongDate | null; onDates: (dates: Dates) => void }) {
  const [typed, setTyped] = useState(props.dates);
  const [refused, setRefused] = useState<WrongDate | null>(null);
  const wrong = refused ?? props.wrong;
  const field = (name: keyof Dates, label: string, hint: string) => (
    <Field label={label} hint={hint} problem={wrong?.field === name ? wrong.message : undefined}>
      {(aria) => (
        <input
          {...aria}
          type="date"
          value={typed[name]}
          max={dayOf(Date.now())}
          onInput={(event) => {
            setTyped({ ...typed, [name]: event.currentTarget.value });
            setRefused(null);
          }}
        />
      )}
    </Field>
  );
  return (
    <form
      class="days"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        const range = rangeOf(typed, Date.now());
        if (range.ok) props.onDates(typed);
        else setRefused(range.error);
      }}
    >
      {field('from', 'From', 'Days in UTC.')}
      {field('to', 'To, that day too', 'Empty: until now.')}
      <button type="submit">Show these days</button>
    </form>
  );
}

/** Beyond this, bars of an hour are too thin to compare. */
const MAX_HOURS = 72;

const stepOf = ({ from, to }: { from: string; to?: string }): 'hour' | 'day' =>
  (to === undefined ? Date.now() : Date.parse(to)) - Date.parse(from) <= MAX_HOURS * 3_600_000
    ? 'hour'
    : 'day';

/** The usage over the chosen time. @param props.report by hour or day. */
function Course({ report }: { report: UsageReport }) {
  const { grid: asked, points } = usageSeries(report);
  const grid = fromFirst(asked, points);
  const values = (read: (row: UsageReport['rows'][number]) => number) => valuesOf(grid, points, read, 0);
  const each = report.by === 'day' ? 'a day' : 'an hour';
  const { currency } = report;
  return (
    <div class={currency === undefined ? 'charts' : 'charts three'}>
      <TimeChart
        title={`Tokens ${each}`}
        kind="bars"
        grid={grid}
        write={amount}
        series={[
          { name: 'answers', color: 4, values: values((row) => row.completion_tokens) },
          { name: 'prompts', color: 3, values: values((row) => row.prompt_tokens) },
        ]}
      />
      <TimeChart
        title={`Requests ${each}`}
        kind="bars"
        grid={grid}
        write={amount}
        series={[
          { name: 'answered', color: 1, values: values((row) => row.requests - row.errors) },
          { name: 'errors', color: 'alarm', values: values((row) => row.errors) },
        ]}
      />
      {currency !== undefined && (
        <TimeChart
          title={`Cost ${each}`}
          kind="bars"
          grid={grid}
          // The legend names the currency, for which the axis has no room.
          write={number}
          series={[{ name: currency, color: 2, values: values((row) => row.cost ?? 0) }]}
        />
      )}
    </div>
  );
}

function Rows({ report, labels }: { report: UsageReport; labels: ReadonlyMap<string, string> }) {
  const { by, rows, currency } = report;
  const isWhole = report.cursor === null;
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
      <Table label={`Usage by ${by}`} asCards columns={columns}>
        {rows.slice(0, SHOWN).map((row) => (
          <tr key={row.group}>
            <th scope="row" class="path">
              {labels.get(row.group) || <Breakable text={row.group} />}
              {by === 'key' && !!labels.get(row.group) && <code class="under faint">{row.group}</code>}
            </th>
            {counts((read) => read(row))}
          </tr>
        ))}
        {rows.length > 1 && (
          <tr class="sum">
            <th scope="row">{isWhole ? 'All together' : 'These rows together'}</th>
            {counts(sum)}
          </tr>
        )}
      </Table>
      <p class="hint">
        From {hour(report.from)} to {hour(report.to)} UTC, in whole hours. Errors were refused by an origin or
        failed. <code>graft usage --by {by}</code> has the same figures.
        {rows.length > SHOWN &&
          ` The table shows the first ${whole(SHOWN)} of ${whole(rows.length)} rows; the file has ` +
            `all${isWhole ? '' : ' of these'}.`}
        {!isWhole &&
          ' There is more usage than the console reads at once, and no sum includes it: choose a shorter time.'}
        {currency === undefined && (
          <>
            {' '}
            No costs are shown, because the edge has no price list (variable <code>PRICES</code>).
          </>
        )}
      </p>
    </>
  );
}

const hour = (time: string): string => time.slice(0, 16).replace('T', ' ');

const DAY_MS = 86_400_000;

const SPANS = [
  ['1', '24 hours'],
  ['7', '7 days'],
  ['30', '30 days'],
  ['month', 'This month'],
  ['last', 'Last month'],
] as const;
type Span = (typeof SPANS)[number][0];
const DEFAULT_SPAN: Span = '30';

/** First and last day as typed, `2026-01-31`, both inclusive. An empty `to` = until now. */
interface Dates {
  readonly from: string;
  readonly to: string;
}
/** The time span of a usage report, in whole days UTC, and as the address's query. */
export type UsageTime = Span | Dates;

/** An invalid date, as text. */
interface WrongDate {
  readonly field: keyof Dates;
  readonly message: string;
}

/** @param query of the address: `span=7`, or `from=2026-01-01&to=2026-01-31`. */
export function usageTimeOf(query: URLSearchParams): UsageTime {
  const dates = { from: query.get('from') ?? '', to: query.get('to') ?? '' };
  if (dates.from !== '' || dates.to !== '') return dates;
  return SPANS.find(([span]) => span === query.get('span'))?.[0] ?? DEFAULT_SPAN;
}

/** @returns what {@link usageTimeOf} reads; empty for the default span. */
export function usageTimeQuery(time: UsageTime): Readonly<Record<string, string>> {
  if (typeof time === 'string') return time === DEFAULT_SPAN ? {} : { span: time };
  return { ...(time.from === '' ? {} : { from: time.from }), ...(time.to === '' ? {} : { to: time.to }) };
}

/** @param now unix ms. @returns in the admin API's format; `to` is exclusive. */
export function rangeOf(time: UsageTime, now: number): Result<{ from: string; to?: string }, WrongDate> {
  if (typeof time !== 'string') return rangeOfDates(time, now);
  const date = new Date(now);
  const monthFrom = (months: number): string =>
    new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() - months)).toISOString();
  if (time === 'month') return ok({ from: monthFrom(0) });
  if (time === 'last') return ok({ from: monthFrom(1), to: monthFrom(0) });
  return ok({ from: new Date(now - Number(time) * DAY_MS).toISOString() });
}

const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10);

function rangeOfDates({ from, to }: Dates, now: number): Result<{ from: string; to?: string }, WrongDate> {
  const today = dayOf(now);
  const wrong = (field: keyof Dates, message: string) => err({ field, message });
  if (from === '') return wrong('from', 'Enter the first day.');
  for (const [field, day] of [
    ['from', from],
    ['to', to],
  ] as const) {
    if (day === '') continue;
    if (!isDay(day)) return wrong(field, 'This is not a date. Use the form 2026-01-31.');
    if (day > today) return wrong(field, `This day is in the future: in UTC it is ${today}.`);
  }
  if (to !== '' && to < from) return wrong('to', 'The last day is before the first.');
  if (to === '') return ok({ from });
  return ok({ from, to: dayOf(Date.parse(to) + DAY_MS) });
}

/** False for 2026-02-30, which `Date` reads as a day of March. */
function isDay(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text)) return false;
  const at = Date.parse(text);
  return !Number.isNaN(at) && dayOf(at) === text;
}
