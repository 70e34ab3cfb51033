import { Upload } from 'lucide';
import { useEffect, useState } from 'preact/hooks';
import type { Client } from '../api/client.ts';
import { readNames } from '../api/read-names.ts';
import { Icon } from '../parts/icon.tsx';
import { useLoad } from '../parts/use-load.ts';
import { AdapterView } from './adapter/adapter.tsx';
import { DropZone } from './adapter/drop-zone.tsx';
import { PublishDialog } from './adapter/publish-dialog.tsx';
import { RemovedLately } from './adapter/removed-lately.tsx';
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
