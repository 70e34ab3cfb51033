import type { Output, Progress } from '../output.ts';
import type { OriginEvent } from './origin-process.ts';

/**
 * Shows `{"event":"progress","what":"…","percent":…}` lines of the origin, such as the building of its graphs: a bar
 * for each stage on a terminal, and one line when it is done. What runs the base is a line too.
 */
export function originProgress(output: Output): { hear(event: OriginEvent): void; end(): void } {
  let stage: { what: string; bar: Progress } | null = null;
  const end = () => {
    stage?.bar.end(stage.what);
    stage = null;
  };
  return {
    hear({ event, what, percent, message }) {
      if (event !== 'progress' || what !== stage?.what) end();
      if (event === 'provider' && typeof message === 'string') output.note(message);
      if (event !== 'progress' || typeof what !== 'string') return;
      stage ??= { what, bar: output.progress(what, 'percent') };
      if (typeof percent === 'number') stage.bar.update(percent, 100);
    },
    /** Also when the origin ended in the middle of a stage: the next line would stand behind the bar. */
    end,
  };
}
