import { Download, Trash2 } from 'lucide';
import { useState } from 'preact/hooks';
import type { ChangeView } from '../../../protocol/admin-api/names.ts';
import type { VersionList, VersionView } from '../../../protocol/admin-api/versions.ts';
import { VERSION_STATE_WORDS, versionState, type VersionState } from '../../../protocol/state-words.ts';
import { inheritedFrom } from '../../model/names.ts';
import { hashOf } from '../../model/view.ts';
import { ago, bytes, moment, number, percent } from '../../model/words.ts';
import { CopyButton } from '../../parts/copy-button.tsx';
import { Icon } from '../../parts/icon.tsx';
import { Table } from '../../parts/table.tsx';

/** What can be done with a version. */
interface VersionActs {
  onFlip: (version: VersionView) => void;
  onRemove: (version: VersionView) => void;
  onDownload: (version: VersionView) => void;
}

/** @param props.wasLive those that were live once, by the history. */
export function VersionsTable(props: { data: VersionList; wasLive: ReadonlySet<number>; acts: VersionActs }) {
  const { data, wasLive, acts } = props;
  const isScored = data.versions.some(({ evaluation }) => evaluation !== null);
  return (
    <Table
      label="Versions"
      asCards
      columns={[
        'Version',
        'State',
        'Created',
        { right: 'Rank' },
        { right: 'Size' },
        'Made of',
        ...(isScored ? [{ right: 'Exact' }] : []),
        '',
      ]}
    >
      {data.versions.map((version) => (
        <Row
          key={version.version}
          version={version}
          isScored={isScored}
          state={versionState(version, data.version, wasLive.has(version.version))}
          acts={acts}
        />
      ))}
    </Table>
  );
}

function Row(props: { version: VersionView; isScored: boolean; state: VersionState; acts: VersionActs }) {
  const { version, isScored, state, acts } = props;
  const { version: index, evaluation, digest } = version;
  const parents = inheritedFrom(version);
  const flip = VERBS[state];
  return (
    <tr class={state === 'retired' || state === 'withdrawn' ? 'faint' : undefined}>
      <th scope="row" class="nowrap">
        {index}
        <br />
        <code class="hint" title={digest}>
          {digest.slice(0, 8)}
        </code>
        <CopyButton text={digest} what={`the digest of version ${index}`} />
      </th>
      <td>
        <span class={`state ${state}`}>{VERSION_STATE_WORDS[state]}</span>
      </td>
      <td data-label="Created">
        <time dateTime={new Date(version.created_at).toISOString()} title={moment(version.created_at)}>
          {ago(version.created_at, Date.now())}
        </time>
        <br />
        <span class="hint nowrap">{version.created_by}</span>
      </td>
      <td class="right" data-label="Rank">
        {version.rank}
      </td>
      <td class="right" data-label="Size">
        {bytes(version.bytes)}
      </td>
      <td class="chain" data-label="Made of">
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
      {isScored && (
        <td class="right" data-label="Exact">
          {evaluation === null ? (
            '–'
          ) : (
            <>
              {percent(evaluation.exact_match)} of {evaluation.rows}
              <br />
              <span class="hint">{number(evaluation.mean_nll)} nats a token</span>
            </>
          )}
        </td>
      )}
      <td class="right act stacks">
        {flip !== undefined && (
          <button
            type="button"
            // What was taken back once is seldom wanted again.
            class={state === 'rolled_back' ? 'quiet' : undefined}
            onClick={() => acts.onFlip(version)}
            aria-label={`${flip} version ${index}`}
          >
            {flip}
          </button>
        )}
        <button
          type="button"
          class="bare"
          title={`Download version ${index}`}
          aria-label={`Download version ${index}`}
          onClick={() => acts.onDownload(version)}
        >
          <Icon of={Download} />
        </button>
        {state !== 'live' && (
          <button
            type="button"
            class="bare"
            title={`Remove version ${index}`}
            aria-label={`Remove version ${index}`}
            onClick={() => acts.onRemove(version)}
          >
            <Icon of={Trash2} />
          </button>
        )}
      </td>
    </tr>
  );
}

/** What makes it the live one. */
const VERBS: Partial<Record<VersionState, string>> = {
  staged: 'Promote',
  rolled_back: 'Promote again',
  earlier: 'Roll back',
};

const SHOWN = 10;

/** What was done with a name, when and by which key, the newest first. @param props.cut there are more. */
export function History({ changes, cut }: { changes: readonly ChangeView[]; cut: boolean }) {
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
              {change.why !== null && <q dir="auto">{change.why}</q>}
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
      {(all || changes.length <= SHOWN) && cut && (
        <p class="hint">
          Older ones are in <code>graft history</code>.
        </p>
      )}
    </section>
  );
}
