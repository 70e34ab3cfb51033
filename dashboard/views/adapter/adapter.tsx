import { FlaskConical, GraduationCap, MessagesSquare, Download, Trash2, Plus } from 'lucide';
import { useState } from 'preact/hooks';
import type { NameView, ChangeView } from '../../../protocol/admin-api/names.ts';
import { VersionList, type VersionView } from '../../../protocol/admin-api/versions.ts';
import { ok } from '../../../protocol/api-error.ts';
import {
  liveOnce,
  VERSION_STATE_WORDS,
  versionState,
  type VersionState,
} from '../../../protocol/state-words.ts';
import { type Client, readChanges } from '../../api/client.ts';
import { downloadVersion } from '../../api/save-file.ts';
import type { Problem } from '../../model/problem.ts';
import { hashOf } from '../../model/view.ts';
import { useQuestion, type Question } from '../../parts/dialog.tsx';
import { CallIt, ClassifyIt, CopyButton } from '../../parts/copy-button.tsx';
import { TryClassifier } from '../../parts/try-classifier.tsx';
import { Icon } from '../../parts/icon.tsx';
import { ProblemNote, toast } from '../../parts/notes.tsx';
import { useLoad } from '../../parts/hooks.ts';
import {
  flipQuestion,
  NameActs,
  removeQuestion,
  repointQuestion,
  restoreQuestion,
  unaliasQuestion,
} from './name-questions.tsx';
import { inheritedFrom, heirsOf } from '../../model/names.ts';
import { ago, bytes, moment, number, percent } from '../../model/words.ts';
import { Table } from '../../parts/table.tsx';
import type { GrantView } from '../../../protocol/admin-api/grants.ts';
import { CheckField, TextField } from '../../parts/fields.tsx';
import { standing, whoGetsWhat } from '../../model/experiment-words.ts';
import { BASE } from '../../model/training-form.ts';
import { OpenTrainings } from '../training/trainings.tsx';
import { Evaluations } from './evaluations.tsx';
import { Training } from './training.tsx';

