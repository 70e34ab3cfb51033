/** The worker: one engine, one base, any adapters that the page names. */
import { config } from 'zod';
import type { ChatCompletion } from '../../protocol/completion-answers.ts';
import {
  GraftError,
  type Problem,
  type FromWorker,
  type Opened,
  type Progress,
  type Serving,
  type ToWorker,
} from '../messages.ts';
import { answerChat } from './answer-chat.ts';
import { Chains, type Served, type UseParams } from './chains.ts';
import { openEngineHere, type EngineHere } from './in-browser-engine.ts';
import { fetchBase } from './fetch-base.ts';

// zod tests once whether it may compile code, which a page's policy reports.
config({ jitless: true });

const say = (message: FromWorker): void => postMessage(message);
const aborts = new Map<number, AbortController>();
let opened: { here: EngineHere; chains: Chains } | null = null;
/** Why nothing is answered any more; null = answers work. */
let gone: Problem | null = null;

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
  if (message.kind === 'open') return openHere(message, signal);
  if (gone !== null) throw new GraftError(gone);
  if (opened === null) throw new GraftError({ code: 'closed', message: 'The base is not open.' });
  const { here, chains } = opened;
  const { job } = message;
  if (message.kind === 'use') return use(opened, message, signal);
  const { name, body } = message;
  const served = name === null ? BASE : await chains.find(wish(message, name, signal));
  return answerChat(here, {
    ...{ body, model: name ?? here.base.id, chain: served.chain, signal },
    onPart: (part) => say({ kind: 'part', job, part }),
  });
}

/** Its runs may wait forever for a lost GPU. */
function endAll(reason: string): void {
  gone = { code: 'runtime_unavailable', message: `The GPU was lost (${reason}). Open the model again.` };
  for (const [job, abort] of aborts) {
    say({ kind: 'failed', job, problem: gone });
    abort.abort();
  }
}

async function openHere(message: Extract<ToWorker, { kind: 'open' }>, signal: AbortSignal): Promise<Opened> {
  const { job, options } = message;
  const onProgress = progressOf(job);
  const base = await fetchBase({ url: options.baseUrl, onProgress, signal });
  const chains = await Chains.open(options.edgeUrl, base.manifest.base);
  const here = await openEngineHere({ ...options, base, source: chains, onProgress });
  opened = { here, chains };
  void here.lost.then(endAll);
  const { runtime, device } = here;
  const { id, context } = here.base;
  return { base: id, runtime, device, context, ...(await use(opened, message, signal)) };
}

/** Loaded at once, so that errors appear here. @throws GraftError */
async function use(
  { here, chains }: NonNullable<typeof opened>,
  message: Extract<ToWorker, { kind: 'open' | 'use' }>,
  signal: AbortSignal,
): Promise<Serving> {
  const { chain, ...serving } =
    message.name === null ? BASE : await chains.use(wish(message, message.name, signal));
  for (const { digest } of chain) {
    const loaded = await here.engine.prefetch(digest);
    if (!loaded.ok) throw new GraftError(loaded.error);
  }
  return serving;
}

const BASE: Served = { name: null, version: null, offline: false, chain: [] };

const wish = (
  { job, token }: Exclude<ToWorker, { kind: 'abort' }>,
  name: string,
  signal: AbortSignal,
): UseParams => ({ name, token, signal, onProgress: progressOf(job) });

const progressOf =
  (job: number) =>
  (progress: Progress): void =>
    say({ kind: 'progress', job, progress });

function problemOf(error: unknown): Problem {
  if (error instanceof GraftError) return { code: error.code, message: error.message, param: error.param };
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { code: 'internal_error', message };
}
