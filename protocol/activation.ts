/**
 * From which token of a prompt on adapters of a chain act. An activated one (aLoRA, arXiv:2504.12397) acts from the last
 * occurrence of its invocation tokens on, the first of them included, as in PEFT (`tuners/lora/variants.py`).
 */

export interface Acting {
  /** Tokens that it waits for; null = it acts on every token. */
  readonly invocation: readonly number[] | null;
  /** It was trained on the adapters before it in its chain; otherwise on the base. */
  readonly stacked: boolean;
}

/**
 * @param chain root first. @param prompt tokens in which invocations are looked for; those of an answer do not count.
 * @returns each one's first token; Infinity = it does not act.
 */
export function actsFrom(chain: readonly Acting[], prompt: readonly number[]): number[] {
  let latest = 0;
  return chain.map(({ invocation, stacked }) => {
    const own = invocation === null ? 0 : lastOccurrence(prompt, invocation);
    // An adapter knows its parents' effect only: it does not act before they do.
    latest = stacked ? Math.max(latest, own) : own;
    return latest;
  });
}

/**
 * Why an adapter that acts on every token cannot lie on an activated one: it would act before what it was trained on.
 * @param adapter begins the sentence. @param parent as "its parent".
 */
export const actsBeforeParent = (adapter: string, parent: string): string =>
  `${adapter} acts on every token, but ${parent} only from its alora_invocation_tokens on. ` +
  'Train it with alora_invocation_tokens too.';

/** Knuth, Morris and Pratt's search, so that no prompt takes longer than its length. @returns Infinity if there is none. */
export function lastOccurrence(tokens: readonly number[], wanted: readonly number[]): number {
  /** By matched tokens: how many of the first ones are also the last of these. */
  const overlaps = [0, 0];
  for (let at = 1, matched = 0; at < wanted.length; at += 1) {
    while (matched > 0 && wanted[at] !== wanted[matched]) matched = overlaps[matched]!;
    if (wanted[at] === wanted[matched]) matched += 1;
    overlaps.push(matched);
  }
  let last = Infinity;
  for (let at = 0, matched = 0; at < tokens.length; at += 1) {
    while (matched > 0 && (matched === wanted.length || tokens[at] !== wanted[matched]))
      matched = overlaps[matched]!;
    if (tokens[at] === wanted[matched]) matched += 1;
    if (matched === wanted.length) last = at + 1 - wanted.length;
  }
  return last;
}

/** What a trial must know of an adapter before it runs. */
export interface AdapterTraits {
  /** Tokens from which on it acts; null = on every token. */
  readonly invocation: readonly number[] | null;
  /** It has a classification head. */
  readonly classifies: boolean;
  /** Some tokens whose embedding it moves most; empty = it moves none. */
  readonly moves: readonly number[];
}
