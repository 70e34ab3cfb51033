/**
 * What an origin tells the edge of a completion's tokens, beside the answer: in the header of a whole answer
 * (`x-graft-usage: prompt=12,completion=34`), and of a stream `prompt=12` in the header and both in a comment between
 * its last events (`: graft-usage prompt=12,completion=34`). A client that did not ask for usage sees none of it.
 */
export const USAGE_HEADER = 'x-graft-usage';
export const USAGE_COMMENT = ': graft-usage ';

export interface UsageNote {
  promptTokens: number;
  /** null while it is not known. */
  completionTokens: number | null;
}

export const writeUsageNote = ({ promptTokens, completionTokens }: UsageNote): string =>
  completionTokens === null
    ? `prompt=${promptTokens}`
    : `prompt=${promptTokens},completion=${completionTokens}`;

/** @returns null for what is none. */
export function readUsageNote(text: string | null): UsageNote | null {
  const match = /^prompt=(\d{1,9})(?:,completion=(\d{1,9}))?$/.exec(text?.trim() ?? '');
  if (match === null) return null;
  return {
    promptTokens: Number(match[1]),
    completionTokens: match[2] === undefined ? null : Number(match[2]),
  };
}
