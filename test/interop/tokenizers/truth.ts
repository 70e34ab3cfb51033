import type { MadeMessage } from '../made-conversations.ts';

export interface Cases {
  readonly texts: readonly string[];
  readonly conversations: readonly (readonly MadeMessage[])[];
}

/** What another encodes {@link Cases} to. */
export interface Truth {
  /** Whose tokens they are. */
  readonly by: string;
  readonly texts: readonly (readonly number[])[];
  /** Without ids where the template refuses; none at all without a template. */
  readonly conversations: readonly { readonly ids?: readonly number[] | undefined }[];
}
