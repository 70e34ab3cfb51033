import { errorResponse, isEventStream, readUsageNote } from '../../protocol/index.ts';
import type { AskQuota, Refused, Ticket } from '../quota/ask-quota.ts';
import type {
  CompletionEnding,
  CompletionMeter,
  MeteredAnswer,
  TokenCounts,
  UsageSink,
} from '../stores/types-metering.ts';
import { UsageStripper } from './strip-usage.ts';

/** Statuses of what did not come to its end; see {@link UsageEvent}. */
const CLIENT_LEFT = 499;
const BROKE_OFF = 502;

export function createCompletionMeter(params: {
  askQuota: AskQuota;
  usage: UsageSink;
  now: () => number;
  renewMs: number;
  /** A stream in which nothing moves for this long is ended. */
  stallMs: number;
  stallCheckMs: number;
}): CompletionMeter {
  const { askQuota, usage, now, renewMs, stallMs, stallCheckMs } = params;

  return {
    async measure({ caller, requestId, gone, keepAlive, run, onEnd }) {
      const refusal = new AbortController();
      let over: () => void = () => undefined;
      const counted = new Promise<void>((resolve) => (over = resolve));
      // What a client leaves is counted after it has gone, which ends all work that is not kept alive.
      if (gone.aborted) keepAlive(counted);
      else gone.addEventListener('abort', () => keepAlive(counted), { once: true });
      const limited = caller.limits !== undefined || caller.tenantLimits !== undefined;
      const asking = askQuota(caller);
      // A refusal that is known already costs nobody anything.
      if ('ok' in asking && !asking.ok) {
        over();
        return refused(asking.error);
      }
      const running = run(limited ? AbortSignal.any([gone, refusal.signal]) : gone);
      // A failure of the work is its own, but not before the quota has spoken.
      running.catch(() => undefined);
      const asked = await asking;
      if (!asked.ok) {
        over();
        refusal.abort();
        keepAlive(running.then(({ response }) => response.body?.cancel()));
        return refused(asked.error);
      }
      const ticket = asked.value;
      /** Whether it gives signs of life; a stream does so by moving. */
      let alive = () => true;
      const stopRenewing = limited ? renewEach(ticket, renewMs, () => alive()) : () => undefined;
      let ended = false;
      const end = (served: MeteredAnswer['served'], ending: CompletionEnding) => {
        if (ended) return;
        ended = true;
        over();
        onEnd?.(ending);
        stopRenewing();
        const { finish: _finish, firstAt: _firstAt, ...counts } = ending;
        if (limited) keepAlive(ticket.settle(counts.promptTokens + counts.completionTokens));
        if (served === null) return;
        const { keyId, tenant } = caller;
        usage.recordUsage({ keyId, tenant, ...served, ...counts, at: now(), requestId }, keepAlive);
      };

      let answer: MeteredAnswer;
      try {
        answer = await running;
      } catch (error) {
        end(null, { promptTokens: 0, completionTokens: 0, status: 500, finish: null, firstAt: null });
        throw error;
      }
      const { response, served, used } = answer;
      for (const [name, value] of ticket.headers) response.headers.set(name, value);
      const note = readUsageNote(answer.note);
      const promptTokens = note?.promptTokens ?? 0;
      const body = response.body as ReadableStream<Uint8Array> | null;
      if (body === null || !isEventStream(response.headers)) {
        const left = gone.aborted && note === null ? await used?.() : undefined;
        end(served, {
          promptTokens: left?.tokens.promptTokens ?? promptTokens,
          completionTokens: left?.tokens.completionTokens ?? note?.completionTokens ?? 0,
          status: gone.aborted ? CLIENT_LEFT : response.status,
          finish: note?.finish ?? null,
          firstAt: null,
        });
        return response;
      }

      const stripper = new UsageStripper();
      let movedAt = now();
      let firstAt: number | null = null;
      alive = () => now() - movedAt < stallMs;
      let cut: (reason: Error) => void = () => undefined;
      const watch = setInterval(() => {
        if (alive()) return;
        endStream(CLIENT_LEFT);
        cut(new Error('nothing moves'));
      }, stallCheckMs);
      let ending = false;
      const endStream = (status: number) => {
        clearInterval(watch);
        if (ending) return;
        ending = true;
        const seen = (tokens?: TokenCounts): CompletionEnding => ({
          promptTokens: stripper.note?.promptTokens ?? promptTokens,
          completionTokens: stripper.note?.completionTokens ?? stripper.events,
          ...tokens,
          status,
          finish: stripper.note?.finish ?? null,
          firstAt,
        });
        if (status !== CLIENT_LEFT || stripper.note !== null || used === undefined) end(served, seen());
        // What its client has got is known in any case.
        else keepAlive(used().then((left) => end(served, seen(left.exact ? left.tokens : undefined))));
      };
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
        start(controller) {
          cut = (reason) => controller.error(reason);
        },
        transform(chunk, controller) {
          movedAt = now();
          for (const piece of stripper.push(chunk)) if (piece.length > 0) controller.enqueue(piece);
          // Signs of life before it are comments.
          if (firstAt === null && stripper.events > 0) firstAt = movedAt;
        },
        flush(controller) {
          for (const piece of stripper.end()) controller.enqueue(piece);
        },
      });
      // Not every end of a client's connection reaches the pipe (workerd#6832).
      if (gone.aborted) endStream(CLIENT_LEFT);
      else gone.addEventListener('abort', () => endStream(CLIENT_LEFT), { once: true });
      keepAlive(
        body.pipeTo(writable).then(
          // An origin that notes usage does so before the end of every stream that it brings to its end.
          () => endStream(note === null || stripper.note !== null ? response.status : BROKE_OFF),
          () => endStream(gone.aborted || stripper.note !== null ? CLIENT_LEFT : BROKE_OFF),
        ),
      );
      return new Response(readable, response);
    },
  };
}

const refused = ({ error, headers }: Refused): Response => errorResponse(error, Object.fromEntries(headers));

/** @returns what ends it. */
function renewEach(ticket: Ticket, ms: number, alive: () => boolean): () => void {
  const timer = setInterval(() => {
    if (alive()) void ticket.renew();
  }, ms);
  return () => clearInterval(timer);
}
