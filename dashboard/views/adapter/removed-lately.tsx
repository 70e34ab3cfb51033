import { RotateCcw } from 'lucide';
import type { Client } from '../../api/client.ts';
import { removedLately } from '../../model/removed-names.ts';
import { ago } from '../../model/words.ts';
import { Icon } from '../../parts/icon.tsx';
import { useLoad } from '../../parts/use-load.ts';
import { restoreQuestion } from './name-questions.tsx';
import { useQuestion } from '../../parts/use-question.tsx';

/** Changes that are looked through for removals. */
const LOOKED_AT = '200';

/** Names that were removed and can still be brought back. @param props.about changes when the names do. */
export function RemovedLately({ client, about }: { client: Client; about: string }) {
  const history = useLoad(`removed ${about}`, () =>
    client.call('GET /admin/history', { query: { limit: LOOKED_AT } }),
  );
  const [ask, dialog] = useQuestion(() => void history.reload());
  const removed = removedLately(history.data?.changes ?? [], Date.now());
  if (removed.length === 0) return null;
  return (
    <details class="removed">
      <summary>Removed lately ({removed.length})</summary>
      <ul>
        {removed.map(({ name, version, at }) => {
          const what = version === null ? name : `${name}@${version}`;
          return (
            <li key={what}>
              <span class="name">{what}</span> <span class="hint">{ago(at, Date.now())}</span>{' '}
              <button
                type="button"
                class="small"
                aria-label={`Restore ${what}`}
                onClick={() => ask(restoreQuestion(client, name, version))}
              >
                <Icon of={RotateCcw} />
                Restore
              </button>
            </li>
          );
        })}
      </ul>
      {dialog}
    </details>
  );
}
