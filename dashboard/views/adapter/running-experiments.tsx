import type { Client } from '../../api/client.ts';
import { standing } from '../../model/decision-words.ts';
import { hashOf } from '../../model/view.ts';
import { useLoad } from '../../parts/use-load.ts';

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
            {view.document.status !== 'draft' &&
              'Its users get the versions that it deals, whichever is live. '}
            {standing(view).text}
          </p>
          <a href={hashOf({ at: 'experiments', id: view.id })}>See it</a>
        </div>
      ))}
    </>
  );
}
