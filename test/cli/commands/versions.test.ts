import { expect, it } from 'vitest';
import { versionTable } from '../../../cli/commands/versions.ts';
import type { VersionView } from '../../../protocol/admin-api/versions.ts';
import { liveOnce } from '../../../protocol/state-words.ts';
import { trainingCard } from '../../contracts/sample-training.ts';

const view = (version: number, more: Partial<VersionView> = {}): VersionView => ({
  ...{ name: 'a/b', version, digest: String(version).repeat(64), chain: [], chain_id: 'c'.repeat(64) },
  ...{ parent: 'a@1', owner: 'me', base: { id: 'tiny', digest: 'b'.repeat(64) }, bytes: 2_000_000, rank: 8 },
  ...{ created_at: Date.UTC(2026, 0, 2, 3, 4), created_by: 'key_1', proof: null, evaluation: null },
  ...{ training: null, retired_at: null, withdrawn_at: null, live: false },
  ...more,
});
const rows = (versions: VersionView[], version: number | null) =>
  versionTable({ name: 'a/b', owner: 'me', version, versions })
    .split('\n')
    .map((line) => line.split(/ {2,}/));

it('shows contents, author and date of each version', () => {
  const evaluation = { rows: 8, exact_match: 0.75, mean_nll: 1, sha256: 'e'.repeat(64), at: 1 };
  const versions = [view(3), view(2, { live: true, evaluation }), view(1, { retired_at: 5, parent: null })];
  const at = '2026-01-02 03:04Z';
  expect(rows(versions, 2)).toEqual([
    ['VERSION', 'STATE', 'BASE', 'ON TOP OF', 'RANK', 'SIZE', 'SCORE', 'WHEN', 'BY', 'DIGEST'],
    ['3', 'staged', 'tiny', 'a@1', '8', '2.0 MB', '-', at, 'key_1', '333333333333'],
    ['2', 'live', 'tiny', 'a@1', '8', '2.0 MB', '75 % of 8', at, 'key_1', '222222222222'],
    ['1', 'retired', 'tiny', 'the base', '8', '2.0 MB', '-', at, 'key_1', '111111111111'],
  ]);
});

it('has no column of scores without scores', () => {
  expect(rows([view(1, { live: true })], 1)[0]).not.toContain('SCORE');
  expect(rows([], null)).toEqual([['no versions']]);
});

it('has a line for each version with a training card', () => {
  const table = versionTable({
    ...{ name: 'a/b', owner: 'me', version: 2 },
    versions: [view(2, { live: true, training: trainingCard() }), view(1)],
  });
  expect(table.split('\n').slice(3)).toEqual([
    '',
    '@2 trained on 60 rows (sha256 abababababab), 90 steps, loss 2.31 → 0.0421, held out 38 of 40 exact ' +
      '(loss 2.4 → 0.09)',
  ]);
});

it('labels a version that was live, and is newer than the live one, as rolled back', () => {
  const versions = [view(4), view(3), view(2, { live: true }), view(1)];
  const table = versionTable(
    { name: 'a/b', owner: 'me', version: 2, versions },
    liveOnce([{ from: 3 }, { from: null }]),
  );
  expect(table.split('\n').map((line) => line.split(/ {2,}/)[1])).toEqual([
    ...['STATE', 'staged', 'rolled back', 'live', 'earlier'],
  ]);
});
