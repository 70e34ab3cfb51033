import { z } from 'zod';
import type { ApiClient } from '../api-client.ts';
import { servedBy } from '../chat/served-by.ts';
import { CliError } from '../cli-error.ts';
import { sendRetrying } from '../publish/send-retrying.ts';

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

const Reply = z.object({
  choices: z
    .array(
      z.object({
        finish_reason: z.string().nullable(),
        /** Of a chat; the other of a text. */
        message: z.object({ content: z.string().nullable() }).optional(),
        text: z.string().optional(),
      }),
    )
    .min(1),
});

export interface Asking {
  readonly client: ApiClient;
  readonly signal?: AbortSignal | undefined;
}

interface Completed {
  readonly text: string;
  /** False when it was cut at its length. */
  readonly ended: boolean;
  /** `name@version` that answered, or `base`; null when the server does not say. */
  readonly adapter: string | null;
}

/**
 * One answer, whole, by this very model and no name above it.
 * @param settings further fields of the request. @throws CliError
 */
export async function complete(
  { client, signal }: Asking,
  params: { what: string; model: string; row: ComparisonRow; settings: Readonly<Record<string, number>> },
): Promise<Completed> {
  const { what, model, row, settings } = params;
  const [path, question] =
    row.prompt === undefined
      ? [
          '/v1/chat/completions',
          {
            messages: [
              ...(row.system === undefined ? [] : [{ role: 'system', content: row.system }]),
              { role: 'user', content: row.user },
            ],
          },
        ]
      : ['/v1/completions', { prompt: row.prompt }];
  const body = JSON.stringify({ model, strict: true, ...question, ...settings });
  const response = await sendRetrying(client, what, path, { method: 'POST', body }, { signal });
  const parsed = Reply.safeParse(await response.json());
  const choice = parsed.data?.choices[0];
  const text = choice?.message?.content ?? choice?.text;
  if (choice === undefined || text === undefined)
    throw new CliError({ message: `${what}: the server's answer is not a completion.` });
  return { text, ended: choice.finish_reason === 'stop', adapter: servedBy(response.headers).adapter };
}
