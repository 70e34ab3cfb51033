import { describe, expect, it } from 'vitest';
import { servedBy, servedNote } from '../../../cli/chat/ask.ts';
import { parseWith } from '../../../cli/commands/run.ts';

describe('servedNote', () => {
  const note = (headers: Record<string, string>) => servedNote('a/b', servedBy(new Headers(headers)));

  it('returns nothing for the requested adapter', () => {
    expect(note({ 'x-graft-adapter': 'a/b@1' })).toBeNull();
    expect(note({})).toBeNull();
  });

  it.each([
    [{ 'x-graft-adapter': 'a@1', 'x-graft-inherited': 'true' }, /no a\/b for this key: a@1 answers/],
    [
      { 'x-graft-adapter': 'a@1', 'x-graft-inherited': 'true', 'x-graft-degraded': 'ancestor' },
      /is unavailable: a@1/,
    ],
    [{ 'x-graft-adapter': 'base', 'x-graft-degraded': 'base' }, /the base model answers/],
    [{ 'x-graft-adapter': 'a/b@1', 'x-graft-degraded': 'stale' }, /a\/b@1 is the last known version/],
  ])('%j', (headers, line) => {
    expect(note(headers)).toMatch(line);
  });
});

describe('parseWith', () => {
  it('reads names and scales', () => {
    expect(parseWith('style=0.5, tone,a/b@2=-1')).toEqual([
      { name: 'style', scale: 0.5 },
      { name: 'tone', scale: 1 },
      { name: 'a/b@2', scale: -1 },
    ]);
  });

  it.each(['', 'a,', '=1', 'a=', 'a=x', 'a=1=2', 'a=Infinity'])('refuses %j', (text) => {
    expect(() => parseWith(text)).toThrow(/--with takes names and scales/);
  });
});
