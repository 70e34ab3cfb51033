/** Which decisions become rows, and in which form. Pure. */
import {
  type ImprovementRow,
  type LeftOut,
  LEFT_OUT,
  MOST_OF_USER,
} from '../../protocol/admin-api/improvements.ts';
import type { KeptText } from '../../protocol/admin-api/prompts.ts';
import type { TrainingMethod } from '../../protocol/training.ts';

interface Message {
  role: string;
  content: string;
}

/** One answer preferred to another. */
export interface Decision {
  /** Unix ms. */
  at: number;
  by: ImprovementRow['by'];
  /** Hash of who asked. */
  user: string;
  conversation: readonly Message[];
  chosen: string;
  rejected: string;
}

const DAY_MS = 86_400_000;
/** Days of UTC since 1970. */
const dayOf = (at: number): number => Math.floor(at / DAY_MS);

/** Most rows of one user among so many. */
export const mostOfUser = (rows: number): number => Math.max(1, Math.floor(rows * MOST_OF_USER));

/**
 * Limits what one user can teach: the first decision of each day (UTC), and of those the newest that are at most
 * {@link MOST_OF_USER} of the rows that remain. With fewer than 200 rows that is one of each user.
 * @param decisions oldest first. @returns which are taken, in their order, and how many each limit has left out.
 */
export function limitUsers<D extends Pick<Decision, 'at' | 'user'>>(
  decisions: readonly D[],
): { taken: D[]; day: number; share: number } {
  const days = new Set<string>();
  const daily = decisions.filter(({ at, user }) => {
    const key = `${dayOf(at)} ${user}`;
    return !days.has(key) && days.add(key) !== null;
  });
  const counts = new Map<string, number>();
  for (const { user } of daily) counts.set(user, (counts.get(user) ?? 0) + 1);
  const rowsWith = (most: number): number =>
    [...counts.values()].reduce((sum, count) => sum + Math.min(count, most), 0);
  let most = Math.max(1, ...counts.values());
  // What is left out of one user makes all others' shares larger.
  while (most > mostOfUser(rowsWith(most))) most -= 1;
  const left = new Map<string, number>();
  const taken = [...daily]
    .reverse()
    .filter(({ user }) => {
      const before = left.get(user) ?? 0;
      left.set(user, before + 1);
      return before < most;
    })
    .reverse();
  return { taken, day: decisions.length - daily.length, share: daily.length - taken.length };
}

/** Roles that a row can have; calls of tools are kept as text, which is not what was said. */
const PLAIN = new Set(['system', 'user', 'assistant']);

/**
 * A user's decision between two kept answers.
 * @returns why it makes no row instead.
 */
export function decisionOf(
  sides: { chosen: KeptText; rejected: KeptText },
  from: Pick<Decision, 'at' | 'user'>,
): Decision | LeftOut {
  const { chosen, rejected } = sides;
  if (chosen.prompt_cut || rejected.prompt_cut || chosen.answers_cut || rejected.answers_cut) return 'cut';
  if (JSON.stringify(chosen.prompt) !== JSON.stringify(rejected.prompt)) return 'different';
  const [good, bad] = [onlyAnswer(chosen), onlyAnswer(rejected)];
  if (good === null || bad === null) return 'form';
  const conversation = chosen.prompt.map(({ role, text }) => ({ role, content: text }));
  return checked({ ...from, by: 'user', conversation, chosen: good, rejected: bad });
}

/** @returns null for a raw text's continuation, which has no conversation, for classes, and for none or several answers. */
function onlyAnswer({ answers, raw, classes }: KeptText): string | null {
  const [answer, ...others] = answers ?? [];
  return answer === undefined || others.length > 0 || raw === true || classes === true ? null : answer;
}

export function checked(decision: Decision): Decision | LeftOut {
  const { conversation, chosen, rejected } = decision;
  if (chosen.trim() === rejected.trim()) return 'tie';
  if (chosen.trim() === '' || conversation.at(-1)?.role !== 'user') return 'form';
  return conversation.every(({ role }) => PLAIN.has(role)) ? decision : 'form';
}

/** As `graft train` reads it. */
export function rowOf(
  { at, by, conversation, chosen, rejected }: Decision,
  method: TrainingMethod,
): ImprovementRow {
  const said = (content: string): Message[] => [{ role: 'assistant', content }];
  const messages = [...conversation];
  return {
    ...{ at, by },
    row:
      method === 'sft'
        ? { messages: [...messages, ...said(chosen)] }
        : { input: { messages }, preferred_output: said(chosen), non_preferred_output: said(rejected) },
  };
}

/** Counts of what makes no row. */
export class LeftOutCounts {
  readonly #counts = new Map<LeftOut, number>();

  add(why: LeftOut, count = 1): void {
    this.#counts.set(why, (this.#counts.get(why) ?? 0) + count);
  }

  /** Those that are not 0. */
  list(): { why: LeftOut; count: number }[] {
    return LEFT_OUT.flatMap((why) => {
      const count = this.#counts.get(why) ?? 0;
      return count === 0 ? [] : [{ why, count }];
    });
  }
}
