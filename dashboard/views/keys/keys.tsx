import { Plus } from 'lucide';
import { useState } from 'preact/hooks';
import type { Client } from '../../api/client.ts';
import { isFound } from '../../model/names.ts';
import { keyState } from '../../model/key-words.ts';
import { whole } from '../../model/words.ts';
import { Icon } from '../../parts/icon.tsx';
import { ProblemNote } from '../../parts/notes.tsx';
import { useLoad } from '../../parts/use-load.ts';
import { createQuestion } from './create-key.tsx';
import { changeQuestion, revokeQuestion, rotateQuestion } from './key-questions.tsx';
import { KeysTable } from './keys-table.tsx';
import { NewKeyNote, type MadeKey } from './new-key-note.tsx';
import { useQuestion } from '../../parts/confirm.tsx';

/** How far back it is looked when a key was used last; usage is counted by the hour. */
const USED_WITHIN_MS = 90 * 86_400_000;
const REFRESH_MS = 30_000;
/** Rows at once: of thousands each letter that is typed would take a second. */
const PAGE = 200;

/** The keys of the tenant, of all tenants to the bootstrap key: made, limited, rotated and revoked. */
export function KeysView({ client }: { client: Client }) {
  const keys = useLoad('keys', () => client.call('GET /admin/keys', {}), REFRESH_MS);
  const usage = useLoad(
    'usage by key',
    () =>
      client.call('GET /admin/usage', {
        query: { by: 'key', from: new Date(Date.now() - USED_WITHIN_MS).toISOString() },
      }),
    REFRESH_MS,
  );
  const [text, setText] = useState('');
  const [all, setAll] = useState(false);
  const [limit, setLimit] = useState(PAGE);
  const [ask, dialog] = useQuestion(() => void keys.reload());
  const [made, setMade] = useState<MadeKey | null>(null);
  const now = Date.now();
  const listed = keys.data?.keys ?? [];
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
        API keys (gk_) ask models; admin keys (ga_) change what there is. A key is shown once, when it is
        made.
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
                ? 'There is none yet. An application needs one to ask models.'
                : 'No key has it.'}
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
      {dialog}
    </>
  );
}
