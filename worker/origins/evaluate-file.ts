import type { ApiError, EvaluateAnswer, EvaluateFileRequest, Result } from '../../protocol/index.ts';
import type { AdminCaller } from '../access/ports.ts';
import { assembleChain, type MayUseChain } from '../registry/assemble-chain.ts';
import type { IntakeDeps, RequestLife } from '../registry/registry-deps.ts';

/** Scores a file that the caller has uploaded, published or not, as it would be on top of its parent. */
export async function evaluateFile(
  deps: IntakeDeps & { mayUseChain: MayUseChain },
  params: { request: EvaluateFileRequest; caller: AdminCaller; life: RequestLife },
): Promise<Result<EvaluateAnswer, ApiError>> {
  const { request, caller, life } = params;
  const { digest, rows } = request;
  const assembled = await assembleChain(deps, {
    digest,
    parent: request.parent ?? null,
    caller,
    owner: caller.tenant,
  });
  if (!assembled.ok) return assembled;
  const { parent, base } = assembled.value;
  const chain = [
    ...(parent?.chain ?? []).map((member) => ({ digest: member.digest, scale: member.scale })),
    { digest, scale: 1 },
  ];
  return deps.trials.evaluate(
    { ...life, name: request.parent ?? digest, base: base.id, tenant: caller.tenant, chain },
    rows,
  );
}
