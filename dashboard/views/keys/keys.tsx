import { Plus, RefreshCw, SlidersHorizontal, Trash2 } from 'lucide';
import { useState } from 'preact/hooks';
import { type Client, readKeys, readUsage } from '../../api/client.ts';
import { isFound } from '../../model/names.ts';
import { keyState, hoursWords, limitsWords } from '../../model/key-words.ts';
import { whole, ago, day, moment } from '../../model/words.ts';
import { Icon } from '../../parts/icon.tsx';
import { ProblemNote } from '../../parts/notes.tsx';
import { useLoad } from '../../parts/hooks.ts';
import {
  createQuestion,
  changeQuestion,
  revokeQuestion,
  rotateQuestion,
  NewKeyNote,
  type MadeKey,
} from './key-forms.tsx';
import { useQuestion } from '../../parts/dialog.tsx';
import type { KeyView } from '../../../protocol/admin-api/keys.ts';
import type { UsageReport } from '../../../protocol/admin-api/tenants.ts';
import { Act, Table } from '../../parts/table.tsx';
import { Webhooks } from './webhooks.tsx';

/** How far back the last use of a key is searched; usage is counted by the hour. */
const USED_WITHIN_MS = 90 * 86_400_000;
const REFRESH_MS = 30_000;
/** Rows rendered at once: with thousands, each typed letter would take a second. */
const PAGE = 200;

/** The keys of the tenant, or of all tenants for the bootstrap key: created, limited, rotated and revoked. */
export function KeysView({ client }: { client: Client }) {
  const keys = useLoad('keys', () => readKeys(client), REFRESH_MS);
  const usage = useLoad(
    'usage by key',
    () => readUsage(client, { by: 'key', from: new Date(Date.now() - USED_WITHIN_MS).toISOString() }),
    REFRESH_MS,
  );
  const [text, setText] = useState('');
  const [all, setAll] = useState(false);
  const [limit, setLimit] = useState(PAGE);
  const [ask, dialog] = useQuestion(() => void keys.reload());
  const [made, setMade] = useState<MadeKey | null>(null);
  const now = Date.now();
  const listed = keys.data?.entries ?? [];
  const good = listed.filter((key) => all || ['good', 'ending'].includes(keyState(key, now)));
  const shown = good.filter(({ id, label, tenant, scopes }) =>
    isFound([id, label, tenant, ...scopes].join(' '), text.trim()),
  );
  const over = listed.length - listed.filter((key) => ['good', 'ending'].includes(keyState(key, now))).length;
  return (
    <>
      <div class="title">
        <h1>Keys</h1>
        <button
          type="button"
          class="main push"
          onClick={() => ask(createQuestion(client, (key) => setMade(key)))}
        >
          <Icon of={Plus} />
          New key
        </button>
      </div>
      <p class="lead">
        API keys (gk_) send requests to models; admin keys (ga_) change settings. A key is shown once, when it
        is created.
      </p>
      <ProblemNote problem={keys.problem} onRetry={() => void keys.reload()} />
      {made !== null && <NewKeyNote made={made} onClose={() => setMade(null)} />}
      {keys.data === null && keys.problem === null && <p class="hint">Loading …</p>}
      {keys.data !== null && (
        <>
          <div class="filters">
            <label class="field">
              <span>Keys with</span>
              <input
                type="search"
                value={text}
                placeholder="label, id, tenant or scope"
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => setText(event.currentTarget.value)}
              />
            </label>
            {over > 0 && (
              <label class="check">
                <input
                  type="checkbox"
                  checked={all}
                  onChange={(event) => setAll(event.currentTarget.checked)}
                />
                <span>Also {whole(over)} revoked or expired</span>
              </label>
            )}
            <p class="hint" role="status">
              {shown.length !== good.length && `${whole(shown.length)} of `}
              {whole(good.length)} {good.length === 1 ? 'key' : 'keys'}
            </p>
          </div>
          {shown.length === 0 ? (
            <p class="empty">
              {good.length === 0
                ? 'There is none yet. An application needs one to send requests.'
                : 'No key contains it.'}
            </p>
          ) : (
            <KeysTable
              keys={shown.slice(0, limit)}
              usage={usage.data}
              now={now}
              acts={{
                onChange: (key) => ask(changeQuestion(client, key)),
                onRotate: (key) => ask(rotateQuestion(client, key, setMade)),
                onRevoke: (key) => ask(revokeQuestion(client, key)),
              }}
            />
          )}
          {keys.data.cut && (
            <p class="hint">
              These are the newest {whole(listed.length)}. Older ones are in <code>graft keys</code>.
            </p>
          )}
          {shown.length > limit && (
            <p>
              <button type="button" onClick={() => setLimit(limit + PAGE)}>
                Show more
              </button>{' '}
              <span class="hint">These are {whole(limit)} of them.</span>
            </p>
          )}
        </>
      )}
      <Webhooks client={client} />
      {dialog}
    </>
  );
}

interface KeyActs {
  onChange: (key: KeyView) => void;
  onRotate: (key: KeyView) => void;
  onRevoke: (key: KeyView) => void;
}

const HOUR_MS = 3_600_000;

/** @param props.usage by key; null = unknown. */
function KeysTable(props: {
  keys: readonly KeyView[];
  usage: UsageReport | null;
  now: number;
  acts: KeyActs;
}) {
  const { keys, usage, now, acts } = props;
  const used = new Map(usage?.rows.map(({ group, last_hour: hour }) => [group, hour ?? null]));
  const unused = usage === null || usage.cursor !== null ? '–' : 'not in 90 days';
  return (
    <Table label="Keys" asCards columns={['Label', 'Tenant', 'May use', 'Limits', 'Last used', 'State', '']}>
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

function mayUse({ kind, tenant, scopes, scope_owners: owners, download, prompts }: KeyView): string {
  const others = scopes.map((scope, i) =>
    scope === '**' ? 'everything' : `${scope}${owners[i] == null ? '' : ` of ${owners[i]}`}`,
  );
  const own = others.includes('everything') ? [] : [`all of ${tenant}`];
  const admin =
    kind === 'admin' ? [...(download ? ['downloads'] : []), ...(prompts ? ['kept prompts'] : [])] : [];
  return [...own, ...others, ...admin].join(', ');
}

/**
 * @param hour the last one with a request; null = not reported by the edge. @param unused text for a key
 * without any.
 */
function lastUsed(hour: string | null | undefined, unused: string, now: number): string {
  if (hour === undefined) return unused;
  if (hour === null) return 'in 90 days';
  const at = Date.parse(hour);
  return now - at < HOUR_MS ? 'this hour' : ago(at, now);
}
