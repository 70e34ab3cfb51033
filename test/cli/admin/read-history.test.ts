import { describe, expect, it } from 'vitest';
import { historyTable } from '../../../cli/commands/versions.ts';
import { createApiClient } from '../../../cli/api-client.ts';
import type { ChangeView } from '../../../protocol/admin-api/names.ts';
import { readHistory } from '../../../cli/admin/admin-client.ts';

const change = (id: number, more: Partial<ChangeView> = {}): ChangeView => ({
  id,
  name: 'alice/notes',
  owner: 'alice',
  at: Date.UTC(2026, 0, 2, 3, 4),
  actor: 'key_1',
  action: 'publish',
  from: null,
  to: 1,
  target: null,
  why: null,
  ...more,
});

/** A server with that many changes. */
function serverOf(total: number) {
  const asked: string[] = [];
  const client = createApiClient({
    url: 'http://edge.test',
    key: undefined,
    fetchFn: async (input) => {
      const url = new URL(String(input));
      asked.push(url.search);
      const before = Number(url.searchParams.get('before') ?? total + 1);
      const limit = Number(url.searchParams.get('limit'));
      const ids = Array.from({ length: total }, (_, i) => total - i).filter((id) => id < before);
      const changes = ids.slice(0, limit).map((id) => change(id));
      const more = ids.length >= limit;
      return Response.json({ changes, before: more ? changes.at(-1)?.id : null });
    },
  });
  return { client, asked };
}

describe('readHistory', () => {
  it('asks for one tenant’s changes', async () => {
    const { client, asked } = serverOf(1);
    expect(await readHistory(client, null, 5, 'clinic')).toHaveLength(1);
    expect(asked).toEqual(['?limit=5&tenant=clinic']);
  });

  it('reads pages of a thousand, up to the limit', async () => {
    const { client, asked } = serverOf(2_500);
    const found = await readHistory(client, 'alice/notes', 1_200);
    expect(found.map(({ id }) => id)).toEqual(Array.from({ length: 1_200 }, (_, i) => 2_500 - i));
    expect(asked).toEqual(['?limit=1000&name=alice%2Fnotes', '?limit=200&name=alice%2Fnotes&before=1501']);
  });

  it('stops at the end of the history', async () => {
    const { client } = serverOf(3);
    expect(await readHistory(client, null, 50)).toHaveLength(3);
  });
});

describe('historyTable', () => {
  it('shows when, what, from, to, who and why', () => {
    const changes = [
      change(3, { action: 'alias', to: null, target: 'alice/best' }),
      change(2, { action: 'rollback', from: 3, to: 2, why: 'typos' }),
    ];
    expect(historyTable(changes, false).split('\n').slice(1)).toEqual([
      expect.stringMatching(/^2026-01-02 03:04Z +alias alice\/best +- +- +key_1$/),
      expect.stringMatching(/^2026-01-02 03:04Z +rollback +3 +2 +key_1 +typos$/),
    ]);
    expect(historyTable(changes, true)).toMatch(/NAME/);
    expect(historyTable([], true)).toBe('no changes');
  });
});
