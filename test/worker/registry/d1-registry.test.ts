/** Two concurrent publishers, with a stale KV. */
import { describe, expect, it } from 'vitest';
import { GOES_LIVE, type HistoryRow } from '../../../worker/registry/ports.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

describe('two concurrent publishers', () => {
  const ROUNDS = 50;
  const LATER_MS = 61_000;

  it('lose nothing that was acknowledged, and the pointer shows the last flip', async () => {
    const one = await createAppHarness();
    const { registry } = one.stores;
    const two = await createAppHarness({ beside: one });
    const publishers: AppHarness[] = [one, two];
    const versionOf = async (response: Response) => {
      if (response.status !== 201) return null;
      return ((await response.json()) as { version: number }).version;
    };
    const acknowledged: number[] = [];
    const refused: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      // In every fifth round both give an expectation, so one of them must lose.
      const expecting = round % 5 === 4 ? { expect: (await registry.name('notes'))?.version ?? 0 } : {};
      const answers = await Promise.all(
        publishers.map((publisher, i) => {
          const adapter = tinyAdapter({ seed: round % 13, rank: 1 + Math.floor(round / 13) * 2 + i });
          return publisher.publish('notes', adapter, expecting);
        }),
      );
      const versions = await Promise.all(answers.map(versionOf));
      refused.push(...answers.flatMap(({ status }) => (status === 201 ? [] : [status])));
      acknowledged.push(...versions.filter((version) => version !== null));
    }
    expect(new Set(refused)).toEqual(new Set([409]));
    expect(refused).toHaveLength(ROUNDS / 5);
    expect(acknowledged).toHaveLength(2 * ROUNDS - ROUNDS / 5);

    const history: HistoryRow[] = [];
    for (let before: number | null = null; ;) {
      const page = await registry.history({ name: 'notes', owner: null, before, limit: 50 });
      history.push(...page);
      if (page.length < 50) break;
      before = page.at(-1)?.id ?? null;
    }
    const inOrder = [...acknowledged].sort((a, b) => a - b);
    expect(history.map(({ to }) => to).reverse()).toEqual(inOrder);
    expect(inOrder).toEqual(inOrder.map((_, i) => i + 1));
    expect((await registry.versions('notes')).map(({ version }) => version).reverse()).toEqual(inOrder);

    one.clock.advance(LATER_MS);
    const last = history.find(({ action }) => GOES_LIVE.includes(action));
    const reader = await createAppHarness({ beside: one });
    const pointer = await reader.services.nameIndex.get('notes');
    expect(pointer).toMatchObject({ state: 'found', value: { version: last?.to } });
    expect(await registry.name('notes')).toMatchObject({ version: last?.to });
  });
});
