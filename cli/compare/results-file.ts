/** Results of a comparison so far, as JSON Lines: a heading, then answers and verdicts as they arrive. */
import { appendFileSync, truncateSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { CliError } from '../cli-error.ts';
import { usageError } from '../flags.ts';

const Heading = z.strictObject({
  kind: z.literal('graft_compare'),
  /** Of the file of prompts. */
  sha256: z.string(),
  max_tokens: z.int(),
  temperature: z.number(),
  seed: z.int(),
});
export type Heading = z.infer<typeof Heading>;

export const Answer = z.strictObject({
  kind: z.literal('answer'),
  /** Of the prompt. */
  line: z.int(),
  /** Its name in the comparison. */
  name: z.string(),
  /** `name@version` that answered, or `base`. */
  adapter: z.string(),
  text: z.string(),
  /** It ended by itself and was not truncated. */
  ended: z.boolean(),
});
export type Answer = z.infer<typeof Answer>;

/** One question to a judge. */
const Asked = z.strictObject({
  /** Which answer was shown first. */
  first: z.string(),
  /** Which answer was better; null = neither. */
  chose: z.string().nullable(),
  /** A model's reply that could not be read. */
  unclear: z.string().optional(),
});
export type Asked = z.infer<typeof Asked>;

export const Verdict = z.strictObject({
  kind: z.literal('verdict'),
  /** `exact`, `me`, or the model that judged. */
  judge: z.string(),
  line: z.int(),
  names: z.tuple([z.string(), z.string()]),
  /** null = a tie. */
  winner: z.string().nullable(),
  /** Skipped by the person: not counted. */
  skipped: z.boolean(),
  /** Empty when nobody had to be asked: the answers were identical, or exactness decided. */
  asked: z.array(Asked),
});
export type Verdict = z.infer<typeof Verdict>;

const Entry = z.discriminatedUnion('kind', [Answer, Verdict]);

export interface Results {
  answer(line: number, name: string): Answer | undefined;
  /** Whichever of the two is named first. */
  verdict(judge: string, line: number, a: string, b: string): Verdict | undefined;
  /** `name@version` that this comparison's name stands for; undefined before its first answer. */
  adapterOf(name: string): string | undefined;
  add(entry: Answer | Verdict): void;
}

/** @param append stores an entry; default: nothing is stored. */
export function createResults(
  append: (entry: Answer | Verdict) => void = () => undefined,
): Results & { know(entry: Answer | Verdict): void } {
  const answers = new Map<string, Answer>();
  const verdicts = new Map<string, Verdict>();
  const adapters = new Map<string, string>();
  const verdictKey = (judge: string, line: number, names: readonly string[]): string =>
    JSON.stringify([judge, line, ...[...names].sort()]);
  const know = (entry: Answer | Verdict): void => {
    if (entry.kind === 'verdict') {
      verdicts.set(verdictKey(entry.judge, entry.line, entry.names), entry);
      return;
    }
    answers.set(JSON.stringify([entry.line, entry.name]), entry);
    if (!adapters.has(entry.name)) adapters.set(entry.name, entry.adapter);
  };
  return {
    answer: (line, name) => answers.get(JSON.stringify([line, name])),
    verdict: (judge, line, a, b) => verdicts.get(verdictKey(judge, line, [a, b])),
    adapterOf: (name) => adapters.get(name),
    add(entry) {
      append(entry);
      know(entry);
    },
    know,
  };
}

/**
 * Opens or creates a results file. A truncated last line is dropped.
 * @throws CliError (usage) when it contains results of other prompts, or is not a results file.
 */
export async function openResults(file: string, heading: Heading): Promise<Results> {
  const write = (value: unknown): void => {
    try {
      appendFileSync(file, `${JSON.stringify(value)}\n`);
    } catch (error) {
      throw new CliError({ message: `--out ${file} cannot be written (${(error as Error).message}).` });
    }
  };
  const results = createResults(write);
  const content = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw usageError(`--out ${file} cannot be read (${error.message}).`);
  });
  if (content === null || content.length === 0) {
    write(heading);
    return results;
  }
  const whole = content.lastIndexOf(0x0a) + 1;
  const [first, ...rest] = content.subarray(0, whole).toString('utf8').split('\n');
  compareHeadings(file, parseLine(file, 1, first ?? '', Heading), heading);
  for (const [index, line] of rest.entries())
    if (line !== '') results.know(parseLine(file, index + 2, line, Entry));
  if (whole < content.length) truncateSync(file, whole);
  return results;
}

function parseLine<T>(file: string, line: number, text: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    throw usageError(`--out ${file}, line ${line}: not written by \`graft compare\`. Give another file.`);
  }
}

function compareHeadings(file: string, found: Heading, wanted: Heading): void {
  const other = (['sha256', 'max_tokens', 'temperature', 'seed'] as const).find(
    (key) => found[key] !== wanted[key],
  );
  if (other === undefined) return;
  const what =
    other === 'sha256'
      ? 'other prompts'
      : `--${other.replace('_', '-')} ${found[other]}, not ${wanted[other]}`;
  throw usageError(`--out ${file} contains the results of ${what}. Give another file.`);
}
