import { describe, expect, it } from 'vitest';
import type { PairOutcome, PairTallies, StoredPair } from '../../worker/experiments/pairs/ports.ts';

const DAY_MS = 86_400_000;
const AT = Date.UTC(2026, 10, 25, 12);

export const judged = (result: 'win' | 'tie' | 'loss', more: object = {}): PairOutcome => ({
  ...{ result, same: false, choices: 2, first: 1, agreed: true },
  ...more,
});
export const pairAt = (at: number, content: string): StoredPair => ({
  ...{ at, prompt: [{ role: 'user', content }], control: 'a', treatment: 'b', result: 'win', cut: false },
  learner: { key: 'key_1', user: 'u' },
});

/** What every {@link PairTallies} does. @param make one with nothing in it. */
export function pairTalliesContract(name: string, make: () => Promise<PairTallies>): void {
  describe(`tallies of pairs: ${name}`, () => {
    const add = (tallies: PairTallies, outcome: PairOutcome, more: object = {}) =>
      tallies.record('e', {
        seed: 's',
        at: AT,
        tokens: 10,
        outcome,
        keep: 0,
        pair: null,
        user: null,
        ...more,
      });

    it('count what was judged, by seed and experiment', async () => {
      const tallies = await make();
      await add(tallies, judged('win'));
      await add(tallies, judged('loss', { agreed: null, choices: 1, first: 1 }));
      await add(tallies, judged('tie', { same: true, agreed: null, choices: 0, first: 0 }));
      await add(tallies, judged('tie', { agreed: false, first: 2 }));
      for (const failure of ['judge', 'judge', 'form'] as const) await add(tallies, { failure });
      expect(await tallies.snapshot('e', { seed: 's', at: AT })).toEqual({
        ...{ wins: 1, ties: 2, losses: 1, same: 1, choices: 5, first: 4, asked: 2, agreed: 1 },
        ...{ failures: { judge: 2, form: 1 }, tokensToday: 70 },
      });
      const nothing = { wins: 0, ties: 0, losses: 0, failures: {} };
      expect(await tallies.snapshot('e', { seed: 'other', at: AT })).toMatchObject(nothing);
      expect(await tallies.snapshot('other', { seed: 's', at: AT })).toMatchObject(nothing);
    });

    it('let none begin once the day’s tokens are used up, whatever the seed', async () => {
      const tallies = await make();
      const may = (tokensPerDay: number, at = AT) =>
        tallies.mayBegin('e', { at, tokensPerDay, seed: 's', user: null });
      expect(await may(1)).toBe(true);
      await add(tallies, judged('win'));
      await add(tallies, { failure: 'judge' }, { seed: 'other' });
      expect([await may(20), await may(21)]).toEqual([false, true]);
      expect(await may(20, AT + DAY_MS)).toBe(true);
    });

    it('count five of one user under one seed, of those that are judged', async () => {
      const tallies = await make();
      const may = (user: string | null, seed = 's') =>
        tallies.mayBegin('e', { at: AT, tokensPerDay: 1_000, seed, user });
      await add(tallies, { failure: 'judge' }, { user: 'u1' });
      for (let i = 0; i < 4; i += 1) await add(tallies, judged('win'), { user: 'u1' });
      expect(await may('u1')).toBe(true);
      // Two were begun at the same time.
      for (let i = 0; i < 2; i += 1)
        await add(tallies, judged('win'), { user: 'u1', keep: 9, pair: pairAt(AT, String(i)) });
      expect([await may('u1'), await may('u2'), await may(null), await may('u1', 'next')]).toEqual([
        ...[false, true, true, true],
      ]);
      for (let i = 0; i < 7; i += 1) await add(tallies, judged('loss'));
      const tally = await tallies.snapshot('e', { seed: 's', at: AT });
      expect(tally).toMatchObject({ wins: 5, losses: 7, failures: { judge: 1 }, tokensToday: 140 });
    });

    it('keep the last pairs, at most as many as are asked for now, for thirty days', async () => {
      const tallies = await make();
      const texts = async (at: number, keep = 200) =>
        (await tallies.kept('e', { at, keep })).map(({ prompt }) => prompt[0]?.content);
      for (let i = 0; i < 5; i += 1)
        await add(tallies, judged('win'), { keep: 3, pair: pairAt(AT + i, String(i)) });
      expect(await texts(AT)).toEqual(['4', '3', '2']);
      expect(await texts(AT, 1)).toEqual(['4']);
      expect(await texts(AT + 30 * DAY_MS + 3)).toEqual(['4', '3']);
      await add(tallies, judged('win'), { keep: 1 });
      expect(await texts(AT)).toEqual(['4']);
      await tallies.forget('e');
      expect(await texts(AT)).toEqual([]);
      expect(await tallies.snapshot('e', { seed: 's', at: AT })).toMatchObject({ wins: 6 });
      // One that was being judged meanwhile counts, and leaves no text.
      await add(tallies, judged('win'), { keep: 3, pair: pairAt(AT, 'late') });
      expect(await texts(AT)).toEqual([]);
      expect(await tallies.snapshot('e', { seed: 's', at: AT })).toMatchObject({ wins: 7 });
    });

    it('of an experiment that is erased are gone, take nothing in, and others stay', async () => {
      const tallies = await make();
      const pair = { keep: 3, pair: pairAt(AT, 'x') };
      await add(tallies, judged('win'), pair);
      await tallies.record('f', {
        seed: 's',
        at: AT,
        user: null,
        tokens: 1,
        outcome: judged('win'),
        ...pair,
      });
      for (let i = 0; i < 2; i += 1) await tallies.erase('e');
      await add(tallies, judged('win'), pair);
      expect(await tallies.snapshot('e', { seed: 's', at: AT })).toMatchObject({ wins: 0, tokensToday: 0 });
      expect(await tallies.kept('e', { at: AT, keep: 9 })).toEqual([]);
      expect(await tallies.snapshot('f', { seed: 's', at: AT })).toMatchObject({ wins: 1 });
    });
  });
}
