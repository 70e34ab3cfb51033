import {
  err,
  ok,
  type AdapterProof,
  type ApiError,
  type BaseInfo,
  type Result,
  type VerifyAnswer,
} from '../../protocol/index.ts';
import { adapterInvalid } from '../errors.ts';
import { MAX_PROOFS_READ } from './limits.ts';
import type { Registry, VersionRow } from './ports.ts';
import type { IntakeDeps, RequestLife } from './registry-deps.ts';

/** Reasons of an origin, and what a publisher is told. */
const REFUSALS: Record<string, { reason: string; message: string }> = {
  no_change: {
    reason: 'no_op',
    message:
      'The adapter changes nothing: the model answers the probe prompts exactly as it does without it. ' +
      'Check that the training saved its weights, and that alpha and the learning rate are not 0.',
  },
  non_finite: {
    reason: 'non_finite',
    message:
      'With the adapter the model gives NaN or infinity. Its weights or its scale are too large; train it anew.',
  },
};

/**
 * Has an origin try a chain before it is published. Proofs of the same chain for the same base and weights, whatever
 * their names, are taken over.
 * Errors: `adapter_invalid` when it does nothing or does not work; `origin_unavailable` when nobody can try it.
 */
export async function proveAdapter(
  deps: Pick<IntakeDeps, 'registry' | 'trials' | 'now'>,
  params: {
    row: Pick<VersionRow, 'name' | 'digest' | 'chain' | 'chainId'>;
    base: BaseInfo;
    /** Who publishes it. */
    tenant: string;
    life: RequestLife;
  },
): Promise<Result<AdapterProof, ApiError>> {
  const { row, base, tenant, life } = params;
  const known = await earlierProof(deps.registry, { chainId: row.chainId, base });
  if (known !== null) return ok(known);
  const chain = row.chain.map(({ digest, scale }) => ({ digest, scale }));
  const answer = await deps.trials.verify({ ...life, name: row.name, base: base.id, tenant, chain });
  if (!answer.ok) return answer;
  const problem = problemOf(answer.value);
  if (problem !== null) return err(problem);
  const { base_digest, weights, prompt, adapter } = answer.value;
  const tokens = adapter.map(({ id, logprob }) => ({ id, logprob }));
  return ok({ base_digest, weights, prompt, tokens, at: deps.now() });
}

/** The proof of the same chain for the same base and weights, whatever its name; null = it has to be tried. */
export async function earlierProof(
  registry: Pick<Registry, 'versionsOfChain'>,
  { chainId, base }: { chainId: string; base: BaseInfo },
): Promise<AdapterProof | null> {
  const earlier = await registry.versionsOfChain({ chainId, limit: MAX_PROOFS_READ });
  const known = earlier.find(
    ({ proof }) => proof?.base_digest === base.digest && proof.weights === base.weights,
  );
  return known?.proof ?? null;
}

function problemOf({ ok: good, reason, code, adapter }: VerifyAnswer): ApiError | null {
  if (good && adapter.length > 0) return null;
  const refusal = REFUSALS[reason ?? ''];
  if (refusal !== undefined) return adapterInvalid(refusal.reason, refusal.message);
  if (reason !== null && code !== undefined) return adapterInvalid(code, reason);
  return adapterInvalid(
    'proof_failed',
    `The model cannot run with the adapter: ${reason ?? 'no reason was given'}`,
  );
}
