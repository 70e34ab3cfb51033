import { type ApiError, err, ok, type Result } from '../../protocol/index.ts';
import type { EngineRequest, ScoredToken } from '../engine/engine.ts';
import type { Services } from './origin-context.ts';

export interface ScoredRun {
  /** Empty unless `promptLogprobs` asked for it. */
  prompt: readonly ScoredToken[];
  tokens: readonly ScoredToken[];
}

/** Runs a request to its end for its scores. */
export async function runScored(
  services: Pick<Services, 'engine'>,
  request: EngineRequest,
): Promise<Result<ScoredRun, ApiError>> {
  const added = await services.engine.add(request);
  if (!added.ok) return added;
  let prompt: readonly ScoredToken[] = [];
  const tokens: ScoredToken[] = [];
  for await (const event of added.value.events) {
    if (event.kind === 'error') return err(event.error);
    if (event.kind === 'aborted') break;
    if (event.kind === 'end') return ok({ prompt, tokens });
    if (event.kind === 'prompt') prompt = event.tokens;
    else tokens.push(...event.tokens);
  }
  return err({
    code: 'origin_unavailable',
    message: 'The run was broken off: the caller has gone or the origin is shutting down.',
    retryAfterMs: 1_000,
  });
}
