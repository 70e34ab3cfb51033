import { useEffect } from 'preact/hooks';
import { hasAnswered, unreachedSince } from '../api/reach.ts';
import type { Client } from '../api/client.ts';
import { moment } from '../model/words.ts';
import { useStore } from '../parts/use-store.ts';

/** While the edge is away; each view looks again by itself once it is back. */
const LOOK_AGAIN_MS = 5_000;

const ask = (client: Client) => client.call('GET /admin/history', { query: { limit: '1' } });

/** Says that what is shown is old, and since when; looks whether the edge is back. */
export function OfflineNote({ client }: { client: Client }) {
  const since = useStore(unreachedSince);
  useEffect(() => {
    // What colours say of the state of things is taken back, see style.css.
    document.documentElement.toggleAttribute('data-old', since !== null);
    if (since === null) return;
    const timer = setInterval(() => {
      if (!document.hidden) void ask(client);
    }, LOOK_AGAIN_MS);
    return () => clearInterval(timer);
  }, [since, client]);
  if (since === null) return null;
  return (
    <div class="offline" role="alert">
      <p>
        <strong>The edge does not answer.</strong>{' '}
        {hasAnswered() ? (
          <>
            What is shown is of <time>{moment(since)}</time> or before.
          </>
        ) : (
          'Nothing has come from it yet.'
        )}{' '}
        Check that it runs and that you are online; the page looks again every few seconds.
      </p>
      <button type="button" onClick={() => void ask(client)}>
        Look now
      </button>
    </div>
  );
}
