import type { NameView } from '../../../protocol/admin-api/names.ts';
import { VersionList } from '../../../protocol/admin-api/versions.ts';
import { ok } from '../../../protocol/api-error.ts';
import type { Client } from '../../api/client.ts';
import { standing, whoGetsWhat } from '../../model/experiment-words.ts';
import { heirsOf } from '../../model/names.ts';
import { hashOf } from '../../model/view.ts';
import { useLoad } from '../../parts/use-load.ts';

/** Names whose chains are read to find heirs: each is a request. */
const MAX_HEIRS_READ = 24;

/** Who is made of this one. Read once, when the name is opened. */
export function Heirs({ client, name, below }: { client: Client; name: string; below: readonly NameView[] }) {
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

/** An experiment that decides which version users of the name get, before anybody changes that by hand. */
export function RunningExperiments({ client, name }: { client: Client; name: string }) {
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
