import type { TokenBytes } from '../generation/detokenizer.ts';
import { Answer } from './answer.ts';
import type { EngineHandle, EngineRequest } from './engine-types.ts';
import type { Clock } from './ports.ts';
import { Sequence } from './sequence.ts';

/** One of a request's answers, which waits. */
export function newSequence(params: {
  request: EngineRequest;
  /** This answer's own. */
  seed: number | null;
  maxTokens: number;
  chainId: string;
  tokens: TokenBytes;
  eos: ReadonlySet<number>;
  random: () => number;
  clock: Pick<Clock, 'now'>;
  /** Called when it is to be aborted, once. */
  wake: () => void;
}): Sequence {
  const { request, maxTokens, chainId, eos, tokens, random, wake } = params;
  const { prompt } = request;
  const sampling = { ...request.sampling, seed: params.seed };
  return new Sequence({
    request,
    chainId,
    maxTokens,
    addedAt: params.clock.now(),
    answer: new Answer({ sampling, prompt, maxTokens, eos, tokens, random }),
    wake,
  });
}

/** What the caller gets of it. */
export const handleOf = ({ request, prompt, maxTokens, events, abort }: Sequence): EngineHandle => ({
  id: request.id,
  promptTokens: prompt.length,
  maxTokens,
  events,
  abort,
});
