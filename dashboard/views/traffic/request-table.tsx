import { Fragment } from 'preact';
import { useState } from 'preact/hooks';
import type { RequestView } from '../../../protocol/admin-api/traffic.ts';
import { clock, day, duration, moment, whole } from '../../model/words.ts';
import { outcomeWords, requestPhases } from '../../model/request-phases.ts';
import type { Client } from '../../api/client.ts';
import { Breakable } from '../../parts/breakable.tsx';
import { Table, type Column } from '../../parts/table.tsx';
import { KeptPromptOf } from './kept-prompt.tsx';

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

/** One line a request; what else is known of it opens below. */
export function RequestTable(props: { requests: readonly RequestView[]; client: Client }) {
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
      <Table label="Requests" columns={COLUMNS}>
        {requests.map((request) => {
          const isOpen = open === request.id;
          return (
            <Fragment key={request.id}>
              <tr
                class="opens"
                // For the pointer: the button is there for keyboards and readers. Text can still be selected.
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
  ['first', 'both, where the origin does not say'],
  ['answer', 'decode'],
  ['rest', 'edge'],
] as const;

const tone = (status: number): string =>
  status < 400 ? 'live' : status === 499 ? '' : status < 500 ? 'staged' : 'lost';

const classOf = (name: string): string => name.replace(' token', '');

/** A bar, as long as the request took; its parts in the order of time. */
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
    ['What became of it', [request.code, outcomeWords(request)].filter((text) => text !== '').join(': ')],
    ['Key', request.key_id],
    ['Tenant', request.tenant],
    ['Route', `${request.route}${request.stream ? ', streamed' : ''}`],
    ['Origin', request.origin],
    ['Stood in', request.degraded],
    ['Experiment', request.experiment],
    ['Variant', request.variant],
    ['Adapter', request.cold ? 'had to be brought or loaded' : ''],
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
