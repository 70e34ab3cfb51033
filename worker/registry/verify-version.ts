import {
  err,
  ok,
  type AdapterProof,
  type ApiError,
  type OriginVerdict,
  type Result,
  type VerifyAnswer,
  type VerifyVersionRequest,
} from '../../protocol/index.ts';
import { originUnavailable } from '../errors.ts';
import type { AdminCaller } from '../access/ports.ts';
import { ownVersion } from './own-version.ts';
import type { VersionRow } from './ports.ts';
import type { IntakeDeps, RequestLife } from './registry-deps.ts';

/** Has every origin try a published version again and compare it with the proof that the version keeps. */
export async function verifyVersion(
  deps: Pick<IntakeDeps, 'registry' | 'trials'>,
  params: { request: VerifyVersionRequest; caller: AdminCaller; life: RequestLife },
): Promise<Result<{ row: VersionRow; origins: OriginVerdict[] }, ApiError>> {
  const { request, caller, life } = params;
  const found = await ownVersion(deps.registry, { request, caller });
  if (!found.ok) return found;
  const row = found.value;
  const { proof } = row;
  const chain = row.chain.map(({ digest, scale }) => ({ digest, scale }));
  const answers = await deps.trials.verifyEverywhere(
    { ...life, name: row.name, base: row.base.id, tenant: caller.tenant, chain },
    proof === null ? undefined : { prompt: proof.prompt, tokens: proof.tokens },
  );
  if (answers.length === 0) return err(originUnavailable());
  const failures = answers.flatMap(({ answer }) => (answer.ok ? [] : [answer.error]));
  if (failures.length === answers.length && failures[0] !== undefined) return err(failures[0]);
  const origins = answers.map(({ id, answer }) =>
    answer.ok
      ? { id, ...verdictOf(answer.value, proof) }
      : { id, ok: false, reason: answer.error.code, kl: null, max_difference: null },
  );
  return ok({ row, origins });
}

function verdictOf(answer: VerifyAnswer, proof: AdapterProof | null): Omit<OriginVerdict, 'id'> {
  const { reason, kl, max_difference } = answer;
  const comparable = proof?.base_digest === answer.base_digest && proof.weights === answer.weights;
  if (comparable) return { ok: answer.ok, reason, kl, max_difference };
  const own = answer.ok || reason === 'proof_mismatch' ? null : reason;
  return { ok: false, reason: own ?? 'no proof for this base', kl: null, max_difference };
}
