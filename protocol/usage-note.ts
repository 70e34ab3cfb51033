/**
 * What an origin tells the edge of a completion's tokens, beside the answer: in the header of a whole answer
 * (`x-graft-usage: prompt=12,completion=34`), and of a stream `prompt=12` in the header and both in a comment between
 * its last events (`: graft-usage prompt=12,completion=34`). A client that did not ask for usage sees none of it. With the
 * tokens comes how the answer ended (`,finish=length`); origins before that do not say it.
 */
export const USAGE_HEADER = 'x-graft-usage';
export const USAGE_COMMENT = ': graft-usage ';

export interface UsageNote {
  promptTokens: number;
  /** null while it is not known. */
  completionTokens: number | null;
  /**
   * `length`: at least one of the answer's choices was cut at its length. `left`: its reader was too slow, and the
   * answer was given up. Absent while it is not known.
   */
  finish?: 'stop' | 'length' | 'left';
}

export function writeUsageNote({ promptTokens, completionTokens, finish }: UsageNote): string {
  const prompt = `prompt=${promptTokens}`;
  if (completionTokens === null) return prompt;
  const end = finish === undefined ? '' : `,finish=${finish}`;
  return `${prompt},completion=${completionTokens}${end}`;
}

/** @returns null for what is none. */
export function readUsageNote(text: string | null): UsageNote | null {
  const match = /^prompt=(\d{1,9})(?:,completion=(\d{1,9})(?:,finish=(stop|length|left))?)?$/.exec(
    text?.trim() ?? '',
  );
  if (match === null) return null;
  const finish = match[3] as UsageNote['finish'];
  return {
    promptTokens: Number(match[1]),
    completionTokens: match[2] === undefined ? null : Number(match[2]),
    ...(finish === undefined ? {} : { finish }),
  };
}

/** @returns how an answer ended that came to its end; null for what did not, or when nobody says. */
export const finishOf = (note: UsageNote | null): 'stop' | 'length' | null =>
  note?.finish === undefined || note.finish === 'left' ? null : note.finish;
