import { useState } from 'preact/hooks';
import type { ChangeView } from '../../../protocol/admin-api/history.ts';
import { moment } from '../../model/words.ts';

const SHOWN = 10;

/** What was done with a name, when and by which key, the newest first. */
export function History({ changes }: { changes: readonly ChangeView[] }) {
  const [all, setAll] = useState(false);
  if (changes.length === 0) return null;
  return (
    <section aria-label="History">
      <h3>History</h3>
      <ol class="history">
        {(all ? changes : changes.slice(0, SHOWN)).map((change) => (
          <li key={change.id}>
            <time dateTime={new Date(change.at).toISOString()}>{moment(change.at)}</time>
            <span>
              {change.action.replaceAll('_', ' ')}
              {change.to !== null && ` version ${change.to}`}
              {change.target !== null && ` ${change.target}`}
              {change.to !== null &&
                change.from !== null &&
                change.from !== change.to &&
                ` (before: ${change.from})`}
              {change.why !== null && <q>{change.why}</q>}
            </span>
            <span class="hint">{change.actor}</span>
          </li>
        ))}
      </ol>
      {!all && changes.length > SHOWN && (
        <button type="button" class="small" onClick={() => setAll(true)}>
          Show {changes.length - SHOWN} older ones
        </button>
      )}
    </section>
  );
}
