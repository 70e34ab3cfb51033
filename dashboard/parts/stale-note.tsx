import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { unreachedSince } from '../api/reach.ts';
import { clock } from '../model/words-of-time.ts';
import { ago } from '../model/words.ts';
import { ProblemNote } from './problem-note.tsx';
import { useStore } from './use-store.ts';
import type { Loaded } from './use-load.ts';

/**
 * What came of several questions, and what went wrong with them. While one of them fails, what is shown is marked as
 * old, with the time of the last answer; while the edge does not answer at all, the page says so of all of it.
 */
export function Answered(props: { of: readonly Loaded<unknown>[]; children: ComponentChildren }) {
  const isAway = useStore(unreachedSince) !== null;
  const failed = isAway ? undefined : props.of.find(({ problem }) => problem !== null);
  const shown = props.of.map(({ data }) => data);
  const at = useRef(Date.now());
  useEffect(() => {
    if (failed === undefined) at.current = Date.now();
    // Each answer is an object of its own.
  }, shown);
  const isOld = failed !== undefined && shown.some((data) => data !== null);
  return (
    <>
      {isOld && (
        <p class="note stale-note" role="status">
          Old: this is what the edge said at {clock(at.current)}, {ago(at.current, Date.now())}.
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
