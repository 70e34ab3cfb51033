/** Whether vLLM really answers with a chain under the chain's name: its answers are compared with the base's. */
import { err, ok, type Result } from '../../../protocol/index.ts';
import type { ScoredToken } from '../../engine/engine.ts';
import { promptScores } from './prompt-scores.ts';
import { failureText } from './vllm-api.ts';
import type { VllmClient } from './vllm-client.ts';

/** Likeliest tokens that are compared at each place. */
const COMPARED = 20;
/** Beyond how many times the engine's own noise a difference is the chain's. */
const NOISE_FACTOR = 4;
/** Float32 rounds the log-probabilities of a sum over the vocabulary by about so much, nats. */
const LEAST = 1e-5;
/** As a proof at publication: a chain that is loaded again says what it said before, nats a token. */
const MAX_CHANGE = 0.05;

export type Unproved =
  | { readonly kind: 'as_base'; readonly message: string }
  | { readonly kind: 'changed'; readonly message: string }
  | { readonly kind: 'unanswered'; readonly message: string };

export interface ChainProofs {
  /** @param name under which vLLM has the chain. */
  prove(name: string): Promise<Result<void, Unproved>>;
}

/**
 * @param params.probe token ids of a prompt, the same for all. @param params.remembered chains whose first scores are
 * kept at most.
 */
export function createChainProofs(params: {
  client: Pick<VllmClient, 'score'>;
  baseName: string;
  probe: readonly number[];
  remembered?: number;
}): ChainProofs {
  const { client, baseName, probe, remembered = 1_024 } = params;
  const first = new Map<string, readonly ScoredToken[]>();
  let base: Promise<{ scores: readonly ScoredToken[]; noise: number } | string> | null = null;

  const scoresOf = async (model: string): Promise<readonly ScoredToken[] | string> => {
    const signal = new AbortController().signal;
    const scored = await promptScores(client, {
      ...{ model, prompt: probe, top: COMPARED, ranks: false, salt: 'graft-proof', signal },
    });
    return scored.ok ? scored.value : failureText(scored.error);
  };

  /** Twice, so that what differs then is the engine's noise. */
  const askBase = async () => {
    const [one, two] = [await scoresOf(baseName), await scoresOf(baseName)];
    if (typeof one === 'string') return one;
    if (typeof two === 'string') return two;
    return { scores: one, noise: distance(one, two) };
  };

  return {
    async prove(name) {
      base ??= askBase();
      const known = await base;
      if (typeof known === 'string') {
        base = null;
        return err({ kind: 'unanswered', message: known });
      }
      const scores = await scoresOf(name);
      if (typeof scores === 'string') return err({ kind: 'unanswered', message: scores });
      const far = distance(known.scores, scores);
      if (far <= Math.max(LEAST, NOISE_FACTOR * known.noise))
        return err({
          kind: 'as_base',
          message: `vLLM answers as the base under the chain's name: at most ${far.toExponential(1)} nats apart.`,
        });
      const before = first.get(name);
      if (before !== undefined && distance(before, scores) > Math.max(MAX_CHANGE, NOISE_FACTOR * known.noise))
        return err({
          kind: 'changed',
          message: 'vLLM answers otherwise than when the chain was loaded first.',
        });
      first.delete(name);
      first.set(name, scores);
      const [oldest] = first.keys();
      if (first.size > remembered && oldest !== undefined) first.delete(oldest);
      return ok(undefined);
    },
  };
}

/** The largest difference of a log-probability that both have, nats. */
export function distance(one: readonly ScoredToken[], other: readonly ScoredToken[]): number {
  let far = 0;
  for (const [at, { id, logprob, top }] of one.entries()) {
    const there = other[at];
    if (there === undefined || there.id !== id) return Infinity;
    if (logprob !== null && there.logprob !== null) far = Math.max(far, Math.abs(logprob - there.logprob));
    const known = new Map(there.top.map((token) => [token.id, token.logprob]));
    for (const token of top) {
      const theirs = known.get(token.id);
      if (theirs !== undefined) far = Math.max(far, Math.abs(token.logprob - theirs));
    }
  }
  return far;
}
