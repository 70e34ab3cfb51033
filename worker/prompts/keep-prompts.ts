import type { KeptText } from '../../protocol/index.ts';
import { logLine } from '../log.ts';
import { createBatchedWrites } from '../platform/store-calls.ts';
import { AnswerGatherer, promptTurns } from './kept-text.ts';
import { MAX_UNSENT_PROMPTS, PROMPT_BATCH, PROMPT_FLUSH_MS, PROMPT_TRIES } from './limits.ts';
import type { KeptPrompts, Keeping, PromptKeeper, PromptRow } from './ports.ts';
import type { TextSealer } from './seal-text.ts';

const NO_ANSWER = { answers: null, answers_cut: false };

/** Keeps what keys ask that have it kept, beside and after the answers; see {@link createBatchedWrites}. */
export function createPromptKeeper(params: {
  keptPrompts: Pick<KeptPrompts, 'add'>;
  sealer: TextSealer;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
}): PromptKeeper {
  const { keptPrompts, sealer } = params;
  let open: PromptRow[] = [];
  const writes = createBatchedWrites<readonly PromptRow[]>({
    ...params,
    close,
    write: (rows) => keptPrompts.add(rows),
    lane: () => 'prompts',
    size: (rows) => rows.length,
    // Never what they say.
    onRefused: (rows, reason) => logLine('prompts_not_written', { reason, rows: rows.length }),
    onLost: (rows) => logLine('prompts_lost', { rows: rows.length }),
    maxUnsent: MAX_UNSENT_PROMPTS,
    flushMs: PROMPT_FLUSH_MS,
    tries: PROMPT_TRIES,
  });

  function close(): void {
    if (open.length > 0) writes.add(open);
    open = [];
  }

  return {
    open({ keepPrompts }, request, keepAlive): Keeping | null {
      if (keepPrompts === undefined) return null;
      const prompt = promptTurns(request);
      let gatherer: AnswerGatherer | null = null;
      /** Until all of an answer that is no stream has gone by. */
      let passed: Promise<unknown> | null = null;

      async function keep(place: Omit<PromptRow, 'sealed'>): Promise<void> {
        await passed;
        const text: KeptText = { ...prompt, ...(gatherer?.answer() ?? NO_ANSWER) };
        const sealed = await sealer.seal(place, JSON.stringify(text));
        if (open.length >= PROMPT_BATCH) close();
        open.push({ ...place, sealed });
        writes.flushSoon(keepAlive);
      }

      return {
        listen(body, { ok, stream, text }) {
          if (body === null || !ok || !text) return body;
          const heard = new AnswerGatherer(stream);
          gatherer = heard;
          const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
            transform(chunk, controller) {
              heard.push(chunk);
              controller.enqueue(chunk);
            },
          });
          // A client that leaves, or an origin that breaks off: what went by until then is kept.
          const piped = body.pipeTo(writable).catch(() => undefined);
          keepAlive(piped);
          // Of a stream, all has gone by when it is counted.
          if (!stream) passed = piped;
          return readable;
        },
        end({ tenant, at, id, key_id: keyId, name }) {
          keepAlive(keep({ tenant, at, id, keyId, name }));
        },
      };
    },
  };
}
