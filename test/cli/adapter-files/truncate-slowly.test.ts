import { describe, expect, it, vi } from 'vitest';
import { sumAdapters, truncateAdapter } from '../../../adapters/index.ts';
import { truncateSlowly } from '../../../cli/adapter-files/compose-members.ts';
import { filled, loraModule, Q, tensor, V } from '../../adapters/make-adapter.ts';
import { makeLoraModule } from '../../../adapters/index.ts';

const zero = (name: string) =>
  makeLoraModule({ name, rank: 1, alpha: 1, a: filled(1, 4), b: tensor([2, 1], [0, 0]) });
const silent = { update: () => undefined, end: () => undefined };

describe('truncateSlowly', () => {
  it('returns what truncateAdapter returns for all modules at once', () => {
    const modules = sumAdapters([
      { modules: [loraModule(Q), loraModule(V, 3, 4, 2)], scale: 1 },
      { modules: [loraModule(Q, 1, 4, 6, 9)], scale: -0.5 },
    ]);
    const [all, slowly] = [truncateAdapter(modules, 1), truncateSlowly(modules, 1, silent)];
    expect(slowly.modules).toEqual(all.modules);
    expect(slowly.perModule).toEqual(all.perModule);
    expect(slowly.relativeError).toBeGreaterThan(0);
    expect(slowly.relativeError).toBeCloseTo(all.relativeError, 6);
  });

  it('leaves out a module whose delta is zero, and counts it as done', () => {
    const update = vi.fn();
    const { modules, perModule, relativeError } = truncateSlowly([loraModule(Q), zero(V)], 2, {
      ...silent,
      update,
    });
    expect(modules.map(({ name }) => name)).toEqual([Q]);
    expect(perModule).toEqual([
      { name: Q, rank: 2, relativeError: 0 },
      { name: V, rank: 0, relativeError: 0 },
    ]);
    expect(relativeError).toBe(0);
    expect(update.mock.calls).toEqual([
      [1, 2],
      [2, 2],
    ]);
  });

  it('refuses when nothing is left', () => {
    expect(() => truncateSlowly([zero(Q), zero(V)], 1, silent)).toThrow(
      expect.objectContaining({ code: 'no_op' }) as Error,
    );
  });
});
