import type { KeptPair } from '../../../protocol/index.ts';
import { logLine, reasonOf } from '../../log.ts';
import { askModel } from './ask-model.ts';
import { callApplication, type CallDeps } from './call-application.ts';
import type { Turn } from './conversation.ts';
import { MAX_KEPT_CHARACTERS, MAX_PAIR_CHARACTERS } from './limits.ts';
import type { PairInWork, PairJudges, PairOutcome, PairParams, PairTallies } from './ports.ts';

export interface JudgeDeps extends CallDeps {
  pairTallies: PairTallies;
}

/** Judges pairs beside the answers that users get. What goes wrong with that is a line in the log and a failure. */
export function createPairJudges(deps: JudgeDeps): PairJudges {
  return { open: (params) => pairOf(deps, params) };
}

function pairOf(deps: JudgeDeps, params: PairParams): PairInWork {
  const { pairTallies, now } = deps;
  const { experiment, seed, user, prompt } = params;
  const { keep_pairs: keep, tokens_per_day: tokensPerDay } = params.judge;
  const record = (outcome: PairOutcome, tokens: number, pair: KeptPair | null): Promise<void> =>
    pairTallies.record(experiment, { seed, user, at: now(), tokens, outcome, keep, pair });
  return {
    begin: async () => {
      try {
        return await pairTallies.mayBegin(experiment, { seed, user, at: now(), tokensPerDay });
      } catch (error) {
        // What cannot be counted is not spent.
        logLine('pair_not_begun', { experiment, reason: reasonOf(error) });
        return false;
      }
    },
    async end({ control, treatment, tokens, signal }) {
      if (treatment === null) return record({ failure: 'challenger' }, tokens, null);
      if (control === null) return record({ failure: 'answer' }, tokens, null);
      const told = textOf(control);
      const own = textOf(treatment);
      if (prompt === null || told === null || own === null || isTooLong(prompt, told, own))
        return record({ failure: 'form' }, tokens, null);
      const { judged, tokens: more } = await judge(deps, params, {
        ...{ prompt, control: told, treatment: own, signal },
      });
      const pair =
        keep === 0 || 'failure' in judged
          ? null
          : keptPair({ at: now(), prompt, control: told, treatment: own, result: judged.result });
      return record(judged, tokens + more, pair);
    },
  };
}

async function judge(
  deps: JudgeDeps,
  params: PairParams,
  pair: { prompt: readonly Turn[]; control: string; treatment: string; signal: AbortSignal },
): Promise<{ judged: PairOutcome; tokens: number }> {
  if (pair.control.trim() === pair.treatment.trim())
    return { judged: { result: 'tie', same: true, choices: 0, first: 0, agreed: null }, tokens: 0 };
  const { experiment, name, ask, judge: by } = params;
  if (by.url === undefined) return askModel({ ...pair, ask });
  const call = { ...pair, url: by.url, experiment, name };
  return { judged: await callApplication(deps, call), tokens: 0 };
}

/** @returns null unless one answer was asked for. */
const textOf = ([text, ...others]: readonly string[]): string | null =>
  text === undefined || others.length > 0 ? null : text;

const isTooLong = (prompt: readonly Turn[], ...answers: string[]): boolean =>
  [...prompt.map(({ content }) => content), ...answers].reduce((sum, text) => sum + text.length, 0) >
  MAX_PAIR_CHARACTERS;

/** The last messages of a long prompt are the ones that were answered. */
function keptPair(pair: Omit<KeptPair, 'cut' | 'prompt'> & { prompt: readonly Turn[] }): KeptPair {
  const prompt: Turn[] = [];
  let room = MAX_KEPT_CHARACTERS;
  let cut = false;
  for (const { role, content } of [...pair.prompt].reverse()) {
    cut ||= content.length > room;
    if (room > 0) prompt.unshift({ role, content: content.slice(0, room) });
    room -= Math.min(room, content.length);
  }
  const short = (text: string): string => text.slice(0, MAX_KEPT_CHARACTERS);
  cut ||= Math.max(pair.control.length, pair.treatment.length) > MAX_KEPT_CHARACTERS;
  return { ...pair, prompt, control: short(pair.control), treatment: short(pair.treatment), cut };
}
