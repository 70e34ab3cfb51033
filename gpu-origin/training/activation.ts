/** Which tokens activate the deltas of a training, and where each begins to act in a prompt. */
import { type CanonicalConfig, sameInvocation } from '../../adapters/index.ts';
import { actsFrom, type Acting } from '../../protocol/activation.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { MAX_INVOCATION_TOKENS } from '../../protocol/limits.ts';
import type { TrainingRequest, TrainingSettings } from '../../protocol/training.ts';
import { finish, type Tokenizer } from '../model/tokenizer.ts';

export interface Activation {
  /** Of what is trained; absent = it acts on every token. */
  readonly activated?: TrainingSettings['activated'];
  /** For `encodeRows`. */
  readonly begins?: (prompt: readonly number[]) => readonly number[] | null;
}

/** Where a delta begins that does not act; fits into 32 bits. */
const NOWHERE = 2 ** 31 - 1;

/**
 * @param request.activated_by a text that becomes tokens; its control strings become control tokens.
 * @param below the frozen chain, root first.
 * @returns what is wrong with the settings, otherwise.
 */
export function activationOf(params: {
  request: Pick<TrainingRequest, 'activated' | 'activated_by' | 'continues'>;
  below: readonly Pick<CanonicalConfig, 'invocation' | 'parent'>[];
  tokenizer: Tokenizer;
}): Result<Activation, string> {
  const { request, below, tokenizer } = params;
  const text = request.activated_by;
  const asked = text === undefined ? request.activated : encode(text, tokenizer);
  if (asked === null || asked?.length === 0)
    return err(`the text that activates the adapter has 0 or more than ${MAX_INVOCATION_TOKENS} tokens`);
  const unknown = asked?.find((id) => id >= tokenizer.size);
  if (unknown !== undefined)
    return err(`token ${unknown} is not in the vocabulary of ${tokenizer.size} tokens`);
  const last = request.continues === true ? below.at(-1) : undefined;
  if (last !== undefined && asked !== undefined && !sameInvocation(asked, last.invocation))
    return err(
      'the version that is continued acts from other tokens on, and the sum is one adapter. Leave out --activated',
    );
  const own = asked ?? last?.invocation;
  const acting = below.map(({ invocation, parent }): Acting => ({
    invocation: invocation ?? null,
    stacked: parent !== null,
  }));
  const isActivated = acting.map(({ invocation }) => invocation !== null);
  if (own === undefined)
    return isActivated.includes(true)
      ? err(
          'an adapter below acts from its alora_invocation_tokens on only, and what is trained on top must not act ' +
            'before it. Set the tokens that activate it, too (--activated <text or token ids>)',
        )
      : ok({});
  const all: Acting[] = [...acting, { invocation: own, stacked: below.length > 0 }];
  const counts = [...isActivated, true];
  return ok({
    activated: [...own],
    begins(prompt) {
      const begins = actsFrom(all, prompt);
      if (begins.at(-1) === Infinity) return null;
      return begins.filter((_, at) => counts[at]).map((begin) => Math.min(begin, NOWHERE));
    },
  });
}

/** @returns null where there are too many. */
function encode(text: string, tokenizer: Tokenizer): number[] | null {
  const ids = finish(tokenizer.encodeChunked(text, { allowSpecial: true, limit: MAX_INVOCATION_TOKENS }));
  return ids === null || ids.length > MAX_INVOCATION_TOKENS ? null : ids;
}
