import { z } from 'zod';

/** A row as `graft publish --eval` takes it, whose answer need not be known. */
export const ComparisonRow = z
  .strictObject({
    /** A raw text to go on from. */
    prompt: z.string().optional(),
    /** Put into the base's chat format, `system` with it. */
    user: z.string().optional(),
    system: z.string().optional(),
    /** The whole answer, to its end. */
    expected: z.string().min(1).optional(),
  })
  .superRefine(({ prompt, user, system }, context) => {
    if ((prompt === undefined) === (user === undefined))
      context.addIssue({ code: 'custom', message: "a row has either 'prompt' or 'user'" });
    else if (system !== undefined && user === undefined)
      context.addIssue({ code: 'custom', message: "'system' goes with 'user', not with 'prompt'" });
  });
export type ComparisonRow = z.infer<typeof ComparisonRow>;

/** What a person or a model is shown as the question. */
export const questionOf = ({ prompt, user, system }: ComparisonRow): string =>
  system === undefined ? (user ?? prompt ?? '') : `${system}\n\n${user ?? ''}`;
