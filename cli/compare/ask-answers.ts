import { CliError, EXIT } from '../cli-error.ts';
import type { JsonLines } from '../read-json-lines.ts';
import type { Results } from './results-file.ts';
import { z } from 'zod';
import { type ApiClient, sendRetrying } from '../api-client.ts';
import { servedBy } from '../chat/ask.ts';
import { checkQuestion } from '../../protocol/origin-wire.ts';

export type Rows = JsonLines<ComparisonRow>['rows'];

/**
 * Asks every name every prompt without an answer. A name stands for the version of its first answer until the
 * end, even if another is published in the meantime: later requests use `name@version`.
 * @param modelOf the request's model for a name. @throws CliError
 */
export async function askAnswers(params: {
  asking: Asking;
  rows: Rows;
  names: readonly string[];
  modelOf: (name: string) => string;
  settings: Readonly<Record<string, number>>;
  results: Results;
  parallel: number;
  onProgress: (done: number, total: number) => void;
}): Promise<void> {
  const { asking, rows, names, modelOf, settings, results, parallel, onProgress } = params;
  const total = rows.length * names.length;
  const open = rows.flatMap(({ line, row }) =>
    names.filter((name) => results.answer(line, name) === undefined).map((name) => ({ line, row, name })),
  );
  let done = total - open.length;
  onProgress(done, total);
  const ask = async ({ line, row, name }: (typeof open)[number]): Promise<void> => {
    const pinned = results.adapterOf(name);
    const model = pinned === undefined || pinned === 'base' ? modelOf(name) : pinned;
    const what = `line ${line}, ${name}`;
    const { text, ended, adapter } = await complete(asking, { what, model, row, settings });
    if (adapter !== null && pinned !== undefined && adapter !== pinned)
      throw new CliError({
        message: `${what}: ${adapter} answered, but the earlier answers are from ${pinned}.`,
        exitCode: EXIT.refused,
        code: 'other_adapter',
      });
    results.add({ kind: 'answer', line, name, adapter: adapter ?? name, text, ended });
    onProgress(++done, total);
  };
  const first = names.flatMap((name) =>
    results.adapterOf(name) === undefined ? (open.find((one) => one.name === name) ?? []) : [],
  );
  await inParallel(first, parallel, ask);
  await inParallel(
    open.filter((one) => !first.includes(one)),
    parallel,
    ask,
  );
}

/**
 * Runs `work` over all items in order, at most `limit` at once. After the first failure nothing more is
 * started; running work is awaited, and the failure is thrown.
 */
export async function inParallel<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failure: { error: unknown } | null = null;
  const lane = async (): Promise<void> => {
    while (failure === null && next < items.length) {
      try {
        await work(items[next++] as T);
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane));
  if (failure !== null) throw (failure as { error: unknown }).error;
}

/** A row as in `graft publish --eval`, whose answer may be unknown. */
export const ComparisonRow = z
  .strictObject({
    /** A raw text to continue. */
    prompt: z.string().optional(),
    /** Rendered with the base's chat template, along with `system`. */
    user: z.string().optional(),
    system: z.string().optional(),
    /** The whole answer, to its end. */
    expected: z.string().min(1).optional(),
  })
  .superRefine(checkQuestion);
export type ComparisonRow = z.infer<typeof ComparisonRow>;

/** The question as shown to a person or a model. */
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
  /** False when it was truncated by its length limit. */
  readonly ended: boolean;
  /** `name@version` that answered, or `base`; null when the server does not report it. */
  readonly adapter: string | null;
}

/**
 * One complete answer of exactly this model, never of an ancestor.
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
