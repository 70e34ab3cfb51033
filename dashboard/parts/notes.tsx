import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { type Client, hasAnswered, unreachedSince } from '../api/client.ts';
import type { Problem } from '../model/problem.ts';
import { ago, clock, moment } from '../model/words.ts';
import { type Loaded, useStore } from './hooks.ts';
import { X } from 'lucide';
import { createStore } from '../model/store.ts';
import { Icon } from './icon.tsx';

/** Shows a problem and its remedy; read aloud as it appears. */
export function ProblemNote({ problem, onRetry }: { problem: Problem | null; onRetry?: () => void }) {
  const away = useStore(unreachedSince) !== null;
  // For reads that repeat by themselves, the frame reports once that the edge is away.
  if (problem === null || (away && problem.code === 'no_answer' && onRetry !== undefined)) return null;
  return (
    <div class="note alarm" role="alert">
      <p>
        <strong>{problem.message}</strong> {problem.advice}
      </p>
      {onRetry !== undefined && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Placeholder of the same height as the coming content. @param rows lines of a table; none = a chart. */
export function Skeleton({ label, rows }: { label: string; rows?: number }) {
  return (
    <div class="skeleton" role="status" aria-label={`Loading ${label}`}>
      {rows === undefined ? (
        <span class="block" />
      ) : (
        Array.from({ length: rows }, (_, i) => <span key={i} class="line" />)
      )}
    </div>
  );
}

/**
 * The results of several requests, and their problems. While one fails, the data is marked as old, with the
 * time of the last answer; while the edge does not answer at all, the page says so once.
 */
export function Answered(props: { of: readonly Loaded<unknown>[]; children: ComponentChildren }) {
  const isAway = useStore(unreachedSince) !== null;
  const failed = isAway ? undefined : props.of.find(({ problem }) => problem !== null);
  const shown = props.of.map(({ data }) => data);
  const at = useRef(Date.now());
  useEffect(() => {
    if (failed === undefined) at.current = Date.now();
    // Each answer is a new object.
  }, shown);
  const isOld = failed !== undefined && shown.some((data) => data !== null);
  return (
    <>
      {isOld && (
        <p class="note stale-note" role="status">
          Old data: the edge last answered at {clock(at.current)}, {ago(at.current, Date.now())}.
        </p>
      )}
      <ProblemNote
        problem={failed?.problem ?? null}
        onRetry={() => void Promise.all(props.of.map(({ reload }) => reload()))}
      />
      <div class={isOld ? 'old' : undefined}>{props.children}</div>
    </>
  );
}

/** While the edge is away; each view reloads by itself once it is back. */
const LOOK_AGAIN_MS = 5_000;

const ask = (client: Client) => client.call('GET /admin/history', { query: { limit: '1' } });

/** Shows that the data is old, and since when; checks whether the edge is back. */
export function OfflineNote({ client }: { client: Client }) {
  const since = useStore(unreachedSince);
  useEffect(() => {
    // Status colours are removed, see style.css.
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
            Shown is the state of <time>{moment(since)}</time> or earlier.
          </>
        ) : (
          'Nothing has been loaded yet.'
        )}{' '}
        Check that it runs and that you are online; the page checks again every few seconds.
      </p>
      <button type="button" onClick={() => void ask(client)}>
        Check now
      </button>
    </div>
  );
}

interface Toast {
  readonly id: number;
  readonly text: string;
}

/** Long enough to read a short sentence twice. */
const SHOWN_MS = 6_000;
/** Beyond this number the oldest one disappears. */
const MAX_SHOWN = 3;

const toasts = createStore<readonly Toast[]>([]);
let last = 0;

const take = (id: number): void => toasts.set(toasts.get().filter((one) => one.id !== id));

/** Shows for a moment what was done, on whichever page. @param text a short sentence. */
export function toast(text: string): void {
  const id = ++last;
  toasts.set([...toasts.get(), { id, text }].slice(-MAX_SHOWN));
  setTimeout(() => take(id), SHOWN_MS);
}

export function Toasts() {
  const shown = useStore(toasts);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.map(({ id, text }) => (
        <div key={id} class="toast">
          <span>{text}</span>
          <button type="button" class="bare" aria-label="Close" onClick={() => take(id)}>
            <Icon of={X} />
          </button>
        </div>
      ))}
    </div>
  );
}
