import type { VersionRow } from './ports.ts';
import type { IntakeDeps, RequestLife } from './registry-deps.ts';
import { unlessDamaged } from './repair-rows.ts';

/**
 * After another version of a name went live: wherever the one before is in memory, the new one is brought and loaded, so
 * that the next request need not wait for it. The answer does not wait, and nothing of it can fail the change.
 * @param params.from the version that was live; null = none.
 */
export function followResidents(
  deps: Pick<IntakeDeps, 'registry' | 'warmth'>,
  params: { from: number | null; to: VersionRow; life: Pick<RequestLife, 'keepAlive'> },
): void {
  const { from, to, life } = params;
  if (from === null || from === to.version) return;
  const follow = async (): Promise<void> => {
    const before = await unlessDamaged(deps.registry.version(to.name, from));
    if (before === null || before === 'damaged' || before.chainId === to.chainId) return;
    const chain = to.chain.map(({ digest, scale }) => ({ digest, scale }));
    // The publisher may hang up: this is for those who ask next.
    const { signal } = new AbortController();
    const next = { base: to.base.id, chain, signal, keepAlive: life.keepAlive };
    // No origin of another base holds the one before: it is loaded where it will be asked for.
    if (before.base.id !== to.base.id) await deps.warmth.warm({ ...next, name: to.name });
    else await deps.warmth.follow({ ...next, was: before.digest });
  };
  life.keepAlive(follow());
}
