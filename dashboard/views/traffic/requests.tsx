import { useEffect, useRef, useState } from 'preact/hooks';
import type { RequestView } from '../../../protocol/admin-api/traffic.ts';
import type { Client } from '../../api/client.ts';
import { whole } from '../../model/words.ts';
import { hashOf } from '../../model/view.ts';
import { Choices } from '../../parts/fields.tsx';
import { Answered, Skeleton } from '../../parts/notes.tsx';
import { useLoad } from '../../parts/use-load.ts';
import { RequestTable } from './request-table.tsx';

const REFRESH_MS = 10_000;
const STATUSES = [
  ['', 'All'],
  ['ok', 'Answered'],
  ['failed', 'Errors'],
  ['left', 'Left'],
] as const;
type Status = (typeof STATUSES)[number][0];
const PAGE = 50;

/** The last completions, one by one. */
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
  // What is shown stays while more of the same comes.
  useEffect(() => {
    if (limit > PAGE) void list.reload();
  }, [limit]);
  const { data } = list;
  const filtered = Object.keys(filter).length > 0;
  // Half a name finds nothing: what is suggested is of all requests, as they were last seen.
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
                <strong>None of the last requests is so.</strong> Take a filter away, or wait: a request is
                listed some ten seconds after its end.
              </>
            ) : (
              <>
                <strong>No request yet.</strong> Ask an adapter in the{' '}
                <a href={hashOf({ at: 'playground' })}>playground</a>, or from your application; it is listed
                here some ten seconds after its end.
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
          The last 1,000 of a tenant, seven days at most. Prompts and answers are kept for keys that ask for
          it alone.
          {data !== null &&
            data.left_out > 0 &&
            ` ${whole(data.left_out)} requests of busy moments are not among them.`}{' '}
          <code>graft requests</code> lists the same.
        </p>
      </Answered>
    </>
  );
}

const known = (requests: readonly RequestView[], field: 'name' | 'variant'): string[] =>
  [...new Set(requests.map((request) => request[field]).filter((text) => text !== ''))].sort();
