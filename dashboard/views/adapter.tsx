import { useState } from 'preact/hooks';
import type { NameView } from '../../protocol/admin-api/names.ts';
import { VersionList, type VersionView } from '../../protocol/admin-api/versions.ts';
import { ok } from '../../protocol/result.ts';
import { versionState } from '../../protocol/state-words.ts';
import type { Client } from '../api/client.ts';
import { heirsOf, inheritedFrom } from '../model/version-state.ts';
import { hashOf } from '../model/view.ts';
import { ago, bytes, moment, percent } from '../model/words.ts';
import { Confirm, type Question } from '../parts/confirm.tsx';
import { ProblemNote } from '../parts/problem-note.tsx';
import { Table } from '../parts/table.tsx';
import { useLoad } from '../parts/use-load.ts';

/** Names whose chains are read to find heirs: each is a request. */
const MAX_HEIRS_READ = 24;
const HISTORY = 20;

export function AdapterView(props: {
  client: Client;
  name: string;
  /** What the list says of it; null when it is not in the list. */
  entry: NameView | null;
  /** Those that may be made of this one. */
  below: readonly NameView[];
  onChanged: () => void;
}) {
  const { client, name, entry } = props;
  const versions = useLoad(
    `versions ${name}`,
    () => client.call('GET /admin/versions', { query: { name }, as: VersionList }),
    15_000,
  );
  const history = useLoad(`history ${name}`, () =>
    client.call('GET /admin/history', { query: { name, limit: String(HISTORY) } }),
  );
  const [question, setQuestion] = useState<Question | null>(null);
  const { data } = versions;
  const ask = (version: VersionView) =>
    data !== null && setQuestion(flipQuestion(client, version, data.version));
  return (
    <>
      <p class="back">
        <a href={hashOf({ at: 'adapters', name: null })}>All adapters</a>
      </p>
      <h2 class="name">{name}</h2>
      <ProblemNote problem={versions.problem} onRetry={() => void versions.reload()} />
      {data !== null && (
        <>
          <p class="facts">
            <Live version={data.version} alias={entry?.alias ?? null} /> Owner: {data.owner}.{' '}
            {entry?.strict === true && 'Strict: what is missing below it is answered by nothing above. '}
            {data.versions.length > 0 && (
              <a href={hashOf({ at: 'new-experiment', name })}>Test versions against each other</a>
            )}
          </p>
          {data.versions.length > 0 && (
            <Table
              label="Versions"
              columns={[
                'Version',
                'State',
                { right: 'Rank' },
                { right: 'Size' },
                'Made of',
                { right: 'Exact' },
                'Created',
                '',
              ]}
            >
              {data.versions.map((version) => (
                <Row key={version.version} version={version} live={data.version} onAsk={() => ask(version)} />
              ))}
            </Table>
          )}
          <Heirs {...props} />
        </>
      )}
      {history.data !== null && history.data.changes.length > 0 && (
        <>
          <h3>History</h3>
          <ol class="history">
            {history.data.changes.map((change) => (
              <li key={change.id}>
                <time dateTime={new Date(change.at).toISOString()}>{moment(change.at)}</time>
                <span>
                  {change.action.replaceAll('_', ' ')}
                  {change.to !== null && ` version ${change.to}`}
                  {change.target !== null && ` ${change.target}`}
                  {change.from !== null && change.from !== change.to && ` (before: ${change.from})`}
                  {change.why !== null && <q>{change.why}</q>}
                </span>
                <span class="hint">{change.actor}</span>
              </li>
            ))}
          </ol>
        </>
      )}
      {question !== null && (
        <Confirm
          question={question}
          onClose={(done) => {
            setQuestion(null);
            // Also when it was refused: what is shown may be what was.
            void versions.reload();
            void history.reload();
            if (done) props.onChanged();
          }}
        />
      )}
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

function Row({ version, live, onAsk }: { version: VersionView; live: number | null; onAsk: () => void }) {
  const state = versionState(version, live);
  const parents = inheritedFrom(version);
  return (
    <tr class={state === 'retired' || state === 'withdrawn' ? 'faint' : undefined}>
      <th scope="row">{version.version}</th>
      <td>
        <span class={`state ${state}`}>{state}</span>
      </td>
      <td class="right">{version.rank}</td>
      <td class="right">{bytes(version.bytes)}</td>
      <td class="chain">
        {parents.length === 0
          ? 'itself'
          : parents.map(({ name, scale }, i) => (
              <>
                {i > 0 && ' + '}
                <a href={hashOf({ at: 'adapters', name })}>{name}</a>
                {scale !== 1 && ` × ${scale}`}
              </>
            ))}
      </td>
      <td class="right">{version.evaluation === null ? '–' : percent(version.evaluation.exact_match)}</td>
      <td>
        <time dateTime={new Date(version.created_at).toISOString()} title={moment(version.created_at)}>
          {ago(version.created_at, Date.now())}
        </time>
      </td>
      <td class="right act">
        {(state === 'staged' || state === 'earlier') && (
          <button type="button" onClick={onAsk} aria-label={`${verb(state)} version ${version.version}`}>
            {verb(state)}
          </button>
        )}
      </td>
    </tr>
  );
}

const verb = (state: 'staged' | 'earlier'): string => (state === 'staged' ? 'Promote' : 'Roll back');

function flipQuestion(client: Client, { name, version }: VersionView, live: number | null): Question {
  const forward = live === null || version > live;
  return {
    title: forward ? `Promote ${name}@${version}?` : `Roll back to ${name}@${version}?`,
    text:
      `From now on ${name} means version ${version}${live === null ? '' : ` instead of ${live}`}. ` +
      'Answers that run end as they began. Elsewhere in the world it takes about a minute.',
    act: forward ? 'Promote' : 'Roll back',
    danger: !forward,
    run: async (why) => {
      const about = { name, expect: live ?? 0, why };
      const answer = forward
        ? await client.call('POST /admin/promote', { body: { ...about, version } })
        : await client.call('POST /admin/rollback', { body: { ...about, to: version } });
      return answer.ok ? null : answer.error;
    },
  };
}

/** Who is made of this one. Read once, when the name is opened. */
function Heirs({ client, name, below }: { client: Client; name: string; below: readonly NameView[] }) {
  const live = below.filter((entry) => entry.version !== null);
  const near = live
    .toSorted((a, b) => Number(b.name.startsWith(`${name}/`)) - Number(a.name.startsWith(`${name}/`)))
    .slice(0, MAX_HEIRS_READ);
  const heirs = useLoad(
    near.length === 0 ? null : `heirs ${near.map((entry) => entry.name).join()}`,
    async () => {
      const read = await Promise.all(
        near.map((entry) =>
          client.call('GET /admin/versions', { query: { name: entry.name }, as: VersionList }),
        ),
      );
      return ok(
        heirsOf(
          name,
          read.flatMap((one) => (one.ok ? [one.value] : [])),
        ),
      );
    },
  );
  if (heirs.data === null || heirs.data.length === 0) return null;
  return (
    <p class="facts">
      Inherited by{' '}
      {heirs.data.map((heir, i) => (
        <>
          {i > 0 && ', '}
          <a href={hashOf({ at: 'adapters', name: heir })}>{heir}</a>
        </>
      ))}
      {near.length < live.length && `, of ${near.length} names that were looked at`}.
    </p>
  );
}
