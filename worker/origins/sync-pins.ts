import type { ChainEntry } from '../../protocol/index.ts';
import type { PinLedger, PinReport, PinSync, OriginPins } from './ports.ts';
import type { PointerWriter } from '../registry/ports-pointers.ts';
import type { Registry, VersionRow } from '../registry/ports.ts';
import { createMiddleware } from 'hono/factory';
import { keepAlive, type AppEnv } from '../http/request-scope.ts';

type Names = Pick<Registry, 'pointer'>;

/** What a request for the name would be served by, an alias being followed once, as requests do. */
async function liveVersion(registry: Names, name: string): Promise<VersionRow | null> {
  let pointer = await registry.pointer(name);
  if (pointer.kind === 'alias') pointer = await registry.pointer(pointer.target);
  return pointer.kind === 'version' && pointer.row.withdrawnAt === null ? pointer.row : null;
}

/** Asks no origin anything while there are no pins, once they have all let go. */
export function createPinSync(deps: { pins: PinLedger; registry: Names; origins: OriginPins }): PinSync {
  const { pins, registry, origins } = deps;
  /** There is nothing to hold, and the origins know it. */
  let idle = false;
  return {
    async sync(life) {
      const wanted = await Promise.all(
        (await pins.list()).map(async (pin) => ({ pin, row: await liveVersion(registry, pin.name) })),
      );
      if (idle && wanted.length === 0) return [];
      // One after the other: an origin loads two files at a time, and serves meanwhile.
      const reports: PinReport[] = [];
      for (const { pin, row } of wanted) {
        const live = row && { name: row.name, version: row.version };
        reports.push({
          ...pin,
          live,
          origins: row === null ? [] : await origins.pin({ base: row.base.id, chain: chainOf(row) }, life),
        });
      }
      const digests = wanted.flatMap(({ row }) => row?.chain.map(({ digest }) => digest) ?? []);
      const done = await origins.keepPinned([...new Set(digests)], life);
      idle = done && wanted.length === 0;
      return reports;
    },
  };
}

const chainOf = (row: VersionRow): ChainEntry[] => row.chain.map(({ digest, scale }) => ({ digest, scale }));

/**
 * Notices that a name has changed, so that what is pinned can follow it.
 * @returns the writer to use, and whether there was a change since it was last asked.
 */
export function watchPointers(pointers: PointerWriter): { pointers: PointerWriter; changed: () => boolean } {
  let dirty = false;
  return {
    pointers: {
      sync: (name, options) => {
        dirty = true;
        return pointers.sync(name, options);
      },
    },
    changed() {
      const was = dirty;
      dirty = false;
      return was;
    },
  };
}

/**
 * Once a request has changed names: has the origins keep the new chains of pinned ones, and let go of the old. The
 * response does not wait for it; `GET /admin/pins` does, and the schedule makes up for what is cut off.
 */
export const repinAfterChange = (deps: { changed: () => boolean; pinSync: PinSync }) =>
  createMiddleware<AppEnv>(async (context, next) => {
    await next();
    if (!deps.changed()) return;
    const { signal } = new AbortController();
    keepAlive(context, deps.pinSync.sync({ signal, keepAlive: (work) => keepAlive(context, work) }));
  });
