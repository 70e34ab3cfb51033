import { expect, it } from 'vitest';
import { editedText } from '../../../cli/commands/edit.ts';

const from = { description: null, tags: [] };

it.each([
  [{ description: 'notes', tags: ['a', 'b'], from }, false, 'n\n  description  notes\n  tags         a, b'],
  [
    { description: null, tags: [], from: { ...from, tags: ['a'] } },
    true,
    'dry run: n would be\n  description  -\n  tags         -',
  ],
  [{ ...from, from }, false, 'n is so already; nothing changed'],
  [{ ...from, from }, true, 'n is so already; nothing would change'],
])('%j', (answer, dryRun, text) => expect(editedText({ name: 'n', ...answer }, dryRun)).toBe(text));
