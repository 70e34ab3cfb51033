import type { KeptPair } from '../../protocol/index.ts';
import { harmless } from '../harmless-text.ts';
import { when } from '../keys/key-table.ts';
import { colors } from '../output.ts';

const RESULTS = { win: 'the treatment won', tie: 'a tie', loss: 'control won' };

/** Pairs with their texts, the newest first. */
export function keptPairsText(pairs: readonly KeptPair[]): string {
  if (pairs.length === 0)
    return 'No pairs are kept; --keep-pairs of `graft experiment create` asks for that.';
  return pairs
    .map(({ at, prompt, control, treatment, result, cut }) =>
      [
        colors.bold(`${when(at)}  ${RESULTS[result]}${cut ? ' (texts are cut)' : ''}`),
        ...prompt.map(({ role, content }) => `${colors.dim(`${harmless(role)}:`)} ${harmless(content)}`),
        `${colors.dim('control:')} ${harmless(control)}`,
        `${colors.dim('treatment:')} ${harmless(treatment)}`,
      ].join('\n'),
    )
    .join('\n\n');
}
