import { readUsageNote } from '../../protocol/index.ts';
import { outcomeValues } from '../experiments/outcome.ts';
import { logLine } from '../observe/log-line.ts';
import type { ExperimentSink, ShadowRunner } from '../stores/types-experiments.ts';
import type { CompletionEnding, MeteredAnswer } from '../stores/types-metering.ts';
import { UsageStripper } from './strip-usage.ts';

/** A shadow's events are of no variant. */
const SHADOW = 'shadow';

/** Shadows are nobody's: no quota is asked, no usage is written, and no answer is kept. */
export function createShadowRunner(params: {
  sink: ExperimentSink;
  hasRoom: () => boolean;
  now: () => number;
  maxAtOnce: number;
  budgetMs: number;
}): ShadowRunner {
  const { sink, hasRoom, now, maxAtOnce, budgetMs } = params;
  /** Unix ms at which each ends by itself: the work of a request that is cut off never comes to its `finally`. */
  const running = new Set<{ until: number }>();

  return {
    run({ event, ask, keepAlive }) {
      for (const one of running) if (one.until <= now()) running.delete(one);
      if (running.size >= maxAtOnce || !hasRoom()) return;
      const startedAt = now();
      const own = { until: startedAt + budgetMs };
      running.add(own);

      const work = async () => {
        const signal = AbortSignal.timeout(budgetMs);
        const ending = await readToTheEnd(await ask(signal), now);
        if (signal.aborted) return;
        const at = now();
        const values = outcomeValues({
          ...ending,
          ttftMs: (ending.firstAt ?? at) - startedAt,
          latencyMs: at - startedAt,
          stoodIn: false,
        });
        if (values !== null) sink.record({ ...event, variant: SHADOW, at, values, shadow: true }, keepAlive);
      };
      keepAlive(
        work()
          .catch((error: unknown) =>
            logLine('shadow_failed', { experiment: event.experiment, reason: String(error) }),
          )
          .finally(() => running.delete(own)),
      );
    },
  };
}

const BROKE_OFF = 502;

/** Reads an answer that nobody gets. */
async function readToTheEnd(
  { response, note: header }: Pick<MeteredAnswer, 'response' | 'note'>,
  now: () => number,
): Promise<CompletionEnding> {
  const stripper = new UsageStripper();
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream') ?? false;
  let firstAt: number | null = null;
  let { status } = response;
  try {
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      if (!isStream) continue;
      stripper.push(chunk);
      if (firstAt === null && stripper.events > 0) firstAt = now();
    }
  } catch {
    status = BROKE_OFF;
  }
  const begun = readUsageNote(header);
  const ended = isStream ? stripper.note : begun;
  // An origin that notes usage does so before the end of every stream that it brings to its end.
  if (isStream && header !== null && ended === null) status = BROKE_OFF;
  return {
    status,
    promptTokens: (ended ?? begun)?.promptTokens ?? 0,
    completionTokens: ended?.completionTokens ?? stripper.events,
    finish: ended?.finish ?? null,
    firstAt,
  };
}
