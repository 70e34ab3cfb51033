import { RotateCcw, Upload, ChevronRight, GraduationCap } from 'lucide';
import { useEffect, useState, useRef } from 'preact/hooks';
import { type Client, readNames, type FoundNames } from '../api/client.ts';
import { isRowsFile } from '../api/evaluation-rows.ts';
import { removedLately, countNames, isFound, type NameNode, nameTree } from '../model/names.ts';
import { ago, number } from '../model/words.ts';
import { useQuestion } from '../parts/dialog.tsx';
import { Icon } from '../parts/icon.tsx';
import { useLoad, type Loaded } from '../parts/hooks.ts';
import { AdapterView } from './adapter/adapter.tsx';
import { DropZone } from '../parts/drop-zone.tsx';
import { PublishDialog } from './adapter/publish-dialog.tsx';
import { restoreQuestion } from './adapter/name-questions.tsx';
import { hashOf } from '../model/view.ts';
import { ProblemNote } from '../parts/notes.tsx';

/** Files for a name: dropped ones, or none yet. */
interface Given {
  readonly files: readonly File[];
  readonly name: string;
}

const NONE: readonly File[] = [];

export function AdaptersView({ client, name }: { client: Client; name: string | null }) {
  const [prefix, setPrefix] = useState('');
  const names = useLoad(`names ${prefix}`, () => readNames(client, prefix), 30_000);
  const [publishing, setPublishing] = useState<Given | null>(null);
  const [droppedRows, setDroppedRows] = useState<Given | null>(null);
  const entries = names.data?.entries ?? [];
  const chosen = entries.find((entry) => entry.name === name) ?? null;
  // The list may be long, and the chosen entry's details start at the top.
  useEffect(() => {
    scrollTo(0, 0);
    setDroppedRows(null);
  }, [name]);
  return (
    <DropZone
      invites={
        name === null
          ? 'Drop an adapter’s files or folder to publish it'
          : 'Drop an adapter’s files or folder to publish it, or a .jsonl file of rows to evaluate it'
      }
      onFiles={(files) => {
        const takesRows = name !== null && chosen?.alias == null && publishing === null;
        if (takesRows && files.length > 0 && files.every(isRowsFile)) setDroppedRows({ files, name });
        else setPublishing({ files, name: name ?? '' });
      }}
    >
      <div class="title">
        <h1>Adapters</h1>
        <span class="push choices">
          {/* Of a chosen name, its page has one. */}
          {name === null && (
            <a class="button" href={hashOf({ at: 'new-training' })}>
              <Icon of={GraduationCap} />
              Train
            </a>
          )}
          <button type="button" class="main" onClick={() => setPublishing({ files: [], name: name ?? '' })}>
            <Icon of={Upload} />
            Publish
          </button>
        </span>
      </div>
      <div class={name === null ? 'split' : 'split chosen'}>
        <section class="list" aria-label="Names">
          <NameList names={names} chosen={name} onPrefix={setPrefix} />
          <RemovedLately client={client} about={`${entries.length}`} />
        </section>
        <section class="detail" aria-label="Chosen adapter">
          {name === null ? (
            <p class="empty">
              Choose a name to see its versions, its descendants and how to call it. To publish an adapter,
              drop its files anywhere on this page.
            </p>
          ) : (
            <AdapterView
              key={name}
              client={client}
              name={name}
              entry={chosen}
              below={entries.filter((entry) => entry.name !== name && entry.alias === null)}
              droppedRows={droppedRows?.name === name ? droppedRows.files : NONE}
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

/** Changes that are searched for removals. */
const LOOKED_AT = '200';

/** Removed names that can still be restored. @param props.about changes along with the names. */
function RemovedLately({ client, about }: { client: Client; about: string }) {
  const history = useLoad(`removed ${about}`, () =>
    client.call('GET /admin/history', { query: { limit: LOOKED_AT } }),
  );
  const [ask, dialog] = useQuestion(() => void history.reload());
  const removed = removedLately(history.data?.changes ?? [], Date.now());
  if (removed.length === 0) return null;
  return (
    <details class="removed">
      <summary>Removed recently ({removed.length})</summary>
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

/** Trees with more names start collapsed. */
const MAX_OPEN = 50;
/** Up to this many found names are all expanded. */
const MAX_FOUND_OPEN = 300;

/** All names as a tree, with a search. */
function NameList(props: {
  names: Loaded<FoundNames>;
  chosen: string | null;
  /** If not all names are loaded, the edge is asked for those that begin with the search text. */
  onPrefix: (prefix: string) => void;
}) {
  const { names, chosen } = props;
  const [text, setText] = useState('');
  // If the list was truncated once, each search asks again.
  const isCut = useRef(false);
  isCut.current ||= names.data?.cut === true;
  const all = names.data?.entries ?? [];
  const found = text.trim() === '' ? all : all.filter(({ name }) => isFound(name, text.trim()));
  const tree = nameTree(found);
  return (
    <>
      <label class="field">
        <span>Names with</span>
        <input
          type="search"
          value={text}
          placeholder="cardio"
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => {
            const typed = event.currentTarget.value;
            setText(typed);
            if (isCut.current) props.onPrefix(typed.trim());
          }}
        />
      </label>
      <ProblemNote problem={names.problem} onRetry={() => void names.reload()} />
      {names.data === null ? (
        names.problem === null && <p class="hint">Loading …</p>
      ) : (
        <p class="hint" role="status">
          {counted(found.length, all.length, text.trim(), names.data.cut)}
        </p>
      )}
      {names.data !== null && all.length === 0 && text === '' && (
        <p class="hint">
          Nothing is published yet. Drop an adapter’s files here, or run{' '}
          <code>graft publish ./folder --name team/first</code>.
        </p>
      )}
      {tree.length > 0 && (
        <Level
          key={text.trim() === '' ? 'all' : 'found'}
          nodes={tree}
          chosen={chosen}
          open={found.length <= (text.trim() === '' ? MAX_OPEN : MAX_FOUND_OPEN)}
        />
      )}
    </>
  );
}

function counted(found: number, all: number, text: string, cut: boolean): string {
  const whole = cut ? `the first ${number(all)}` : number(all);
  if (text === '')
    return cut ? `The first ${number(all)} names.` : `${whole} ${all === 1 ? 'name' : 'names'}`;
  const more = cut ? ' To find others, type the beginning of their name.' : '';
  return found === 0 ? `No name contains it.${more}` : `${number(found)} of ${whole} names.${more}`;
}

interface LevelProps {
  nodes: readonly NameNode[];
  chosen: string | null;
  /** Whether nodes start expanded. */
  open: boolean;
}

function Level({ nodes, chosen, open }: LevelProps) {
  return (
    <ul class="tree">
      {nodes.map((node) => (
        <Branch key={node.path} node={node} chosen={chosen} open={open} />
      ))}
    </ul>
  );
}

function Branch({ node, chosen, open: begins }: { node: NameNode; chosen: string | null; open: boolean }) {
  const leads = chosen !== null && chosen.startsWith(`${node.path}/`);
  const [toggled, setToggled] = useState<boolean | null>(null);
  const open = toggled ?? (begins || leads);
  const { entry, children, segment, path } = node;
  const below = children.reduce((sum, child) => sum + countNames(child), 0);
  const link = useRef<HTMLAnchorElement>(null);
  const isChosen = chosen === path;
  useEffect(() => {
    if (isChosen) link.current?.scrollIntoView({ block: 'nearest' });
  }, [isChosen]);
  return (
    <li>
      <div class="branch">
        {children.length > 0 ? (
          <button
            type="button"
            class="toggle"
            aria-expanded={open}
            aria-label={`${path}: ${below} below`}
            onClick={() => setToggled(!open)}
          >
            <Icon of={ChevronRight} />
          </button>
        ) : (
          <span class="toggle" />
        )}
        {entry === null ? (
          <span class="folder">
            {segment}/<span class="tag">{open ? '' : number(below)}</span>
          </span>
        ) : (
          <a
            ref={link}
            href={hashOf({ at: 'adapters', name: path })}
            aria-current={isChosen ? 'true' : undefined}
          >
            <span class="segment">{segment}</span>
            <span class="tag">
              {entry.alias !== null
                ? `→ ${entry.alias}`
                : entry.version === null
                  ? 'staged'
                  : `@${entry.version}`}
              {entry.strict && ', strict'}
            </span>
          </a>
        )}
      </div>
      {open && children.length > 0 && <Level nodes={children} chosen={chosen} open={begins} />}
    </li>
  );
}
