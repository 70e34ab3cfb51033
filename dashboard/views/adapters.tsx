import { useState } from 'preact/hooks';
import type { NameList, NameView } from '../../protocol/admin-api/names.ts';
import { ok, type Result } from '../../protocol/result.ts';
import type { Client } from '../api/client.ts';
import { countNames, nameTree, type NameNode } from '../model/name-tree.ts';
import type { Problem } from '../model/problem.ts';
import { hashOf } from '../model/view.ts';
import { ProblemNote } from '../parts/problem-note.tsx';
import { useLoad } from '../parts/use-load.ts';
import { AdapterView } from './adapter.tsx';

/** Names that are read at once; there may be a million, and whoever looks for one types its beginning. */
const READ_AT_ONCE = 500;

interface FoundNames {
  readonly entries: readonly NameView[];
  /** There are more. */
  readonly cut: boolean;
}

async function readNames(client: Client, prefix: string): Promise<Result<FoundNames, Problem>> {
  const entries: NameView[] = [];
  for (let cursor: string | null = null; ;) {
    const call: { query: { prefix: string; cursor: string | null } } = { query: { prefix, cursor } };
    const page: Result<NameList, Problem> = await client.call('GET /admin/names', call);
    if (!page.ok) return page;
    entries.push(...page.value.names);
    cursor = page.value.cursor;
    if (cursor === null || entries.length >= READ_AT_ONCE) return ok({ entries, cut: cursor !== null });
  }
}

export function AdaptersView({ client, name }: { client: Client; name: string | null }) {
  const [prefix, setPrefix] = useState('');
  const names = useLoad(`names ${prefix}`, () => readNames(client, prefix), 30_000);
  const tree = nameTree(names.data?.entries ?? []);
  return (
    <div class={name === null ? 'split' : 'split chosen'}>
      <section class="list" aria-label="Names">
        <h1>Adapters</h1>
        <label class="field">
          <span>Names that begin with</span>
          <input
            type="search"
            value={prefix}
            placeholder="medicine/"
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => setPrefix(event.currentTarget.value.trim())}
          />
        </label>
        <ProblemNote problem={names.problem} onRetry={() => void names.reload()} />
        {names.data === null ? (
          names.problem === null && <p class="hint">Loading …</p>
        ) : tree.length === 0 ? (
          <p class="hint">
            {prefix === '' ? (
              <>
                Nothing is published yet. <code>graft publish ./folder --name team/first</code> does it.
              </>
            ) : (
              'No name begins so.'
            )}
          </p>
        ) : (
          <Level
            nodes={tree}
            chosen={name}
            open={prefix !== '' || (names.data.entries.length <= 50 && !names.data.cut)}
          />
        )}
        {names.data?.cut === true && (
          <p class="hint">
            The first {names.data.entries.length} are shown. Type more of the name to see others.
          </p>
        )}
      </section>
      <section class="detail" aria-label="Chosen adapter">
        {name === null ? (
          <p class="hint">Choose a name to see its versions.</p>
        ) : (
          <AdapterView
            key={name}
            client={client}
            name={name}
            entry={names.data?.entries.find((entry) => entry.name === name) ?? null}
            below={(names.data?.entries ?? []).filter((entry) => entry.name !== name && entry.alias === null)}
            onChanged={() => void names.reload()}
          />
        )}
      </section>
    </div>
  );
}

interface LevelProps {
  nodes: readonly NameNode[];
  chosen: string | null;
  /** Whether nodes begin opened. */
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
  return (
    <li>
      <div class="branch">
        {children.length > 0 ? (
          <button
            type="button"
            class="toggle"
            aria-expanded={open}
            aria-label={`${path}: ${children.reduce((sum, child) => sum + countNames(child), 0)} below`}
            onClick={() => setToggled(!open)}
          />
        ) : (
          <span class="toggle" />
        )}
        {entry === null ? (
          <span class="folder">{segment}/</span>
        ) : (
          <a
            href={hashOf({ at: 'adapters', name: path })}
            aria-current={chosen === path ? 'true' : undefined}
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
