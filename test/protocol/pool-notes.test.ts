import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chainHash,
  MAX_CARRIED_NOTES,
  MAX_NOTED_CHAINS,
  MAX_NOTES,
  originHash,
  POOL_NOTE_MS,
  PoolNotes,
  readPoolNotes,
  writePoolNotes,
  type OriginNote,
} from '../../protocol/pool-notes.ts';

fc.configureGlobal({ seed: 33 });

const note = (rows: number, chains: [number, number][] = []): OriginNote => ({
  ...{ rows, slots: 16, chains: new Map(chains) },
});
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });

describe('x-graft-pool', () => {
  it('says what was written, with ages that never shrink', () => {
    const anyNote = fc.record({
      rows: fc.integer({ min: 0, max: 65_535 }),
      slots: fc.integer({ min: 64, max: 65_535 }),
      chains: fc
        .uniqueArray(fc.tuple(u32, fc.integer({ min: 0, max: 255 })), {
          maxLength: MAX_NOTED_CHAINS,
          selector: ([hash]) => hash,
        })
        .map((all) => new Map(all.map(([hash, halves]): [number, number] => [hash, halves / 2]))),
      at: fc.integer({ min: 0, max: 120_000 }),
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(u32, anyNote), { minLength: 1, maxLength: 20 }), (notes) => {
        const read = readPoolNotes(writePoolNotes(notes, 120_000))!;
        expect(read.map(({ origin }) => origin)).toEqual(notes.map(([origin]) => origin));
        for (const [i, [, { rows, slots, chains, at }]] of notes.entries()) {
          expect(read[i]!.note).toMatchObject({ rows, slots });
          expect(new Map([...read[i]!.note.chains].sort())).toEqual(new Map([...chains].sort()));
          expect(read[i]!.ageMs).toBeGreaterThanOrEqual(120_000 - at);
          expect(read[i]!.ageMs).toBeLessThan(120_010 - at);
        }
      }),
    );
  });

  it.each([
    ['nothing', null],
    ['an empty text', ''],
    ['other characters', 'AAAA AAAA'],
    ['a length that base64 cannot have', 'AAAAA'],
    ['half a note', 'AAAAAAAA'],
    ['no slots', writePoolNotes([[1, { ...note(1), slots: 0, at: 0 }]], 0)],
    ['chains that do not follow', writePoolNotes([[1, { ...note(1, [[7, 3]]), at: 0 }]], 0).slice(0, -4)],
    ['too much', 'A'.repeat(9_000)],
  ])('is refused whole with %s', (_, header) => {
    expect(readPoolNotes(header)).toBeNull();
  });

  it('is read or refused, whatever comes', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        const read = readPoolNotes(text);
        expect(read === null || read.length > 0).toBe(true);
      }),
    );
  });

  it('takes no chain for more than twice its origin’s rows', () => {
    const claimed = writePoolNotes([[1, { rows: 1, slots: 2, chains: new Map([[7, 127]]), at: 0 }]], 0);
    expect(readPoolNotes(claimed)![0]!.note.chains.get(7)).toBe(4);
  });

  it('has hashes and counts, in a few bytes an origin', () => {
    const notes = new PoolNotes(() => 0);
    for (let i = 0; i < 64; i += 1)
      notes.add(
        originHash(`origin-${i}`),
        note(10, [
          [chainHash([{ digest: 'a'.repeat(64) }]), 4],
          ...(i % 2 ? [[i, 3] as [number, number]] : []),
        ]),
        { at: 0 },
      );
    const text = notes.write();
    expect(text.length).toBeLessThan(64 * 26);
    expect(atob(text.replaceAll('-', '+').replaceAll('_', '/'))).not.toMatch(/origin|aaaa/);
  });
});

describe('notes', () => {
  it('are the newest of each origin, and forgotten after a while', () => {
    let now = 1_000;
    const notes = new PoolNotes(() => now);
    expect(notes.add(1, note(3), { at: 900, by: 7 })).toBe(true);
    expect(notes.add(1, note(9), { at: 800 })).toBe(false);
    expect(notes.of(1)!.rows).toBe(3);
    now += POOL_NOTE_MS;
    expect(notes.of(1)).toBeNull();
    expect(notes.write()).toBe('');
  });

  it('are carried on only if the origin itself said so, the newest few', () => {
    const notes = new PoolNotes(() => 10_000);
    for (let i = 0; i < 20; i += 1) notes.add(i, note(i), { at: i, by: i % 2 === 0 ? i : 99 });
    const carried = readPoolNotes(notes.writeCarried())!.map(({ origin }) => origin);
    expect(carried).toEqual([18, 16, 14, 12, 10, 8, 6, 4]);
    expect(carried).toHaveLength(MAX_CARRIED_NOTES);
  });

  it('are bounded', () => {
    const notes = new PoolNotes(() => 0);
    for (let i = 0; i < 2 * MAX_NOTES; i += 1) notes.add(i, note(1), { at: 0 });
    expect([...notes.all()]).toHaveLength(MAX_NOTES);
  });
});
