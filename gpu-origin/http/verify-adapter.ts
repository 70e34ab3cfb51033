import {
  type ApiError,
  type ChainEntry,
  err,
  MAX_TOP_LOGPROBS,
  ok,
  type Result,
} from '../../protocol/index.ts';
import type { EngineRequest, TokenScore } from '../engine/engine.ts';
import { GREEDY } from '../generation/sampling-params.ts';
import type { Services } from './origin-context.ts';
import { tokenText } from './token-text.ts';

/** Any prompt does, as long as it stays the same: answers are compared with earlier ones. */
const PROBE = 'What is the capital of France?';

interface Probe {
  token: string;
  id: number;
  logprob: number;
}

export interface Verification {
  /** The adapter loads, its logits are finite, and it changes what the model says. */
  ok: boolean;
  reason: string | null;
  prompt: string;
  /** The likeliest first tokens of the base model alone, likeliest first. */
  base: Probe[];
  /** … and with the chain; empty when it could not run. */
  adapter: Probe[];
  /** Largest difference among tokens that both lists have, nats. */
  max_difference: number;
}

/** Errors: those of the base's own run and of a missing adapter; what is wrong with the adapter is in the value. */
export async function verifyAdapter(params: {
  services: Services;
  requestId: string;
  chain: readonly ChainEntry[];
  signal: AbortSignal;
}): Promise<Result<Verification, ApiError>> {
  const base = await firstToken({ ...params, chain: [] });
  if (!base.ok) return base;
  const adapter = await firstToken(params);
  if (!adapter.ok && (adapter.error.code === 'adapter_missing' || adapter.error.code === 'adapter_loading'))
    return adapter;
  const before = base.value;
  const after = adapter.ok ? adapter.value : [];
  const known = new Map(before.map((probe) => [probe.id, probe.logprob]));
  const differences = after.map(({ id, logprob }) => {
    const was = known.get(id);
    return was === undefined ? 0 : Math.abs(logprob - was);
  });
  const changed = differences.some((d) => d > 0) || after.some(({ id }) => !known.has(id));
  return ok({
    ok: adapter.ok && changed,
    reason: adapter.ok ? (changed ? null : 'no_change') : adapter.error.message,
    prompt: PROBE,
    base: before,
    adapter: after,
    max_difference: Math.max(0, ...differences),
  });
}

async function firstToken(params: {
  services: Services;
  requestId: string;
  chain: readonly ChainEntry[];
  signal: AbortSignal;
}): Promise<Result<Probe[], ApiError>> {
  const { services, chain } = params;
  const { tokenizer, chatTemplate } = services;
  const request: EngineRequest = {
    id: params.requestId,
    tenant: 'verify',
    prompt: chatTemplate?.encode([{ role: 'user', content: PROBE }]) ?? [
      ...tokenizer.prefixIds,
      ...tokenizer.encode(PROBE, { allowSpecial: false }),
    ],
    chain,
    sampling: { ...GREEDY, maxTokens: 1, ignoreEos: true, logprobs: MAX_TOP_LOGPROBS },
    promptLogprobs: null,
    budgetMs: null,
    signal: params.signal,
  };
  const added = await services.engine.add(request);
  if (!added.ok) return added;
  let top: readonly TokenScore[] = [];
  for await (const event of added.value.events) {
    if (event.kind === 'error') return err(event.error);
    if (event.kind === 'aborted') break;
    if (event.kind === 'tokens') top = event.tokens[0]?.top ?? top;
  }
  return ok(top.map(({ id, logprob }) => ({ token: tokenText(tokenizer, id), id, logprob })));
}
