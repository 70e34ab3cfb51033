import { expect, it } from 'vitest';
import { filesByDigest, type Resident, sharesOf } from '../../dashboard/views/origins.tsx';

const resident = (digest: string, bytes: number): Resident => ({
  ...{ digest, bytes, state: 'ready', rank: 4, references: 0, pinned: false },
});

it('shows the owners of an origin’s memory, the largest share first', () => {
  const files = filesByDigest([
    { digest: 'a', name: 'x', version: 1, owner: 'acme' },
    { digest: 'a', name: 'y', version: 3, owner: 'beta' },
    { digest: 'b', name: 'z', version: 1, owner: 'beta' },
  ]);
  expect(files.get('a')).toHaveLength(2);
  expect(sharesOf([resident('a', 10), resident('b', 5), resident('b2', 30)], files)).toEqual([
    { owner: null, adapters: 1, bytes: 30 },
    { owner: 'acme', adapters: 1, bytes: 10 },
    { owner: 'beta', adapters: 1, bytes: 5 },
  ]);
});
