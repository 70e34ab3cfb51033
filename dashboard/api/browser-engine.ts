/**
 * graft/browser in this document: opened once, then used by name. Loaded when needed, as applications load it.
 */
import type * as Graft from '../../browser/index.ts';
import { DownloadToken, type DownloadTokenRequest } from '../../protocol/browser-downloads.ts';
import type { ChatBody } from '../model/call-code.ts';
import { chunkEvents } from '../model/chat-events.ts';
import type { Problem } from '../model/problem.ts';
import { createStore } from '../model/store.ts';
import { createClient } from './client.ts';
import { answerFrom, withEvent, type Answer } from './stream-chat.ts';
import type { BrowserErrorCode } from '../../browser/messages.ts';

/** Folder of graft/browser, set by the build. */
declare const GRAFT_BROWSER: string;

type BrowserEngine =
  /** @property stored bytes of bases and adapters in this browser; null = not known yet. */
  | { readonly at: 'closed'; readonly stored: number | null; readonly problem: Problem | null }
  | { readonly at: 'opening'; readonly progress: Graft.Progress | null }
  /** @property progress of an adapter download. */
  | { readonly at: 'open'; readonly model: Graft.Model; readonly progress: Graft.Progress | null };

const load = (): Promise<typeof Graft> =>
  import(/* @vite-ignore */ `${GRAFT_BROWSER}index.js`) as Promise<typeof Graft>;

export const browserEngine = createStore<BrowserEngine>({ at: 'closed', stored: null, problem: null });

/** Codes after which nothing runs any more: the worker is gone, possibly out of memory. */
const ENDED = ['runtime_unavailable', 'closed'];

let opening: AbortController | null = null;
/** Lifetime and purpose of a token. */
let wanted = { key: '', name: '' };

async function findToken(): Promise<string> {
  const { key, name } = wanted;
  // The edge chooses `expires_in`.
  const body: Omit<DownloadTokenRequest, 'expires_in'> = { names: [name], origin: location.origin };
  const made = await createClient(key).post('/v1/download-tokens', body, DownloadToken);
  if (!made.ok)
    throw new Refused(made.error.code === 'insufficient_scope' ? mayNotDownload(made.error) : made.error);
  return made.value.token;
}

/** Reports how much this browser stores, while nothing is open. */
export async function lookAtStored(): Promise<void> {
  // Loading errors are reported at the start.
  const stored = await load().then(
    (graft) => graft.storedBytes(),
    () => null,
  );
  const now = browserEngine.get();
  if (now.at === 'closed') browserEngine.set({ ...now, stored });
}

/** Downloads what is missing of the base, and starts it. Adapters are downloaded with the first prompt. */
export async function openBrowserEngine(): Promise<void> {
  const ending = (opening = new AbortController());
  const tell = (state: BrowserEngine): void => {
    if (opening === ending) browserEngine.set(state);
  };
  tell({ at: 'opening', progress: null });
  try {
    const model = await (
      await load()
    ).open({
      ...{ url: location.origin, token: findToken, signal: ending.signal, rows: 1 },
      onProgress: (progress) => tell({ at: 'opening', progress }),
    });
    if (opening !== ending) return model.close();
    tell({ at: 'open', model, progress: null });
  } catch (error) {
    tell({ at: 'closed', stored: null, problem: ending.signal.aborted ? null : browserProblem(error) });
    await lookAtStored();
  }
}

/** Whatever has arrived stays stored. */
export const stopOpening = (): void => opening?.abort();

/** Closes the model, and removes the base and all adapters. */
export async function removeBrowserEngine(): Promise<void> {
  const now = browserEngine.get();
  if (now.at === 'open') now.model.close();
  opening = null;
  const graft = await load();
  const problem = await graft.removeStored().then(() => null, browserProblem);
  browserEngine.set({ at: 'closed', stored: await graft.storedBytes(), problem });
}

/**
 * Asks the open model, after switching to the name's live version and downloading what is missing.
 * @param params.name null = the base itself. @param params.onAnswer called on every change; the last one is not
 * `running`.
 */
