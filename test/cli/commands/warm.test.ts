import { expect, it } from 'vitest';
import { originText } from '../../../cli/commands/origins.ts';

const brought = [{ digest: 'a'.repeat(64), bytes: 310_000_000, ms: 2_345 }];

it('shows what was sent, and how long it took', () => {
  expect(originText('a@2', { id: 'o1', ok: true, reason: null, brought, ms: 3_001 })).toBe(
    '  sent aaaaaaaaaaaa, 310 MB, in 2.35 s\na@2 is in memory at o1 after 3.00 s',
  );
});

it('shows why an origin does not have it', () => {
  expect(originText('a@2', { id: 'o1', ok: false, reason: 'No room.', brought: [], ms: 5 })).toBe(
    'o1: No room.',
  );
});
