import path from 'node:path';
import { ALL_LINEARS, QV, writeRandomAdapter, type ModuleName } from './write-random-adapter.ts';

/** Random adapters of one shape. Adapter i is called `<prefix>i`. */
export interface AdapterSet {
  prefix: string;
  count: number;
  rank: number;
  modules: readonly ModuleName[];
  /** Seed of the first one. */
  seed: number;
}

export const R8: AdapterSet = { prefix: 'r8-', count: 16, rank: 8, modules: QV, seed: 0 };
export const R16: AdapterSet = { prefix: 'r16-', count: 16, rank: 16, modules: ALL_LINEARS, seed: 100 };

/** @returns names and PEFT folders, below `work`. */
export async function writeSet(work: string, set: AdapterSet): Promise<{ name: string; folder: string }[]> {
  const adapters: { name: string; folder: string }[] = [];
  for (let i = 0; i < set.count; i++) {
    const name = `${set.prefix}${i}`;
    const folder = path.join(work, name);
    await writeRandomAdapter({ folder, seed: set.seed + i, rank: set.rank, modules: set.modules });
    adapters.push({ name, folder });
  }
  return adapters;
}
