import { CliError, EXIT } from '../cli-error.ts';
import type { JsonLines } from '../read-json-lines.ts';
import { type Asking, type ComparisonRow, complete } from './complete.ts';
import type { Results } from './results-file.ts';

export type Rows = JsonLines<ComparisonRow>['rows'];

/**
 * Asks every name every prompt whose answer is not there yet. A name stands for the version that gave its first
 * answer until the end, whatever is published meanwhile: the others are asked for as `name@version`.
 * @param modelOf what stands in a request for a name. @throws CliError
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
        message: `${what}: ${adapter} answered, and ${pinned} gave the answers before.`,
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
 * Runs `work` over all items, at most `limit` at once, and begins them in their order. The first failure ends it:
 * nothing is begun any more, what runs is waited for, and it is thrown.
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
