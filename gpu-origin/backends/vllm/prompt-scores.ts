/** The scores of a prompt's tokens. */
import { err, ok, type Result } from '../../../protocol/index.ts';
import type { ScoredToken } from '../../engine/engine.ts';
import { MAX_LOGPROBS } from './completion-body.ts';
import type { VllmFailure } from './vllm-api.ts';
import type { VllmClient } from './vllm-client.ts';

/** Runs a prompt for its scores alone. vLLM gives them only to who does not stream, and with a token behind them. */
export async function promptScores(
  client: Pick<VllmClient, 'score'>,
  params: {
    model: string;
    prompt: readonly number[];
    /** Alternatives of each token; as many as vLLM gives at most. */
    top: number;
    ranks: boolean;
    salt: string;
    signal: AbortSignal;
  },
): Promise<Result<readonly ScoredToken[], VllmFailure>> {
  const { model, prompt, salt, signal } = params;
  const top = Math.min(params.top, MAX_LOGPROBS);
  const scored = await client.score(
    {
      ...{ model, prompt, max_tokens: 1, temperature: 0 },
      ...{ prompt_logprobs: top, add_special_tokens: false, cache_salt: salt },
    },
    signal,
  );
  if (!scored.ok) return scored;
  return read(scored.value.choices[0]?.prompt_logprobs ?? [], { ...params, top });
}

function read(
  places: readonly (Record<string, { logprob: number; rank?: number | null | undefined }> | null)[],
  { prompt, top, ranks }: { prompt: readonly number[]; top: number; ranks: boolean },
): Result<readonly ScoredToken[], VllmFailure> {
  if (places.length !== prompt.length)
    return err({ kind: 'strange', message: `${places.length} scores of ${prompt.length} tokens` });
  const tokens: ScoredToken[] = [];
  for (const [at, place] of places.entries()) {
    const id = prompt[at]!;
    const own = place?.[String(id)];
    if (place === null || own === undefined) {
      if (at > 0) return err({ kind: 'strange', message: `no score of token ${at}` });
      tokens.push({ id, logprob: null, top: [] });
      continue;
    }
    const likeliest = Object.entries(place)
      .map(([token, { logprob }]) => ({ id: Number(token), logprob }))
      .sort((a, b) => b.logprob - a.logprob || a.id - b.id)
      .slice(0, top);
    tokens.push({
      ...{ id, logprob: own.logprob, top: likeliest },
      ...(ranks && own.rank != null ? { rank: own.rank } : {}),
    });
  }
  return ok(tokens);
}
