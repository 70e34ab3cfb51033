import { RotateCcw, Upload } from 'lucide';
import { useEffect, useState } from 'preact/hooks';
import { type Client, readNames } from '../api/client.ts';
import { removedLately } from '../model/names.ts';
import { ago } from '../model/words.ts';
import { useQuestion } from '../parts/confirm.tsx';
import { Icon } from '../parts/icon.tsx';
import { useLoad } from '../parts/use-load.ts';
import { AdapterView } from './adapter/adapter.tsx';
import { DropZone } from './adapter/file-field.tsx';
import { restoreQuestion } from './adapter/name-questions.tsx';
import { PublishDialog } from './adapter/publish-dialog.tsx';
import { NameList } from './name-list.tsx';

/** What is being published: files that were dropped, or none yet. */
interface Publishing {
  readonly files: readonly File[];
  readonly name: string;
}

export function AdaptersView({ client, name }: { client: Client; name: string | null }) {
  const [prefix, setPrefix] = useState('');
  const names = useLoad(`names ${prefix}`, () => readNames(client, prefix), 30_000);
  const [publishing, setPublishing] = useState<Publishing | null>(null);
  const entries = names.data?.entries ?? [];
  // The list may be long, and what was chosen in it begins at the top.
  useEffect(() => scrollTo(0, 0), [name]);
  return (
    <DropZone onFiles={(files) => setPublishing({ files, name: name ?? '' })}>
      <div class="title">
        <h1>Adapters</h1>
        <button
          type="button"
          class="main push"
          onClick={() => setPublishing({ files: [], name: name ?? '' })}
        >
          <Icon of={Upload} />
          Publish
        </button>
      </div>
      <div class={name === null ? 'split' : 'split chosen'}>
        <section class="list" aria-label="Names">
          <NameList names={names} chosen={name} onPrefix={setPrefix} />
          <RemovedLately client={client} about={`${entries.length}`} />
        </section>
        <section class="detail" aria-label="Chosen adapter">
          {name === null ? (
            <p class="empty">
              Choose a name to see its versions, who inherits it and how to call it. To publish a new one,
              drop its files anywhere on this page.
            </p>
          ) : (
            <AdapterView
              key={name}
              client={client}
              name={name}
              entry={entries.find((entry) => entry.name === name) ?? null}
              below={entries.filter((entry) => entry.name !== name && entry.alias === null)}
              onChanged={() => void names.reload()}
            />
          )}
        </section>
      </div>
      {publishing !== null && (
        <PublishDialog
          client={client}
          {...publishing}
          names={entries}
          onClose={() => setPublishing(null)}
          onPublished={() => void names.reload()}
        />
      )}
    </DropZone>
  );
}

/** Changes that are looked through for removals. */
const LOOKED_AT = '200';

/** Names that were removed and can still be brought back. @param props.about changes when the names do. */
function RemovedLately({ client, about }: { client: Client; about: string }) {
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
