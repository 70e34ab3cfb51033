/** Judges two answers to one prompt: by a model, or by the application, which is called with a signature. */
import { logLine, reasonOf } from '../../log.ts';
import type {
  Turn,
  PairInWork,
  PairJudges,
  PairOutcome,
  PairParams,
  PairTallies,
  StoredPair,
  AskJudge,
  Judged,
} from './ports.ts';
import {
  MAX_KEPT_CHARACTERS,
  MAX_PAIR_CHARACTERS,
  CALL_TIMEOUT_MS,
  MAX_CALL_ANSWER_BYTES,
} from '../limits.ts';
import { z } from 'zod';
import { pairRequest, readChoice } from './judge-request.ts';
import type { Fetch } from '../../origins/connection.ts';
import { webhookProblem, type WebhookSigner } from '../../webhooks/send-webhooks.ts';

export interface JudgeDeps extends CallDeps {
  pairTallies: PairTallies;
}

/** Judges pairs in parallel to users' answers. Errors are logged, and count as a failure. */
export function createPairJudges(deps: JudgeDeps): PairJudges {
  return { open: (params) => pairOf(deps, params) };
}

function pairOf(deps: JudgeDeps, params: PairParams): PairInWork {
  const { pairTallies, now } = deps;
  const { experiment, seed, user, learner, prompt } = params;
  const { keep_pairs: keep, tokens_per_day: tokensPerDay } = params.judge;
  const record = (outcome: PairOutcome, tokens: number, pair: StoredPair | null): Promise<void> =>
    pairTallies.record(experiment, { seed, user, at: now(), tokens, outcome, keep, pair });
  return {
    begin: async () => {
      try {
        return await pairTallies.mayBegin(experiment, { seed, user, at: now(), tokensPerDay });
      } catch (error) {
        // Uncounted pairs cost no tokens.
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
          : keptPair({ at: now(), prompt, control: told, treatment: own, result: judged.result, learner });
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

/** @returns null unless one answer was requested. */
const textOf = ([text, ...others]: readonly string[]): string | null =>
  text === undefined || others.length > 0 ? null : text;

const isTooLong = (prompt: readonly Turn[], ...answers: string[]): boolean =>
  [...prompt.map(({ content }) => content), ...answers].reduce((sum, text) => sum + text.length, 0) >
  MAX_PAIR_CHARACTERS;

/** The last messages of a long prompt are the answered ones. */
function keptPair(pair: Omit<StoredPair, 'cut' | 'prompt'> & { prompt: readonly Turn[] }): StoredPair {
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

/**
 * Asks in both orders. Only a verdict that survives the other order counts: models often prefer a position
 * (Zheng et al. 2023, 2306.05685, section 3.3).
 * @returns tokens too, also for failures.
 */
async function askModel(params: {
  ask: AskJudge;
  prompt: readonly Turn[];
  control: string;
  treatment: string;
  signal: AbortSignal;
}): Promise<{ judged: Judged | { failure: 'judge' | 'unclear' }; tokens: number }> {
  const { ask, prompt, control, treatment, signal } = params;
  const sides = [
    { first: control, second: treatment, wins: 'B', loses: 'A' },
    { first: treatment, second: control, wins: 'A', loses: 'B' },
  ] as const;
  const answers = await Promise.all(
    sides.map(({ first, second }) => ask(pairRequest(prompt, { first, second }), signal)),
  );
  const tokens = answers.reduce((sum, answer) => sum + answer.tokens, 0);
  const words = answers.map(({ text }) => (text === null ? null : readChoice(text)));
  if (answers.some(({ text }) => text === null)) return { judged: { failure: 'judge' }, tokens };
  if (words.includes(null)) return { judged: { failure: 'unclear' }, tokens };
  const results = sides.map(({ wins, loses }, i) =>
    words[i] === wins ? 'win' : words[i] === loses ? 'loss' : 'tie',
  );
  const [one, other] = results as ['win' | 'loss' | 'tie', 'win' | 'loss' | 'tie'];
  const judged: Judged = {
    result: one === other ? one : 'tie',
    same: false,
    choices: words.filter((word) => word !== 'tie').length,
    first: words.filter((word) => word === 'A').length,
    agreed: one === other,
  };
  return { judged, tokens };
}

const Answer = z.object({ choice: z.enum(['a', 'b', 'tie']) });

interface CallDeps {
  /** Calls addresses given by tenants. */
  callOut: Fetch;
  signer: WebhookSigner;
  now: () => number;
  newId: () => string;
  /** A coin flip. */
  heads: () => boolean;
  /** Whether plain http to this machine itself is allowed. */
  loopback: boolean;
}

/**
 * Never follows a redirect, because only the original address was checked. Any error is a failure.
 * @param params.signal aborts it, like {@link CALL_TIMEOUT_MS}.
 */
async function callApplication(
  deps: CallDeps,
  params: {
    url: string;
    experiment: string;
    name: string;
    prompt: readonly Turn[];
    control: string;
    treatment: string;
    signal: AbortSignal;
  },
): Promise<Judged | { failure: 'judge' | 'unclear' }> {
  const { url, experiment, name, prompt, control, treatment } = params;
  const { loopback, signer } = deps;
  // Checked at creation, possibly by an earlier edge with other settings.
  if (webhookProblem(url, loopback) !== null) return { failure: 'judge' };
  const treatmentFirst = deps.heads();
  const [a, b] = treatmentFirst ? [treatment, control] : [control, treatment];
  const id = `pair_${deps.newId()}`;
  const body = JSON.stringify({ type: 'pair', id, experiment, name, prompt, answers: { a, b } });
  const text = await read(
    deps,
    url,
    {
      method: 'POST',
      redirect: 'manual',
      headers: {
        'content-type': 'application/json',
        'user-agent': 'graft',
        ...(await signer.headers({ source: experiment, url }, { id, at: deps.now(), body })),
      },
      body,
    },
    params.signal,
  );
  if (text === null) return { failure: 'judge' };
  const choice = parsed(text)?.choice ?? null;
  if (choice === null) return { failure: 'unclear' };
  const isTie = choice === 'tie';
  const won = (choice === 'a') === treatmentFirst;
  return {
    result: isTie ? 'tie' : won ? 'win' : 'loss',
    same: false,
    choices: isTie ? 0 : 1,
    first: choice === 'a' ? 1 : 0,
    agreed: null,
  };
}

/** @returns null unless it answered 200, in time, with at most {@link MAX_CALL_ANSWER_BYTES}. */
async function read(
  { callOut }: CallDeps,
  url: string,
  init: RequestInit,
  ends: AbortSignal,
): Promise<string | null> {
  const signal = AbortSignal.any([ends, AbortSignal.timeout(CALL_TIMEOUT_MS)]);
  try {
    const response = await callOut(url, { ...init, signal });
    if (response.status !== 200) {
      await response.body?.cancel();
      return null;
    }
    const decoder = new TextDecoder();
    let text = '';
    let bytes = 0;
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      // Leaving the loop cancels the read.
      if (bytes > MAX_CALL_ANSWER_BYTES) return null;
      text += decoder.decode(chunk, { stream: true });
    }
    return text + decoder.decode();
  } catch {
    return null;
  }
}

function parsed(text: string): z.infer<typeof Answer> | null {
  try {
    return Answer.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
