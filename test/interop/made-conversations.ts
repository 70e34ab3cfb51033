/** The same conversations every time. */
import { seeded } from '../fixtures/tiny-base.ts';

export const MADE_CONVERSATIONS = 200;

const PIECES = [
  'hi',
  ' ',
  '  ',
  '\n',
  '\t',
  '.',
  'größe',
  '😀',
  '0',
  'false',
  '\u3000',
  '\x85',
  '\ufeff',
  '<b>',
  "'",
  '中文',
];

export interface MadeMessage {
  readonly role: string;
  readonly content: string;
}

/** @returns turns of alternating roles, one in sixteen not; contents of words and blanks, some of blanks alone or empty. */
export function madeConversations(): MadeMessage[][] {
  const random = seeded(9);
  const below = (count: number): number => Math.floor(((random() + 1) / 2) * count);
  const content = (): string =>
    Array.from({ length: below(7) }, () => PIECES[below(PIECES.length)]!).join('');
  return Array.from({ length: MADE_CONVERSATIONS }, () => {
    const roles: string[] = Array.from({ length: 1 + below(5) }, (_, turn) =>
      below(16) === 0 ? 'user' : turn % 2 === 0 ? 'user' : 'assistant',
    );
    if (below(2) === 0) roles.unshift('system');
    return roles.map((role) => ({ role, content: content() }));
  });
}