export function AdapterView(props: {
  client: Client;
  name: string;
  /** The name's list entry; null when it is not in the list. */
  entry: NameView | null;
  /** Names that may be built on this one. */
  below: readonly NameView[];
  /** Files of rows, to be kept as evaluations. */
  droppedRows: readonly File[];
  onChanged: () => void;
}) {
  const { client, name } = props;
  // The list is not loaded yet, or truncated before it.
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
  const history = useLoad(`history ${name}`, () => readChanges(client, name));
  const [ask, dialog] = useQuestion((done) => {
    // Also after a refusal: the shown state may be outdated.
    void versions.reload();
    void history.reload();
    void own.reload();
    if (done) props.onChanged();
  });
  const [downloading, setDownloading] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const { data } = versions;
  const changes = history.data?.changes ?? [];
  const classes = data === null ? undefined : classesOf(data);
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
            <strong>{name} was removed.</strong> You can restore it for seven days.
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
            {entry?.strict === true && 'Strict: missing names below it get no answer. '}
          </p>
          {entry?.description != null && <p dir="auto">{entry.description}</p>}
          {entry !== null && entry.tags.length > 0 && <p class="facts">Tags: {entry.tags.join(', ')}</p>}
          <RunningExperiments client={client} name={name} />
          {alias === null && <OpenTrainings client={client} name={name} />}
          <div class="actions">
            {(data.version !== null || alias !== null) && classes === undefined && (
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
                  Change target
                </button>
                <button type="button" class="danger" onClick={() => ask(unaliasQuestion(client, name))}>
                  Remove the alias
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
                <a
                  class="button"
                  href={hashOf({
                    at: 'new-training',
                    query: new URLSearchParams({ name, parent: grownOn(data) ?? BASE }),
                  })}
                >
                  <Icon of={GraduationCap} />
                  Train it
                </a>
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
          {alias === null && <Evaluations client={client} list={data} dropped={props.droppedRows} />}
          <Training versions={data.versions} />
          <Heirs {...props} />
          {(data.version !== null || alias !== null) && (
            <>
              <h3>Call it</h3>
              {classes === undefined ? (
                <CallIt
                  label="Call it"
                  body={{ model: name, messages: [{ role: 'user', content: 'Hello' }], max_tokens: 256 }}
                />
              ) : (
                <>
                  <ClassifyIt label="Call it" model={name} classes={classes} />
                  <TryClassifier model={name} classes={classes} />
                </>
              )}
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

/** Of the head of its live version, or of none; undefined = it answers with text. */
const classesOf = ({ versions }: VersionList): number | undefined =>
  versions.find(({ live }) => live)?.chain.at(-1)?.classes;

/** What its live version, or else the newest, was trained on: `name@version`; null = the base. */
const grownOn = ({ versions }: VersionList): string | null =>
  (versions.find(({ live }) => live) ?? versions[0])?.parent ?? null;

function Live({ version, alias }: { version: number | null; alias: string | null }) {
  if (alias !== null)
    return (
      <>
        An alias: it stands for <a href={hashOf({ at: 'adapters', name: alias })}>{alias}</a>.
      </>
    );
  return <>{version === null ? 'Nothing is live.' : `Version ${version} is live.`}</>;
}

/** The actions on a version. */
interface VersionActs {
  onFlip: (version: VersionView) => void;
  onRemove: (version: VersionView) => void;
  onDownload: (version: VersionView) => void;
}

/** @param props.wasLive versions that were live, according to the history. */
function VersionsTable(props: { data: VersionList; wasLive: ReadonlySet<number>; acts: VersionActs }) {
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
  const own = version.chain.at(-1);
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
      <td>
        <time dateTime={new Date(version.created_at).toISOString()} title={moment(version.created_at)}>
          {ago(version.created_at, Date.now())}
        </time>
        <br />
        <span class="hint nowrap">{version.created_by}</span>
      </td>
      <td class="right">
        {version.rank}
        {own?.activated === true && (
          <>
            <br />
            <span class="hint" title="It acts from its invocation tokens in the prompt on.">
              activated
            </span>
          </>
        )}
        {own?.classes !== undefined && (
          <>
            <br />
            <span class="hint" title="It has a classification head, and answers at /v1/classify.">
              {own.classes === 1 ? '1 class' : `${own.classes} classes`}
            </span>
          </>
        )}
      </td>
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
      {isScored && (
        <td class="right">
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
            // A rolled back version is seldom wanted again.
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

/** The action that makes it live. */
const VERBS: Partial<Record<VersionState, string>> = {
  staged: 'Promote',
  rolled_back: 'Promote again',
  earlier: 'Roll back',
};

const SHOWN = 10;

/** The changes of a name, with time and key, newest first. @param props.cut there are more. */
function History({ changes, cut }: { changes: readonly ChangeView[]; cut: boolean }) {
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

/** Other tenants that may use a name, by a grant of it or of a name above it. */
function Access({ client, name }: { client: Client; name: string }) {
  const grants = useLoad('grants', () => client.call('GET /admin/grants', {}));
  const [ask, dialog] = useQuestion(() => void grants.reload());
  const here = (grants.data?.grants ?? []).filter(({ scope }) => covers(scope, name));
  if (grants.data === null) return null;
  return (
    <section aria-label="Access">
      <div class="title">
        <h3>Access</h3>
        <button type="button" class="small" onClick={() => ask(grantQuestion(client, name))}>
          <Icon of={Plus} />
          Grant
        </button>
      </div>
      {here.length === 0 ? (
        <p class="hint">Only its owner’s keys, and keys whose scopes include it, may use it.</p>
      ) : (
        <ul class="grants">
          {here.map((grant) => (
            <li key={`${grant.scope} ${grant.tenant}`}>
              <span>
                <strong>{grant.tenant === '*' ? 'Everybody' : grant.tenant}</strong> may use{' '}
                <code>{grant.scope}</code>
              </span>
              <span class="hint">{ago(grant.created_at, Date.now())}</span>
              <button type="button" class="small" onClick={() => ask(ungrantQuestion(client, grant))}>
                Revoke
              </button>
            </li>
          ))}
        </ul>
      )}
      {dialog}
    </section>
  );
}

const covers = (scope: string, name: string): boolean =>
  scope === name || scope === '**' || (scope.endsWith('/**') && `${name}/`.startsWith(scope.slice(0, -2)));

function grantQuestion(client: Client, name: string): Question {
  const chosen = { tenant: '', below: false };
  return {
    title: `Who else may use ${name}?`,
    text: "The tenant's keys may use it, and build on it, until you revoke the grant.",
    act: 'Grant',
    noReason: true,
    done: 'The grant is given.',
    more: (
      <>
        <TextField
          label="Tenant"
          placeholder="acme"
          hint="Or * for everybody."
          required
          onChange={(tenant) => (chosen.tenant = tenant)}
        />
        <CheckField
          label={`Also everything below it, ${name}/**`}
          onChange={(below) => (chosen.below = below)}
        />
      </>
    ),
    run: async () => {
      const body = { scope: chosen.below ? `${name}/**` : name, tenant: chosen.tenant };
      const answer = await client.call('POST /admin/grants', { body });
      return answer.ok ? null : answer.error;
    },
  };
}

const ungrantQuestion = (client: Client, { scope, tenant }: GrantView): Question => ({
  title: `Revoke the grant of ${scope}?`,
  text: `${tenant === '*' ? 'Others' : tenant} can no longer use it; adapters built on it are no longer served.`,
  act: 'Revoke',
  danger: true,
  noReason: true,
  done: 'The grant is revoked.',
  run: async () => {
    const answer = await client.call('DELETE /admin/grants', { query: { scope, tenant } });
    return answer.ok ? null : answer.error;
  },
});

/** Names whose chains are read to find descendants: each takes a request. */
const MAX_HEIRS_READ = 24;

/** Names that are built on this one. Read once, when the name is opened. */
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
      {near.length < live.length && `, among the first ${near.length} names`}.
    </p>
  );
}

/** An experiment that decides which version users of the name get, shown before a manual change. */
function RunningExperiments({ client, name }: { client: Client; name: string }) {
  const { data } = useLoad(
    `experiments ${name}`,
    () => client.call('GET /admin/experiments', { query: { name } }),
    30_000,
  );
  const open = (data?.experiments ?? []).filter(
    ({ document: { status } }) => status === 'running' || status === 'ramping' || status === 'draft',
  );
  return (
    <>
      {open.map((view) => (
        <div key={view.id} class={view.document.status === 'draft' ? 'note' : 'note warm'}>
          <p>
            <strong>
              {view.document.status === 'draft' ? 'An experiment is prepared.' : 'An experiment is running.'}
            </strong>{' '}
            {view.document.status !== 'draft' && `${whoGetsWhat(view.document)} `}
            {standing(view).text}
          </p>
          <a href={hashOf({ at: 'experiments', id: view.id })}>See it</a>
        </div>
      ))}
    </>
  );
}