export async function answerInBrowser(params: {
  key: string;
  name: string | null;
  body: ChatBody;
  signal: AbortSignal;
  onAnswer: (answer: Answer) => void;
}): Promise<void> {
  const { key, name, body, signal, onAnswer } = params;
  const clock = (): number => performance.now();
  let answer = answerFrom(clock());
  const change = (part: Partial<Answer>): void => onAnswer((answer = { ...answer, ...part }));
  change({});
  const state = browserEngine.get();
  if (state.at !== 'open') return change({ state: 'failed', problem: BROWSER_PROBLEM.closed });
  const { model } = state;
  const tell = (progress: Graft.Progress | null): void => {
    if (browserEngine.get().at === 'open') browserEngine.set({ at: 'open', model, progress });
  };
  try {
    wanted = { key, name: name ?? '' };
    const { version } = await model.use(name, { signal, onProgress: tell }).finally(() => tell(null));
    // The download does not count as answering time.
    const { pace } = answerFrom(clock());
    change({ pace, adapter: name === null ? 'base' : `${name}@${version}` });
    const { model: _model, messages, ...options } = body;
    const asked = { ...options, stream_options: { include_usage: true }, signal };
    for await (const chunk of model.chat(messages as Graft.Message[], asked))
      for (const event of chunkEvents(chunk) ?? []) change(withEvent(answer, event, clock()));
    change({ state: 'done' });
  } catch (error) {
    if (signal.aborted) return change({ state: 'stopped' });
    const problem = browserProblem(error);
    change({ state: 'failed', problem });
    if (!ENDED.includes(problem.code) || browserEngine.get().at !== 'open') return;
    model.close();
    browserEngine.set({ at: 'closed', stored: null, problem: null });
    await lookAtStored();
  }
}

/** Thrown when the edge refuses a token, so that its words come through graft/browser. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

/** Advice beyond graft/browser's own messages. */
const ADVICE: Partial<Record<BrowserErrorCode | 'adapter_invalid' | 'model_not_found', string>> = {
  storage_full: 'Remove what is stored here, or free disk space.',
  base_missing: "Run it with the base that this edge's origins serve, then try again.",
  base_damaged: 'Export the base again with `graft base export --web`, then try again.',
  runtime_unavailable: 'Close other tabs, or use a recent Chrome, Firefox or Safari.',
  edge_unreachable: 'Check that the edge runs and that you are online, then try again.',
  adapter_invalid: 'Run `graft base export --web` with the base of this name to replace the one here.',
  adapter_damaged: "Try again. `graft verify` checks the edge's copy.",
  model_not_found:
    "In the browser, a name needs a live version of its own, owned by the key's tenant. Ancestors, " +
    'aliases and versions work at the edge only.',
};

/** @param error thrown by graft/browser. */
export function browserProblem(error: unknown): Problem {
  if (error instanceof Refused) return error.problem;
  if (!(error instanceof Error)) return { ...UNKNOWN, message: String(error) };
  // Its class comes from the loaded module, not from the one imported here.
  const { code, param } = error as Error & { code?: unknown; param?: unknown };
  if (error.name !== 'GraftError' || typeof code !== 'string') return { ...UNKNOWN, message: error.message };
  return {
    ...{ status: 0, code, message: error.message },
    advice: ADVICE[code as keyof typeof ADVICE] ?? '',
    param: typeof param === 'string' ? param : null,
  };
}

/** Distinguishes this refusal from that of other owners' adapters. */
export const MAY_NOT_DOWNLOAD = 'may_not_download';
export const mayNotDownload = (refusal: Problem): Problem => ({
  ...refusal,
  code: MAY_NOT_DOWNLOAD,
  advice: 'Use a key with that right: `graft keys create --download` creates one.',
});

const UNKNOWN = {
  ...{ status: 0, code: 'internal_error', param: null },
  advice: 'Reload the page. If the error stays, this browser may be too old.',
};

const BROWSER_PROBLEM = {
  closed: {
    ...{ status: 0, code: 'closed', message: 'The base is not open here.', param: null },
    advice: 'Start it, then ask again.',
  },
} satisfies Record<string, Problem>;
