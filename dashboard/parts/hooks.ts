import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import type { Result } from '../../protocol/api-error.ts';
import { unreachedSince } from '../api/client.ts';
import type { Problem } from '../model/problem.ts';
import type { Store } from '../model/store.ts';

export interface Loaded<T> {
  /** The latest answer; stays when a later request fails. */
  readonly data: T | null;
  readonly problem: Problem | null;
  readonly loading: boolean;
  reload(): Promise<void>;
}

/**
 * Asks once for each `about`, and again every `everyMs` while the page is visible and no request is pending.
 * @param about identifies the request; a new one discards the old data. null = nothing.
 */
export function useLoad<T>(
  about: string | null,
  load: () => Promise<Result<T, Problem>>,
  everyMs?: number,
): Loaded<T> {
  const [state, setState] = useState<{ about: string | null; data: T | null; problem: Problem | null }>({
    about,
    data: null,
    problem: null,
  });
  const [asking, setAsking] = useState(0);
  const latest = useRef({ about, load, turn: 0, pending: 0, askedAt: 0 });
  latest.current.about = about;
  latest.current.load = load;

  const reload = useCallback(async () => {
    const asked = latest.current.about;
    if (asked === null) return;
    const turn = ++latest.current.turn;
    latest.current.pending += 1;
    latest.current.askedAt = Date.now();
    setAsking((count) => count + 1);
    const result = await latest.current.load();
    latest.current.pending -= 1;
    setAsking((count) => count - 1);
    // Something else, or the same again, was requested in the meantime.
    if (latest.current.about !== asked || latest.current.turn !== turn) return;
    setState((before) => ({
      about: asked,
      data: result.ok ? result.value : before.about === asked ? before.data : null,
      problem: result.ok ? null : result.error,
    }));
  }, []);

  useEffect(() => {
    void reload();
    if (everyMs === undefined) return;
    const timer = setInterval(() => {
      if (!document.hidden && latest.current.pending === 0) void reload();
    }, everyMs);
    // After hours in the background, show the current state.
    const onSeen = () => {
      const { pending, askedAt } = latest.current;
      if (!document.hidden && pending === 0 && Date.now() - askedAt >= everyMs) void reload();
    };
    document.addEventListener('visibilitychange', onSeen);
    return () => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', onSeen);
    };
  }, [about, everyMs, reload]);

  // Retry reads that failed while the edge was away as soon as it is back.
  const isLacking = useRef(false);
  isLacking.current = state.problem?.code === 'no_answer';
  useEffect(
    () =>
      unreachedSince.subscribe((since) => {
        if (since === null && isLacking.current) void reload();
      }),
    [reload],
  );

  const mine = state.about === about;
  return {
    data: mine ? state.data : null,
    problem: mine ? state.problem : null,
    loading: asking > 0,
    reload,
  };
}

/** The store's value, kept up to date. */
export function useStore<T>(store: Store<T>): T {
  const [value, setValue] = useState(() => store.get());
  useEffect(() => {
    // It may have changed between the first render and this.
    setValue(() => store.get());
    return store.subscribe((next) => setValue(() => next));
  }, [store]);
  return value;
}
