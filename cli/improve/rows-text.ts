/** Rows of decisions: as a file, as text, and as the card says it. */
import { type ImprovementRows, LEFT_OUT_WORDS } from '../../protocol/admin-api/improvements.ts';
import type { TrainingCard } from '../../protocol/training.ts';
import { shortenMiddle, stripControlChars, when } from '../output.ts';

/** Rows that are shown. */
const SHOWN = 3;
/** Characters of a message that are shown. */
const SHOWN_TEXT = 160;

/** As `graft train` reads it. */
export const rowsFile = ({ rows }: ImprovementRows): string =>
  rows.map(({ row }) => `${JSON.stringify(row)}\n`).join('');

/** @returns undefined without rows. */
export function promptsOf({ rows, users }: ImprovementRows): TrainingCard['prompts'] {
  const [first, last] = [rows[0], rows.at(-1)];
  if (first === undefined || last === undefined) return undefined;
  const byUsers = rows.filter(({ by }) => by === 'user').length;
  return {
    ...{ rows: rows.length, users },
    ...{ by_users: byUsers, by_judges: rows.length - byUsers, from: first.at, to: last.at },
  };
}

/** Rows that were decided after those which the live version was made from. */
export const newRows = ({ rows }: ImprovementRows, card: Pick<TrainingCard, 'prompts'> | null): number =>
  rows.filter(({ at }) => at > (card?.prompts?.to ?? 0)).length;

const oneLine = (text: string): string =>
  shortenMiddle(stripControlChars(text).replaceAll(/\s+/g, ' ').trim(), SHOWN_TEXT);

/** What is there, what is not and why, and the first rows. @param fresh see {@link newRows}. */
export function rowsText(rows: ImprovementRows, fresh: number): string {
  const prompts = promptsOf(rows);
  const counts =
    prompts === undefined
      ? `${rows.name}: no decision makes a row`
      : `${rows.name}: ${prompts.rows} rows of ${prompts.users} users, ${prompts.by_users} decided by users and ` +
        `${prompts.by_judges} by judges, ${when(prompts.from)} to ${when(prompts.to)}; ${fresh} are new`;
  return [
    counts,
    ...rows.left_out.map(({ why, count }) => `left out ${count}: ${LEFT_OUT_WORDS[why]}`),
    ...rows.rows.slice(0, SHOWN).flatMap(({ row }, i) => ['', `row ${i + 1}`, ...messagesText(row)]),
    ...(rows.rows.length > SHOWN ? ['', `… and ${rows.rows.length - SHOWN} more`] : []),
  ].join('\n');
}

function messagesText(row: ImprovementRows['rows'][number]['row']): string[] {
  const said = (label: string, messages: readonly { content: string }[]): string[] =>
    messages.map(({ content }) => `  ${label}: ${oneLine(content)}`);
  if ('messages' in row) return row.messages.map(({ role, content }) => `  ${role}: ${oneLine(content)}`);
  return [
    ...row.input.messages.map(({ role, content }) => `  ${role}: ${oneLine(content)}`),
    ...said('better', row.preferred_output),
    ...said('worse', row.non_preferred_output),
  ];
}
