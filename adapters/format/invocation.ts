/** Activated adapters (aLoRA, arXiv:2504.12397): the tokens from whose last occurrence in a prompt on one acts. */
import { InvocationTokens } from '../../protocol/adapter-manifest.ts';
import { MAX_INVOCATION_TOKENS } from '../../protocol/limits.ts';
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';
import type { Classifier } from './classifier.ts';
import type { LoraModule } from './lora-module.ts';

/** Token ids of the base; absent = the adapter acts on every token. */
export type Invocation = readonly number[] | undefined;

/**
 * @param key names the list in the error.
 * @param refuse throws.
 * @returns the list of another format, checked.
 */
export function readInvocation(
  value: unknown,
  key: string,
  refuse: (code: AdapterErrorCode, message: string, subject?: string) => never,
): readonly number[] {
  const parsed = InvocationTokens.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const place = issue?.path.length ? ` at ${issue.path.map(String).join('.')}` : '';
  return refuse(
    'alora',
    `${key} is not a list of 1 to ${MAX_INVOCATION_TOKENS} token ids${place}: ` +
      `${printable(issue?.message ?? 'invalid')}. Correct it.`,
    key,
  );
}

export const sameInvocation = (a: Invocation, b: Invocation): boolean => a?.join() === b?.join();

/**
 * The invocation of a sum of adapters. One file acts from one place on, so all members must.
 * @throws AdapterFormatError `parent_mismatch`
 */
export function commonInvocation(members: readonly { readonly invocation?: Invocation }[]): Invocation {
  const [first, ...others] = members.map(({ invocation }) => invocation);
  if (others.every((other) => sameInvocation(other, first))) return first;
  throw new AdapterFormatError({
    code: 'parent_mismatch',
    message:
      'The adapters do not act from the same tokens on: their alora_invocation_tokens differ. Publish them as ' +
      'a chain instead of one file.',
  });
}

/** @returns why a base of `vocabulary` tokens cannot have the invocation; null = it can. */
export function outsideVocabulary(invocation: Invocation, vocabulary: number): AdapterFormatError | null {
  const unknown = invocation?.find((id) => id >= vocabulary);
  if (unknown === undefined) return null;
  return new AdapterFormatError({
    code: 'alora',
    message:
      `The adapter acts from token ${unknown} on, but the base has only ${vocabulary} tokens. Use the adapter ` +
      'with the base and the tokenizer that it was trained on.',
    subject: 'invocation',
  });
}

/** What an adapter file has besides its base: its modules, when they act, and its classification head. */
export interface AdapterContent {
  readonly modules: readonly LoraModule[];
  readonly invocation?: Invocation;
  /** Absent = it generates text. */
  readonly classifier?: Classifier | undefined;
}
