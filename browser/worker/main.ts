/** The worker: one engine, one base, whatever adapters the page names. */
import { config } from 'zod';
import type { ChatCompletion } from '../../protocol/index.ts';
import { GraftError, type Problem } from '../errors.ts';
import type { FromWorker, Opened, Serving, ToWorker } from '../messages.ts';
import { answerChat } from './answer-chat.ts';
import { openEngineHere, type EngineHere } from './engine-here.ts';
import { fetchBase } from './fetch-base.ts';

// zod tries once whether it may compile code, which a page's policy reports.
config({ jitless: true });

const say = (message: FromWorker): void => postMessage(message);
const aborts = new Map<number, AbortController>();
let here: EngineHere | null = null;

addEventListener('message', ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === 'abort') return aborts.get(data.job)?.abort();
  const { job } = data;
  const abort = new AbortController();
  aborts.set(job, abort);
  void handle(data, abort.signal)
    .then(
      (value) => say({ kind: 'done', job, value }),
      (error: unknown) => say({ kind: 'failed', job, problem: problemOf(error) }),
    )
    .finally(() => aborts.delete(job));
});

async function handle(
  message: Exclude<ToWorker, { kind: 'abort' }>,
  signal: AbortSignal,
): Promise<Opened | Serving | ChatCompletion | null> {
  const { job } = message;
  switch (message.kind) {
    case 'open':
      return openHere(message, signal);
    case 'use':
      return { name: null, version: null, offline: false };
    case 'ask':
      return answerChat(engine(), {
        ...{ body: message.body, model: message.name ?? engine().base.id, chain: [], signal },
        onPart: (part) => say({ kind: 'part', job, part }),
      });
  }
}

async function openHere(
  { job, options }: Extract<ToWorker, { kind: 'open' }>,
  signal: AbortSignal,
): Promise<Opened> {
  const onProgress = (progress: Extract<FromWorker, { kind: 'progress' }>['progress']): void =>
    say({ kind: 'progress', job, progress });
  const base = await fetchBase({ url: options.baseUrl, onProgress, signal });
  here = await openEngineHere({ ...options, base, source: NO_ADAPTERS, onProgress });
  const { runtime } = here;
  return {
    ...{ base: here.base.id, runtime, context: here.base.context },
    ...{ name: null, version: null, offline: false },
  };
}

const NO_ADAPTERS = {
  status: async () => 'missing' as const,
  read: async () => null,
};

function engine(): EngineHere {
  if (here === null) throw new GraftError({ code: 'closed', message: 'The base is not open.' });
  return here;
}

function problemOf(error: unknown): Problem {
  if (error instanceof GraftError) return { code: error.code, message: error.message, param: error.param };
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { code: 'internal_error', message };
}
