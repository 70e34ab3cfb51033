import { describe, expect, it } from 'vitest';
import { createPools } from '../../../worker/origins/routing.ts';

const origin = (id: string, base?: string) => ({ id, url: `http://${id}.test`, base });
const ids = (origins: readonly { id: string }[]) => origins.map(({ id }) => id);

describe('pools', () => {
  it('are a single one for any base while origins name none', () => {
    const pools = createPools([origin('a'), origin('b')]);
    expect(pools.declared).toBeNull();
    for (const base of [null, 'tiny', 'large']) expect(ids(pools.of(base))).toEqual(['a', 'b']);
  });

  it('are the origins of a base, in their order; the first one’s base is the default', () => {
    const pools = createPools([origin('a', 'tiny'), origin('b', 'large'), origin('c', 'tiny')]);
    expect(pools.declared).toEqual(['tiny', 'large']);
    expect(ids(pools.of('tiny'))).toEqual(['a', 'c']);
    expect(ids(pools.of('large'))).toEqual(['b']);
    expect(ids(pools.of(null))).toEqual(['a', 'c']);
    expect(pools.of('else')).toEqual([]);
    expect(pools.of('')).toEqual([]);
  });

  it('list the configured default first', () => {
    const pools = createPools([origin('a', 'tiny'), origin('b', 'mid'), origin('c', 'large')], 'large');
    expect(pools.declared).toEqual(['large', 'tiny', 'mid']);
    expect(ids(pools.of(null))).toEqual(['c']);
  });
});
