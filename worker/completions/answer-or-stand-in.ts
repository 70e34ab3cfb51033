import { err, type ApiError, type Result } from '../../protocol/index.ts';
import type { OriginClient } from '../origins/client.ts';
import type { Resolution, Resolved } from './resolve-model.ts';

type Answer = Awaited<ReturnType<OriginClient['complete']>>;

/** Nobody can run the adapter now; another adapter, or none, could be run. */
const ABOUT_THE_ADAPTER = new Set(['adapter_unavailable', 'adapter_invalid', 'registry_unavailable']);

/**
 * Has the resolution answered, or, when its adapters cannot be had, what the key's policy lets stand in for it.
 * @returns the first answer when nothing else did better.
 */
export async function answerOrStandIn(
  resolved: Resolved,
  ask: (resolution: Resolution) => Promise<Answer>,
): Promise<{ resolution: Resolution; answer: Answer }> {
  const { resolution } = resolved;
  const answer = await ask(resolution);
  if (!(await lacksAdapter(answer))) return { resolution, answer };
  for (const instead of await resolved.standIns()) {
    const other = await ask(instead);
    if (!(await lacksAdapter(other))) {
      await discard(answer);
      return { resolution: instead, answer: other };
    }
    await discard(other);
  }
  return { resolution, answer };
}

async function lacksAdapter(answer: Answer): Promise<boolean> {
  const error = answer.ok ? await refusalOf(answer.value.response) : answer;
  return !error.ok && ABOUT_THE_ADAPTER.has(error.error.code);
}

/** An origin's refusal, read from a copy: its body is small, and has been read before. */
async function refusalOf(response: Response): Promise<Result<null, Pick<ApiError, 'code'>>> {
  const none = { ok: true, value: null } as const;
  if (response.status !== 503 && response.status !== 422) return none;
  try {
    const { error } = (await response.clone().json()) as { error: Pick<ApiError, 'code'> };
    return err(error);
  } catch {
    return none;
  }
}

async function discard(answer: Answer): Promise<void> {
  if (answer.ok) await answer.value.response.body?.cancel();
}
