import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { renderComparison } from '../../../cli/commands/compare.ts';
import { createResults, type Verdict } from '../../../cli/compare/results-file.ts';
import { summarize } from '../../../cli/compare/compare-names.ts';

const verdict = (line: number, winner: string | null, first: string): Verdict => ({
  kind: 'verdict',
  judge: 'me',
  line,
  names: ['a', 'b'],
  winner,
  skipped: false,
  asked: [{ first, chose: winner }],
});

const summaryOf = (verdicts: Verdict[]) => {
  const results = createResults();
  for (const name of ['a', 'b'])
    results.add({ kind: 'answer', line: 1, name, adapter: `${name}@1`, text: name, ended: true });
  return summarize({
    judge: 'me',
    rows: [{ line: 1, row: { user: 'u' } }],
    sha256: 'aa',
    names: ['a', 'b'],
    results,
    verdicts,
  });
};

const rendered = (verdicts: Verdict[]): string =>
  stripVTControlCharacters(renderComparison(summaryOf(verdicts)));

describe('renderComparison', () => {
  it('shows who is better, and that the order had no visible effect', () => {
    const text = rendered(
      Array.from({ length: 40 }, (_, i) => verdict(i, i % 4 === 0 ? 'b' : 'a', i % 8 < 4 ? 'a' : 'b')),
    );
    expect(text).toMatch(/^a +b +30 +0 +10 +75\.0 % +59\.8 to 85\.8 % +a is better$/m);
    expect(text).toMatch(/^a +a@1 +\+0\.53 +\+0\.\d\d to \+0\.\d\d$/m);
    expect(text).toMatch(/^b +b@1 +−0\.53 /m);
    expect(text).toContain('1 prompts, judge: me');
    expect(text).toContain('shown first was preferred in 50.0 %');
    expect(text).not.toContain('bias');
  });

  it('shows that nothing is known', () => {
    expect(rendered([])).toMatch(/^a +b +0 +0 +0 +- +-$/m);
    expect(rendered([verdict(1, 'a', 'a')])).toMatch(/open$/m);
  });

  it('counts a person who always takes the first', () => {
    const text = rendered(
      Array.from({ length: 20 }, (_, i) => (i % 2 ? verdict(i, 'a', 'a') : verdict(i, 'b', 'b'))),
    );
    expect(text).toContain('which is a bias');
    expect(text).toContain('shown first was preferred in 100.0 %');
  });
});
