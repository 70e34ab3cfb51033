import { type ApiError, err, ok, type Result } from '../../protocol/index.ts';
import type { EngineRequest, ScoredToken, ServingEngine } from '../engine/engine.ts';
import type { PromptServices } from '../prompts/prompt-queue.ts';

/** What trials are run with. */
export interface TrialServices extends PromptServices {
  engine: Pick<ServingEngine, 'add'>;
}

export interface ScoredRun {
  /** Empty unless `promptLogprobs` asked for it. */
  prompt: readonly ScoredToken[];
  tokens: readonly ScoredToken[];
}

/** Runs a request to its end for its scores. */
export async function runScored(
  { engine }: Pick<TrialServices, 'engine'>,
  request: EngineRequest,
): Promise<Result<ScoredRun, ApiError>> {
  const added = await engine.add(request);
  if (!added.ok) return added;
  let prompt: readonly ScoredToken[] = [];
  const tokens: ScoredToken[] = [];
  for await (const event of added.value.events) {
    if (event.kind === 'error') return err(event.error);
    if (event.kind === 'aborted') break;
    if (event.kind === 'end') return ok({ prompt, tokens });
    if (event.kind === 'prompt') prompt = event.tokens;
    else if (event.kind === 'tokens') tokens.push(...event.tokens);
  }
  return err({
    code: 'origin_unavailable',
    message: 'The run was broken off: the caller has gone or the origin is shutting down.',
    retryAfterMs: 1_000,
  });
}
