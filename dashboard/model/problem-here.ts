/** What goes wrong with a base in this browser, in words. */
import type { BrowserErrorCode } from '../../browser/messages.ts';
import type { Problem } from './problem.ts';

/** Thrown where the edge has refused a token, so that its words come through graft/browser. */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

/** Beside what graft/browser says itself. */
const ADVICE: Partial<Record<BrowserErrorCode | 'adapter_invalid' | 'model_not_found', string>> = {
  storage_full: 'Remove what is stored here, or free space on the disk.',
  base_missing: 'Run it with the base that the origins of this edge serve, then try again.',
  base_damaged: 'Export the base again with `graft base export --web`, then try again.',
  runtime_unavailable:
    'Close other tabs, or try another browser: Chrome, Firefox and Safari of the last two years run it.',
  edge_unreachable: 'Check that the edge runs and that you are online, then try again.',
  adapter_invalid: '`graft base export --web` with the base of this name replaces the one that is here.',
  adapter_damaged: 'Try again; `graft verify` looks at what the edge has of it.',
  model_not_found:
    'Here a name needs a live version of its own, in the tenant of the key: ancestors, aliases and versions are the edge’s.',
};

/** @param error what graft/browser has thrown. */
export function problemHere(error: unknown): Problem {
  if (error instanceof Refused) return error.problem;
  if (!(error instanceof Error)) return { ...UNKNOWN, message: String(error) };
  // Its class is that of the module which is loaded, not the one that is imported here.
  const { code, param } = error as Error & { code?: unknown; param?: unknown };
  if (error.name !== 'GraftError' || typeof code !== 'string') return { ...UNKNOWN, message: error.message };
  return {
    ...{ status: 0, code, message: error.message },
    advice: ADVICE[code as keyof typeof ADVICE] ?? '',
    param: typeof param === 'string' ? param : null,
  };
}

/** Told from what an adapter of others is refused with. */
export const MAY_NOT_DOWNLOAD = 'may_not_download';
export const mayNotDownload = (refusal: Problem): Problem => ({
  ...refusal,
  code: MAY_NOT_DOWNLOAD,
  advice: 'Give this page a key that may: `graft keys create --download` makes one.',
});

const UNKNOWN = {
  ...{ status: 0, code: 'internal_error', param: null },
  advice: 'Load the page again. If it stays so, this browser may be too old.',
};

export const PROBLEM_HERE = {
  closed: {
    ...{ status: 0, code: 'closed', message: 'The base is not open here.', param: null },
    advice: 'Start it, then ask again.',
  },
} satisfies Record<string, Problem>;
