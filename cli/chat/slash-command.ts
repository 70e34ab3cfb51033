import { didYouMean } from '../did-you-mean.ts';

/** What a line of a conversation means. */
export type Turn =
  | { readonly kind: 'say'; readonly text: string }
  | { readonly kind: 'help' }
  | { readonly kind: 'exit' }
  | { readonly kind: 'reset' }
  /** `text` null: which one is it now? */
  | { readonly kind: 'system'; readonly text: string | null }
  | { readonly kind: 'unknown'; readonly message: string };

const COMMANDS = ['/help', '/exit', '/system', '/reset'] as const;

export const CONVERSATION_HELP = [
  '/system TEXT   another system message, from the next answer on; /system none for none, /system shows it',
  '/reset         forget what was said; the system message stays',
  '/help          these lines',
  '/exit          end (so does Ctrl-D)',
  'Ctrl-C ends an answer that is being printed. Pasted lines are one turn. A turn that begins with a slash: put a space before it.',
].join('\n');

/** A word that begins with a slash and has no other one is a command; `/etc/hosts` is not. */
export function readTurn(line: string): Turn {
  const match = /^(\/[a-z]+)(?:\s+(.*))?$/s.exec(line.trimEnd());
  if (match === null) return { kind: 'say', text: line };
  const [, word = '', rest = ''] = match;
  const text = rest.trim();
  switch (word) {
    case '/help':
      return { kind: 'help' };
    case '/exit':
    case '/quit':
      return { kind: 'exit' };
    case '/reset':
      return { kind: 'reset' };
    case '/system':
      return { kind: 'system', text: text === '' ? null : text };
    default:
      return {
        kind: 'unknown',
        message: `${word} is none of ${COMMANDS.join(', ')}.${didYouMean(word, COMMANDS)} To send it, put a space before it.`,
      };
  }
}
