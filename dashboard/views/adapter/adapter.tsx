import { FlaskConical, MessagesSquare } from 'lucide';
import { useState } from 'preact/hooks';
import type { NameView } from '../../../protocol/admin-api/names.ts';
import { VersionList, type VersionView } from '../../../protocol/admin-api/versions.ts';
import { ok } from '../../../protocol/api-error.ts';
import { liveOnce } from '../../../protocol/state-words.ts';
import type { Client } from '../../api/client.ts';
import { downloadVersion } from '../../api/save-file.ts';
import type { Problem } from '../../model/problem.ts';
import { hashOf } from '../../model/view.ts';
import { useQuestion } from '../../parts/confirm.tsx';
import { CallIt, CopyButton } from '../../parts/copy-button.tsx';
import { Icon } from '../../parts/icon.tsx';
import { ProblemNote } from '../../parts/notes.tsx';
import { useLoad } from '../../parts/use-load.ts';
import { toast } from '../../parts/toasts.tsx';
import { Access } from './access.tsx';
import { Heirs, RunningExperiments } from './name-uses.tsx';
import { History, VersionsTable } from './versions-table.tsx';
import {
  flipQuestion,
  NameActs,
  removeQuestion,
  repointQuestion,
  restoreQuestion,
  unaliasQuestion,
} from './name-questions.tsx';

/** Changes that are read: what was ever live is known by them. */
const HISTORY_READ = '200';

export function AdapterView(props: {
  client: Client;
  name: string;
  /** What the list says of it; null when it is not in the list. */
  entry: NameView | null;
  /** Those that may be made of this one. */
  below: readonly NameView[];
  onChanged: () => void;
}) {
  const { client, name } = props;
  // The list is not here yet, or is cut before it.
  const own = useLoad(props.entry === null ? `entry ${name}` : null, async () => {
    const found = await client.call('GET /admin/names', { query: { prefix: name } });
    return found.ok ? ok({ entry: found.value.names.find((one) => one.name === name) ?? null }) : found;
  });
  const entry = props.entry ?? own.data?.entry ?? null;
  const isKnown = entry !== null || own.data !== null || own.problem !== null;
  const alias = entry?.alias ?? null;
  const versions = useLoad(
    `versions ${name}`,
    () => client.call('GET /admin/versions', { query: { name }, as: VersionList }),
    15_000,
  );
  const history = useLoad(`history ${name}`, () =>
    client.call('GET /admin/history', { query: { name, limit: HISTORY_READ } }),
  );
  const [ask, dialog] = useQuestion((done) => {
    // Also when it was refused: what is shown may be what was.
    void versions.reload();
    void history.reload();
    void own.reload();
    if (done) props.onChanged();
  });
  const [downloading, setDownloading] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const { data } = versions;
  const changes = history.data?.changes ?? [];
  const isRemoved = versions.problem?.status === 404 && changes[0]?.action === 'remove';
  const download = async ({ version }: VersionView) => {
    if (downloading) return;
    setDownloading(true);
    setProblem(null);
    const done = await downloadVersion(client, name, version);
    setDownloading(false);
    if (done.ok) toast(`${done.value} is downloaded.`);
    else setProblem(done.error);
  };
  return (
    <>
      <p class="back">
        <a href={hashOf({ at: 'adapters', name: null })}>All adapters</a>
      </p>
      <div class="title">
        <h2 class="name">{name}</h2>
        <CopyButton text={name} what="the name" />
        {data !== null && isKnown && !isRemoved && alias === null && (
          <span class={`state ${data.version === null ? 'staged' : 'live'}`}>
            {data.version === null ? 'nothing live' : `@${data.version} live`}
          </span>
        )}
      </div>
      {isRemoved ? (
        <div class="note">
          <p>
            <strong>{name} was removed.</strong> For seven days it can be restored as it was.
          </p>
          <button type="button" onClick={() => ask(restoreQuestion(client, name, null))}>
            Restore
          </button>
        </div>
      ) : (
        <ProblemNote problem={versions.problem} onRetry={() => void versions.reload()} />
      )}
      {data !== null && isKnown && !isRemoved && (
        <>
          <p class="facts">
            <Live version={data.version} alias={alias} /> Owner: {data.owner}.{' '}
            {entry?.strict === true && 'Strict: what is missing below it is answered by nothing above. '}
          </p>
          {entry?.description != null && <p dir="auto">{entry.description}</p>}
          {entry !== null && entry.tags.length > 0 && <p class="facts">Tags: {entry.tags.join(', ')}</p>}
          <RunningExperiments client={client} name={name} />
          <div class="actions">
            {(data.version !== null || alias !== null) && (
              <a
                class="button"
                href={hashOf({ at: 'playground', query: new URLSearchParams({ right: name }) })}
              >
                <Icon of={MessagesSquare} />
                Try it
              </a>
            )}
            {alias !== null ? (
              <>
                <button type="button" onClick={() => ask(repointQuestion(client, name, alias))}>
                  Point elsewhere
                </button>
                <button type="button" class="danger" onClick={() => ask(unaliasQuestion(client, name))}>
                  Take the alias away
                </button>
              </>
            ) : (
              <>
                {data.versions.length > 0 && (
                  <a class="button" href={hashOf({ at: 'new-experiment', name })}>
                    <Icon of={FlaskConical} />
                    Test its versions
                  </a>
                )}
                <NameActs client={client} name={name} strict={entry?.strict ?? false} onAsk={ask} />
              </>
            )}
          </div>
          {data.versions.length > 0 && (
            <VersionsTable
              data={data}
              wasLive={liveOnce(changes)}
              acts={{
                onFlip: (version) => ask(flipQuestion(client, version, data.version)),
                onRemove: ({ version }) => ask(removeQuestion(client, name, version)),
                onDownload: (version) => void download(version),
              }}
            />
          )}
          {downloading && <p class="hint">Downloading …</p>}
          <ProblemNote problem={problem} />
          <Heirs {...props} />
          {(data.version !== null || alias !== null) && (
            <>
              <h3>Call it</h3>
              <CallIt
                label="Call it"
                body={{ model: name, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 256 }}
              />
            </>
          )}
          {alias === null && <Access client={client} name={name} />}
        </>
      )}
      <History changes={changes} cut={history.data?.before != null} />
      {dialog}
    </>
  );
}

function Live({ version, alias }: { version: number | null; alias: string | null }) {
  if (alias !== null)
    return (
      <>
        An alias: it stands for <a href={hashOf({ at: 'adapters', name: alias })}>{alias}</a>.
      </>
    );
  return <>{version === null ? 'Nothing is live.' : `Version ${version} is live.`}</>;
}
