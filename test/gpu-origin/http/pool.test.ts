/** What an origin knows of its pool, in virtual time. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  chainHash,
  MAX_NOTED_CHAINS,
  originHash,
  POOL_WRITE_MS,
  readPoolNotes,
  writePoolNotes,
} from '../../../protocol/pool-notes.ts';
import { OriginPool } from '../../../gpu-origin/http/pool.ts';

const chain = (digest: string) => [{ digest }];
let now: number;
let rows: number;
let inMemory: Set<string>;
let pool: OriginPool;
beforeEach(() => {
  now = 1_000_000;
  rows = 0;
  inMemory = new Set(['a', 'b']);
  pool = new OriginPool({
    id: 'o1',
    now: () => now,
    load: () => ({ rows, slots: 16 }),
    holds: ([member]) => inMemory.has(member?.digest ?? ''),
  });
});
/** @param perSecond requests of 1 s. */
function serve(digest: string, perSecond: number, seconds: number): void {
  for (let i = 0; i < perSecond * seconds; i += 1) {
    now += 1_000 / perSecond;
    pool.arrived(chain(digest));
    pool.held(chain(digest), 1_000);
  }
}
const peers = (notes: Record<string, { rows: number; chains?: [string, number][] }>): string =>
  writePoolNotes(
    Object.entries(notes).map(([id, one]) => [
      originHash(id),
      {
        ...{ rows: one.rows, slots: 16, at: now },
        chains: new Map((one.chains ?? []).map(([digest, of]) => [chainHash(chain(digest)), of])),
      },
    ]),
    now,
  );
const told = (ask: string) =>
  new Map(readPoolNotes(pool.tell(ask))!.map(({ origin, note }) => [origin, note]));

describe('an origin’s own note', () => {
  it('has its load, and the chains that take rows', () => {
    rows = 9;
    serve('a', 5, 60);
    serve('b', 1, 5);
    const note = told('own').get(originHash('o1'))!;
    expect(note).toMatchObject({ rows: 9, slots: 16 });
    expect([...note.chains.keys()]).toEqual([chainHash(chain('a'))]);
    expect(note.chains.get(chainHash(chain('a')))).toBeGreaterThan(2.5);
  });

  it('has no chain that is not in memory', () => {
    serve('a', 5, 60);
    inMemory.clear();
    expect(pool.note().chains.size).toBe(0);
  });

  it('notes a chain that it loaded ahead, if peers say that many ask for it', () => {
    pool.loaded(chain('a'));
    expect(pool.note().chains.size).toBe(0);
    pool.hear(peers({ o2: { rows: 9, chains: [['a', 5]] } }));
    expect(pool.note().chains).toEqual(new Map([[chainHash(chain('a')), 0]]));
  });

  it('has the few chains that take most', () => {
    for (let i = 0; i < 2 * MAX_NOTED_CHAINS; i += 1) {
      inMemory.add(`c${i}`);
      pool.arrived(chain(`c${i}`), 20 + i);
    }
    const most = Array.from({ length: MAX_NOTED_CHAINS }, (_, i) => chainHash(chain(`c${15 - i}`)));
    expect([...pool.note().chains.keys()]).toEqual(most);
  });
});

describe('what it tells', () => {
  it('is nothing unless an edge asks', () => {
    for (const ask of [undefined, '', 'turn', 'all', 'pool,turn']) expect(pool.tell(ask)).toBeNull();
  });

  it('is its own note or the pool’s, as edges carried it', () => {
    pool.hear(peers({ o2: { rows: 3 }, o3: { rows: 4 } }));
    expect(told('own turn').size).toBe(1);
    expect([...told('pool')].map(([, note]) => note.rows)).toEqual([0, 3, 4]);
  });

  it('is never what others say of it', () => {
    pool.hear(peers({ o1: { rows: 15 } }));
    expect(told('pool').get(originHash('o1'))!.rows).toBe(0);
  });

  it('is written again after a moment', () => {
    expect(told('own').get(originHash('o1'))!.rows).toBe(0);
    rows = 5;
    expect(told('own').get(originHash('o1'))!.rows).toBe(0);
    now += POOL_WRITE_MS;
    expect(told('own').get(originHash('o1'))!.rows).toBe(5);
  });
});

describe('a crowded origin', () => {
  beforeEach(() => void (rows = 20));

  it('turns requests away that may be', () => {
    expect(pool.turnsAway('own turn')).toBe(true);
    for (const ask of [undefined, 'own', 'pool', 'other turn']) expect(pool.turnsAway(ask)).toBe(false);
    rows = 19;
    expect(pool.turnsAway('pool turn')).toBe(false);
  });

  it('keeps them where every peer is as full', () => {
    pool.hear(peers({ o2: { rows: 20 }, o3: { rows: 30 } }));
    expect(pool.turnsAway('own turn')).toBe(false);
    now += 1;
    pool.hear(peers({ o3: { rows: 19 } }));
    expect(pool.turnsAway('own turn')).toBe(true);
  });
});
