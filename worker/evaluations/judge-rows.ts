/** Evaluations with a judge: which model judges, and what it says of a chain's answers. */
import { MAX_JUDGED_TOKENS, type JudgedRow } from '../../protocol/admin-api/evaluations.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { BASE_JUDGE } from '../../protocol/experiment.ts';
import { chainId, pinOf, type ChainEntry } from '../../protocol/identity.ts';
import type { AdminCaller } from '../access/ports.ts';
import { baseUnserved, conflict } from '../errors.ts';
import { answerRequest, readVerdict } from '../experiments/pairs/judge-request.ts';
import { askChat } from '../origins/ask-chat.ts';
import type { OriginClient } from '../origins/client.ts';
import type { MayUseChain } from '../registry/assemble-chain.ts';
import type { AdapterTrial, IntakeDeps } from '../registry/ports.ts';
import type { EvaluationJudge } from './ports.ts';

/** A judge, and how it is asked. */
interface AskedJudge extends EvaluationJudge {
  /** Whose usual origin is asked first; null = any. */
  name: string | null;
  /** null = the default one. */
  base: string | null;
  chain: readonly ChainEntry[];
}

/**
 * Finds a judge that the caller may use.
 * @param params.model `base`, `name@version`, or a name, for its live version. @param params.owner of the
 * evaluation, who must be allowed to use the judge. Errors: `model_not_found`; `version_conflict` for a retired one;
 * those of a base that is not served.
 */
export async function judgeOf(
  deps: Pick<IntakeDeps, 'registry' | 'bases'> & { mayUseChain: MayUseChain },
  params: { model: string; caller: AdminCaller; owner: string },
): Promise<Result<AskedJudge, ApiError>> {
  const { model, caller, owner } = params;
  if (model === BASE_JUDGE)
    return ok({ model, chainId: await chainId([]), name: null, base: null, chain: [] });
  const pin = model.includes('@') ? pinOf(model) : null;
  const row = await (pin === null ? deps.registry.live(model) : deps.registry.version(pin.name, pin.version));
  if (row === null || !(caller.root || deps.mayUseChain({ ...caller, tenant: owner }, row)))
    return err({
      code: 'model_not_found',
      message: `The judge '${model}' does not exist or you do not have access to it.`,
    });
  const { name, version, base, chain } = row;
  const pinned = `${name}@${version}`;
  if (row.retiredAt !== null || row.withdrawnAt !== null)
    return err(conflict(`The judge '${pinned}' is retired, or depends on an adapter that is.`, 'judge'));
  const { declared } = deps.bases;
  if (declared?.includes(base.id) === false) return err(baseUnserved(base.id, declared));
  return ok({ model: pinned, chainId: row.chainId, name, base: base.id, chain });
}

/**
 * Has a chain answer rows, greedily, and a judge say of each answer whether it is good. The first failure ends all.
 * @returns for each row: `1` = accepted, `0` = not, `?` = no clear verdict, or an answer too long for the judge to read.
 * The error has the row's index.
 */
export async function judgeRows(
  origins: Pick<OriginClient, 'complete'>,
  params: { of: AdapterTrial; judge: AskedJudge; rows: readonly JudgedRow[]; requestId: string },
): Promise<Result<string, { index: number; error: ApiError }>> {
  const { of, judge, rows, requestId } = params;
  const stop = new AbortController();
  const life = { ...of, requestId, manifest: null, signal: AbortSignal.any([of.signal, stop.signal]) };
  let failure: { index: number; error: ApiError } | null = null;
  const judged = await Promise.all(
    rows.map(async ({ user, system, expected: reference }, index): Promise<string> => {
      const fail = (error: ApiError): string => {
        failure ??= { index, error };
        stop.abort();
        return '';
      };
      const prompt = [
        ...(system === undefined ? [] : [{ role: 'system', content: system }]),
        { role: 'user', content: user },
      ];
      const request = { messages: prompt, temperature: 0, max_tokens: MAX_JUDGED_TOKENS };
      const { text: answer } = await askChat(origins, { ...life, model: of.name, request });
      if (!answer.ok) return fail(answer.error);
      const verdict = await askChat(origins, {
        ...life,
        model: judge.model,
        name: judge.name,
        base: judge.base,
        chain: judge.chain,
        request: answerRequest(prompt, { answer: answer.value, reference }),
      });
      // Of a long answer, which is the version's fault.
      if (!verdict.text.ok && verdict.text.error.code === 'context_length_exceeded') return '?';
      if (!verdict.text.ok) return fail(verdict.text.error);
      return { yes: '1', no: '0', unclear: '?' }[readVerdict(verdict.text.value) ?? 'unclear'];
    }),
  );
  return failure === null ? ok(judged.join('')) : err(failure);
}
