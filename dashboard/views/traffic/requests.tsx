import { useEffect, useRef, useState } from 'preact/hooks';
import type { RequestView } from '../../../protocol/admin-api/traffic.ts';
import type { Client } from '../../api/client.ts';
import { whole, clock, day, duration, moment } from '../../model/words.ts';
import { hashOf } from '../../model/view.ts';
import { Choices } from '../../parts/fields.tsx';
import { Answered, Skeleton, ProblemNote } from '../../parts/notes.tsx';
import { useLoad } from '../../parts/hooks.ts';
import { Fragment } from 'preact';
import { outcomeWords, requestPhases } from '../../model/request-phases.ts';
import { Breakable, Table, type Column } from '../../parts/table.tsx';
import type { KeptPrompt } from '../../../protocol/admin-api/prompts.ts';
import type { Problem } from '../../model/problem.ts';

const REFRESH_MS = 10_000;
const STATUSES = [
  ['', 'All'],
  ['ok', 'Answered'],
  ['failed', 'Errors'],
  ['left', 'Left'],
] as const;
type Status = (typeof STATUSES)[number][0];
const PAGE = 50;

/** The latest completions, one by one. */
export function RequestsView({ client }: { client: Client }) {
  const [status, setStatus] = useState<Status>('');
  const [name, setName] = useState('');
  const [variant, setVariant] = useState('');
  const [limit, setLimit] = useState(PAGE);
  const filter = {
    ...(status === '' ? {} : { status }),
    ...(name === '' ? {} : { name }),
    ...(variant === '' ? {} : { variant }),
  };
  const list = useLoad(
    JSON.stringify(filter),
    () => client.call('GET /admin/requests', { query: { ...filter, limit: String(limit) } }),
    REFRESH_MS,
  );
  // The current rows stay while more arrive.
  useEffect(() => {
    if (limit > PAGE) void list.reload();
  }, [limit]);
  const { data } = list;
  const filtered = Object.keys(filter).length > 0;
  // Part of a name finds nothing, so suggestions come from all requests read last.
  const all = useRef<readonly RequestView[]>([]);
  if (!filtered && data !== null) all.current = data.requests;
  const more = (
    field: 'name' | 'variant',
    onInput: (value: string) => void,
    value: string,
    label: string,
  ) => (
    <label class="field">
      <span>{label}</span>
      <input
        type="search"
        value={value}
        list={`requests-${field}`}
        onInput={(event) => onInput(event.currentTarget.value.trim())}
      />
      <datalist id={`requests-${field}`}>
        {known(all.current, field).map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
    </label>
  );
  return (
    <>
      <div class="title">
        <h1>Requests</h1>
        <Choices label="Status" of={STATUSES} value={status} onChoose={setStatus} />
      </div>
      <div class="pair filters-of-requests">
        {more('name', setName, name, 'Name, exactly')}
        {more('variant', setVariant, variant, 'Variant of an experiment')}
      </div>
      <Answered of={[list]}>
        {data === null ? (
          list.problem === null && <Skeleton label="requests" rows={8} />
        ) : data.requests.length === 0 ? (
          <p class="blank">
            {filtered ? (
              <>
                <strong>No recent request matches.</strong> Remove a filter, or wait: a request is listed
                about ten seconds after its end.
              </>
            ) : (
              <>
                <strong>No requests yet.</strong> Send one in the{' '}
                <a href={hashOf({ at: 'playground' })}>playground</a>, or from your application; it is listed
                here about ten seconds after its end.
              </>
            )}
          </p>
        ) : (
          <>
            <RequestTable requests={data.requests} client={client} />
            {data.truncated && limit < 1_000 && (
              <p>
                <button
                  type="button"
                  disabled={data.requests.length < limit}
                  onClick={() => setLimit(Math.min(1_000, limit * 4))}
                >
                  {data.requests.length < limit ? 'Loading …' : 'Show more'}
                </button>
              </p>
            )}
          </>
        )}
        <p class="hint">
          The last 1,000 of a tenant, for at most seven days. Prompts and answers are kept only for keys that
          ask for it.
          {data !== null &&
            data.left_out > 0 &&
            ` ${whole(data.left_out)} requests of busy moments are missing.`}{' '}
          <code>graft requests</code> lists the same.
        </p>
      </Answered>
    </>
  );
}

const known = (requests: readonly RequestView[], field: 'name' | 'variant'): string[] =>
  [...new Set(requests.map((request) => request[field]).filter((text) => text !== ''))].sort();

const COLUMNS: readonly Column[] = [
  'Ended',
  'Status',
  'Name',
  { right: 'TTFT' },
  { right: 'Duration' },
  'Waited for',
  { right: 'Prompt' },
  { right: 'Answer' },
  '',
];

/** One line per request, with details that expand below. */
function RequestTable(props: { requests: readonly RequestView[]; client: Client }) {
  const { requests, client } = props;
  const [open, setOpen] = useState<string | null>(null);
  return (
    <>
      <p class="legend phases-legend">
        {LEGEND.map(([name, words]) => (
          <span key={name}>
            <i class={`swatch phase-${name}`} /> {words}
          </span>
        ))}
      </p>
      <Table label="Requests" asCards="compact" columns={COLUMNS}>
        {requests.map((request) => {
          const isOpen = open === request.id;
          return (
            <Fragment key={request.id}>
              <tr
                class="opens"
                // For the pointer; keyboards and screen readers use the button. Text can still be selected.
                onClick={(event) => {
                  const isButton = event.target instanceof Element && event.target.closest('button') !== null;
                  if (!isButton && getSelection()?.type !== 'Range') setOpen(isOpen ? null : request.id);
                }}
              >
                <td class="nowrap">
                  <time title={moment(request.at)}>{clock(request.at)}</time>
                  {day(request.at) !== day(Date.now()) && <span class="under faint">{day(request.at)}</span>}
                </td>
                <td class="nowrap">
                  <span class={`state ${tone(request.status)}`}>{request.status}</span>
                </td>
                <th scope="row" class="path">
                  {request.unknown_name !== undefined ? (
                    <span class="faint">
                      unknown: <Breakable text={request.unknown_name} />
                    </span>
                  ) : request.name === '' ? (
                    <span class="faint">none found</span>
                  ) : (
                    <Breakable text={request.name} />
                  )}
                  {request.version > 0 && <span class="faint">@{request.version}</span>}
                  {request.code !== '' && (
                    <span class="under faint">
                      <Breakable text={request.code} />
                    </span>
                  )}
                </th>
                <td class="right">{request.ttft_ms === null ? '–' : duration(request.ttft_ms)}</td>
                <td class="right">{duration(request.duration_ms)}</td>
                <td>
                  <Phases request={request} />
                </td>
                <td class="right">{whole(request.prompt_tokens)}</td>
                <td class="right">{whole(request.completion_tokens)}</td>
                <td class="act">
                  <button
                    type="button"
                    aria-expanded={isOpen}
                    aria-label={`Details of request ${request.id}`}
                    onClick={() => setOpen(isOpen ? null : request.id)}
                  >
                    {isOpen ? 'Less' : 'More'}
                  </button>
                </td>
              </tr>
              {isOpen && (
                <tr class="detail">
                  <td colSpan={COLUMNS.length}>
                    <Detail request={request} />
                    {request.kept === true && <KeptPromptOf client={client} request={request} />}
                  </td>
                </tr>
              )}
            </Fragment>
          );
        })}
      </Table>
    </>
  );
}

const LEGEND = [
  ['lookup', 'key and name'],
  ['origin', 'to the origin'],
  ['queue', 'queue'],
  ['prefill', 'prefill'],
  ['first', 'both, if the origin does not report it'],
  ['answer', 'decode'],
  ['rest', 'edge'],
] as const;

const tone = (status: number): string =>
  status < 400 ? 'live' : status === 499 ? '' : status < 500 ? 'staged' : 'lost';

const classOf = (name: string): string => name.replace(' token', '');

/** A bar as long as the request took, with its phases in order. */
function Phases({ request }: { request: RequestView }) {
  const spans = requestPhases(request).filter(({ ms }) => ms > 0);
  const total = Math.max(1, request.duration_ms);
  let from = 0;
  const said = spans.map(({ name, ms }) => `${name} ${duration(ms)}`).join(', ');
  return (
    <svg class="phases" width="128" height="12" role="img" aria-label={said}>
      <title>{said}</title>
      {spans.map(({ name, ms }) => {
        const x = (128 * from) / total;
        from += ms;
        return (
          <rect
            key={name}
            class={`fill phase-${classOf(name)}`}
            x={x}
            width={(128 * ms) / total}
            height="12"
          />
        );
      })}
    </svg>
  );
}

function Detail({ request }: { request: RequestView }) {
  const facts: [name: string, value: string][] = [
    ['Request id', request.id],
    ['Sent as', request.request_id ?? ''],
    ['Ended', `${moment(request.at)}:${clock(request.at).slice(-2)}`],
    ['Outcome', [request.code, outcomeWords(request)].filter((text) => text !== '').join(': ')],
    ['Key', request.key_id],
    ['Tenant', request.tenant],
    ['Route', `${request.route}${request.stream ? ', streamed' : ''}`],
    ['Origin', request.origin],
    ['Fallback', request.degraded],
    ['Experiment', request.experiment],
    ['Variant', request.variant],
    ['Adapter', request.cold ? 'had to be sent or loaded' : ''],
  ];
  return (
    <dl class="figures">
      {facts
        .filter(([, value]) => value !== '')
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      {requestPhases(request).map(({ name, what, ms }) => (
        <div key={name}>
          <dt>
            {name}: {what}
          </dt>
          <dd>{duration(ms)}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Prompt and answer of a request: read only on demand, because each read is recorded. */
function KeptPromptOf({ client, request }: { client: Client; request: RequestView }) {
  const [kept, setKept] = useState<KeptPrompt | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const read = async () => {
    setBusy(true);
    const answer = await client.call('GET /admin/requests/:id/prompt', {
      params: { id: request.id },
      query: { at: String(request.at) },
    });
    setBusy(false);
    setProblem(answer.ok ? null : answer.error);
    if (answer.ok) setKept(answer.value);
  };
  if (kept !== null) return <Said kept={kept} />;
  return (
    <div class="kept-prompt">
      <p>
        <button type="button" class="small" disabled={busy} onClick={() => void read()}>
          {busy ? 'Reading …' : 'Show prompt and answer'}
        </button>{' '}
        <span class="hint">Each read is recorded in the tenant's history.</span>
      </p>
      <ProblemNote problem={problem} />
    </div>
  );
}

function Said({ kept }: { kept: KeptPrompt }) {
  const { prompt, prompt_cut: promptCut, answers, answers_cut: answersCut, expires_at: end } = kept;
  const several = answers !== null && answers.length > 1;
  return (
    <section class="kept-prompt" aria-label="Prompt and answer">
      {promptCut && <p class="hint">The prompt was longer: these are its last messages.</p>}
      <dl>
        {prompt.map(({ role, text }, i) => (
          <div key={i}>
            <dt>{role}</dt>
            <dd dir="auto">{text}</dd>
          </div>
        ))}
        {answers?.map((text, i) => (
          <div key={`answer ${i}`}>
            <dt>{several ? `answer ${i + 1}` : 'answer'}</dt>
            <dd dir="auto">{text === '' ? <span class="faint">nothing</span> : text}</dd>
          </div>
        ))}
      </dl>
      <p class="hint">
        {answers === null && (answersCut ? 'The answer was too long to keep. ' : 'There is no answer. ')}
        {answers !== null && answersCut && 'The answer was longer. '}
        Deleted on {moment(end)}.
      </p>
    </section>
  );
}
