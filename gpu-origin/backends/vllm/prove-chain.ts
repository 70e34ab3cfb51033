/** Whether vLLM really answers with a chain under the chain's name: its answers are compared with the base's. */
import { err, ok, type Result } from '../../../protocol/index.ts';
import type { TokenScore } from '../../engine/engine.ts';
import { GREEDY } from '../../generation/sampling-params.ts';
import { completionBody, MAX_LOGPROBS, tokensOf } from './completion-body.ts';
import { failureText } from './vllm-api.ts';
import type { VllmClient } from './vllm-client.ts';

/** Beyond how many times the engine's own noise a difference is the chain's. */
const NOISE_FACTOR = 4;
/** Float32 rounds the log-probabilities of a sum over the vocabulary by about so much, nats. */
const LEAST = 1e-5;
/** As a proof at publication: a chain that is loaded again says what it said before, nats a token. */
const MAX_CHANGE = 0.05;

export interface ChainProofs {
  /** @param name under which vLLM has the chain. @returns why it is not proved, in a sentence. */
  prove(name: string): Promise<Result<void, string>>;
}

/**
 * @param params.probe token ids of a prompt, the same for all. @param params.remembered chains whose first scores are
 * kept at most.
 */
export function createChainProofs(params: {
  client: Pick<VllmClient, 'stream'>;
  baseName: string;
  probe: readonly number[];
  remembered?: number;
}): ChainProofs {
  const { client, baseName, probe, remembered = 1_024 } = params;
  const first = new Map<string, readonly TokenScore[]>();
  let base: Promise<{ scores: readonly TokenScore[]; noise: number } | string> | null = null;

  /** The likeliest tokens behind the probe. */
  const scoresOf = async (model: string): Promise<readonly TokenScore[] | string> => {
    const sampling = { ...GREEDY, maxTokens: 1, ignoreEos: true, logprobs: MAX_LOGPROBS };
    const body = completionBody({
      ...{ model, seed: null, generated: [], most: 1, salt: 'graft-proof' },
      request: {
        id: 'proof',
        tenant: '',
        prompt: probe,
        chain: [],
        sampling,
        promptLogprobs: null,
        budgetMs: null,
      },
    });
    for await (const event of client.stream(body, new AbortController().signal)) {
      if (!event.ok) return failureText(event.error);
      const tokens = tokensOf(event.value, MAX_LOGPROBS);
      if (!tokens.ok) return tokens.error;
      const [first] = tokens.value;
      if (first !== undefined) return first.top;
    }
    return 'vLLM gave no token';
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
        return err(known);
      }
      const scores = await scoresOf(name);
      if (typeof scores === 'string') return err(scores);
      const far = distance(known.scores, scores);
      if (far <= Math.max(LEAST, NOISE_FACTOR * known.noise))
        return err(
          `vLLM answers as the base under the chain's name: at most ${far.toExponential(1)} nats apart.`,
        );
      const before = first.get(name);
      if (before !== undefined && distance(before, scores) > Math.max(MAX_CHANGE, NOISE_FACTOR * known.noise))
        return err('vLLM answers otherwise than when the chain was loaded first.');
      first.delete(name);
      first.set(name, scores);
      const [oldest] = first.keys();
      if (first.size > remembered && oldest !== undefined) first.delete(oldest);
      return ok(undefined);
    },
  };
}

/**
 * The largest difference of a log-probability, nats; a token that only one of them has counts as the other's last, which
 * is at least as likely as it is there.
 */
export function distance(one: readonly TokenScore[], other: readonly TokenScore[]): number {
  const far = (from: readonly TokenScore[], to: readonly TokenScore[]): number => {
    const known = new Map(to.map(({ id, logprob }) => [id, logprob]));
    const least = to.at(-1)?.logprob ?? -Infinity;
    return Math.max(
      0,
      ...from.map(({ id, logprob }) => {
        const theirs = known.get(id);
        return theirs === undefined ? Math.max(0, logprob - least) : Math.abs(logprob - theirs);
      }),
    );
  };
  return Math.max(far(one, other), far(other, one));
}
