import { RefreshCw, SlidersHorizontal, Trash2 } from 'lucide';
import type { KeyView } from '../../../protocol/admin-api/keys.ts';
import type { UsageReport } from '../../../protocol/admin-api/tenants.ts';
import { hoursWords, keyState, limitsWords } from '../../model/key-words.ts';
import { ago, day, moment } from '../../model/words.ts';
import { Icon } from '../../parts/icon.tsx';
import { Table } from '../../parts/table.tsx';

interface KeyActs {
  onChange: (key: KeyView) => void;
  onRotate: (key: KeyView) => void;
  onRevoke: (key: KeyView) => void;
}

const HOUR_MS = 3_600_000;

/** @param props.usage by key; null = it is not known. */
export function KeysTable(props: {
  keys: readonly KeyView[];
  usage: UsageReport | null;
  now: number;
  acts: KeyActs;
}) {
  const { keys, usage, now, acts } = props;
  const used = new Map(usage?.rows.map(({ group, last_hour: hour }) => [group, hour ?? null]));
  const unused = usage === null || usage.truncated ? '–' : 'not in 90 days';
  return (
    <Table label="Keys" columns={['Label', 'Tenant', 'May use', 'Limits', 'Last used', 'State', '']}>
      {keys.map((key) => {
        const state = keyState(key, now);
        const isGood = state === 'good' || state === 'ending';
        const called = key.label === '' ? key.id : key.label;
        return (
          <tr key={key.id} class={isGood ? undefined : 'faint'}>
            <th scope="row" class="beside-acts">
              {called}
              {key.label !== '' && (
                <>
                  <br />
                  <code class="hint">{key.id}</code>
                </>
              )}
            </th>
            <td>
              <span class="nowrap">{key.tenant}</span>
              <span class="under faint">{key.kind === 'api' ? 'API' : 'admin'}</span>
            </td>
            <td class="chain">
              {mayUse(key)}
              {key.keep_prompts !== null && (
                <span class="under">
                  <span class="state staged">prompts kept {hoursWords(key.keep_prompts)}</span>
                </span>
              )}
            </td>
            <td>{key.kind === 'admin' ? '–' : (limitsWords(key.limits) ?? 'none')}</td>
            <td>
              {key.kind === 'admin' ? '–' : lastUsed(used.get(key.id), unused, now)}
              <time
                class="under faint"
                dateTime={new Date(key.created_at).toISOString()}
                title={`${moment(key.created_at)}, by ${key.created_by}`}
              >
                made {ago(key.created_at, now)}
              </time>
            </td>
            <td>
              <span class={`state ${isGood ? (state === 'good' ? 'live' : 'staged') : ''}`}>{state}</span>
              {isGood && key.expires_at !== null && (
                <>
                  {' '}
                  <span class="hint nowrap" title={moment(key.expires_at)}>
                    until {day(key.expires_at)}
                  </span>
                </>
              )}
            </td>
            <td class="right act">
              {isGood && (
                <>
                  {key.kind === 'api' && (
                    <Act
                      label={`Change ${called}`}
                      icon={SlidersHorizontal}
                      onClick={() => acts.onChange(key)}
                    />
                  )}
                  {state === 'good' && (
                    <Act label={`Rotate ${called}`} icon={RefreshCw} onClick={() => acts.onRotate(key)} />
                  )}
                  <Act label={`Revoke ${called}`} icon={Trash2} onClick={() => acts.onRevoke(key)} />
                </>
              )}
            </td>
          </tr>
        );
      })}
    </Table>
  );
}

function Act(props: { label: string; icon: typeof Trash2; onClick: () => void }) {
  return (
    <button type="button" class="bare" title={props.label} aria-label={props.label} onClick={props.onClick}>
      <Icon of={props.icon} />
    </button>
  );
}

function mayUse({ kind, tenant, scopes, scope_owners: owners, download, prompts }: KeyView): string {
  const others = scopes.map((scope, i) =>
    scope === '**' ? 'everything' : `${scope}${owners[i] == null ? '' : ` of ${owners[i]}`}`,
  );
  const own = others.includes('everything') ? [] : [`all of ${tenant}`];
  const admin =
    kind === 'admin' ? [...(download ? ['downloads'] : []), ...(prompts ? ['kept prompts'] : [])] : [];
  return [...own, ...others, ...admin].join(', ');
}

/** @param hour the last one with a request; null = the edge does not say which. @param unused for a key without any. */
function lastUsed(hour: string | null | undefined, unused: string, now: number): string {
  if (hour === undefined) return unused;
  if (hour === null) return 'in 90 days';
  const at = Date.parse(hour);
  return now - at < HOUR_MS ? 'this hour' : ago(at, now);
}
