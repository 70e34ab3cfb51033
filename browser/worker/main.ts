/** The worker: one engine, one base, any adapters that the page names. */
import { config } from 'zod';
import type { ChainEntry } from '../../protocol/identity.ts';
import {
  type Answered,
  GraftError,
  type Problem,
  type FromWorker,
  type Opened,
  type Progress,
  type PublishProgress,
  type Serving,
  type Target,
  type ToWorker,
  type TrainingProgress,
} from '../messages.ts';
import { answerChat } from './answer-chat.ts';
import { Chains, type Served, type UseParams } from './chains.ts';
import { openEngineHere, type EngineHere } from './in-browser-engine.ts';
import { fetchBase } from './fetch-base.ts';
import { publishFile } from './publish.ts';
import { Trainings } from './train.ts';

// zod tests once whether it may compile code, which a page's policy reports.
config({ jitless: true });

const say = (message: FromWorker): void => postMessage(message);
const aborts = new Map<number, AbortController>();
let opened: { here: EngineHere; chains: Chains; trainings: Trainings; edgeUrl: string | null } | null = null;
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

async function handle(message: Exclude<ToWorker, { kind: 'abort' }>, signal: AbortSignal): Promise<Answered> {
  if (message.kind === 'open') return openHere(message, signal);
  if (gone !== null) throw new GraftError(gone);
  if (opened === null) throw new GraftError({ code: 'closed', message: 'The base is not open.' });
  const { here, chains, trainings } = opened;
  const { job } = message;
  switch (message.kind) {
    case 'use':
      return use(opened, message, signal);
    case 'train':
      return train(opened, message, signal);
    case 'publish':
      return publish(opened, message, signal);
    case 'trained':
      return chains.kept();
    case 'files': {
      const { chain } = await chains.findKept(message.keep);
      return trainings.files(await readFile(chains, chain.at(-1)!.digest));
    }
    case 'forget':
      await chains.forget(message.keep);
      return null;
    case 'ask': {
      const served = await find(chains, message, signal);
      return answerChat(here, {
        ...{ body: message.body, model: served.name ?? here.base.id, chain: served.chain, signal },
        onPart: (part) => say({ kind: 'part', job, part }),
      });
    }
  }
}

/** The chain in use; what the page has not used yet is used. @throws GraftError */
async function find(chains: Chains, message: Named, signal: AbortSignal): Promise<Served> {
  const { name } = message;
  if (name === null) return BASE;
  return typeof name === 'object' ? chains.findKept(name.trained) : chains.find(wish(message, name, signal));
}

/** @throws GraftError */
async function readFile(chains: Chains, digest: string): Promise<Uint8Array<ArrayBuffer>> {
  const file = await chains.read(digest);
  if (file !== null) return file;
  const message = `The stored file ${digest.slice(0, 12)} is missing or damaged. Use its name again, or train again.`;
  throw new GraftError({ code: 'adapter_damaged', message });
}

async function train(
  { chains, trainings }: NonNullable<typeof opened>,
  message: Extract<ToWorker, { kind: 'train' }>,
  signal: AbortSignal,
): Promise<Answered> {
  const below = await find(chains, message, signal);
  const chain: (ChainEntry & { file: Uint8Array<ArrayBuffer> })[] = [];
  for (const entry of below.chain) chain.push({ ...entry, file: await readFile(chains, entry.digest) });
  const { rows, settings, keep, job } = message;
  return trainings.train({
    ...{ rows, settings, chain, signal },
    reserve: (bytes) => chains.reserve(bytes),
    onProgress: progressOf(job),
    async keep({ canonical, digest, card }) {
      await chains.release();
      return chains.keep({ name: keep, chain: [...chain, { digest, scale: 1, file: canonical }], card });
    },
    release: () => chains.release(),
  });
}

async function publish(
  { chains, edgeUrl }: NonNullable<typeof opened>,
  { job, digest, card, name, token }: Extract<ToWorker, { kind: 'publish' }>,
  signal: AbortSignal,
): Promise<Answered> {
  if (edgeUrl === null)
    throw new GraftError({
      code: 'invalid_request',
      message: "An adapter is published at an edge. Open the model with the edge's 'url'.",
      param: 'url',
    });
  const file = await readFile(chains, digest);
  return publishFile({ edge: edgeUrl, token, name, digest, file, card, onProgress: progressOf(job), signal });
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
  const { edgeUrl } = options;
  opened = { here, chains, trainings: new Trainings(options.runtimeUrl, here), edgeUrl };
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
  const { name } = message;
  const { chain, ...serving } =
    typeof name === 'string'
      ? await chains.use(wish(message, name, signal))
      : await find(chains, message, signal);
  for (const { digest } of chain) {
    const loaded = await here.engine.prefetch(digest);
    if (!loaded.ok) throw new GraftError(loaded.error);
  }
  return serving;
}

const BASE: Served = { name: null, version: null, offline: false, chain: [] };

type Named = Extract<ToWorker, { name: Target }>;

const wish = ({ job, token }: Named, name: string, signal: AbortSignal): UseParams => ({
  name,
  token,
  signal,
  onProgress: progressOf(job),
});

const progressOf =
  (job: number) =>
  (progress: Progress | TrainingProgress | PublishProgress): void =>
    say({ kind: 'progress', job, progress });

function problemOf(error: unknown): Problem {
  if (error instanceof GraftError) return { code: error.code, message: error.message, param: error.param };
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { code: 'internal_error', message };
}
