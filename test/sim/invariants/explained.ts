/** Whether something went wrong that may have ended a request: an error without it is the product's own. */
import type { FaultKind } from '../world/faults.ts';
import type { World } from '../world/world.ts';

/** What takes an origin away, or the way to it. */
const OF_ORIGINS: readonly FaultKind[] = [
  'net-cut',
  'net-silent',
  'net-delay',
  'isolate-dropped',
  'origin-killed',
  'origin-stopped',
  'origin-drained',
];
/** An origin that was away is left alone for half a minute, and may be stopped or started anew for longer, ms. */
const LASTS_MS = 180_000;

/** The kind of fault that explains why an origin could not be had, or stopped in the middle; null = nothing does. */
export function originFault(world: World, from: number): string | null {
  const found = OF_ORIGINS.find((kind) => world.faults.lastAt(kind) >= from - LASTS_MS);
  if (found !== undefined) return found;
  if (world.isolates.some(({ life }) => life.skewMs !== 0)) return 'clock-skewed';
  const away = world.origins.find(({ running }) => running === null || running.life.stopped);
  return away === undefined ? null : `${away.id} is away`;
}

/** What breaks a stream that has begun, at its origin or on the way to it. */
const OF_STREAMS: readonly (readonly [FaultKind, beforeMs: number])[] = [
  ['net-cut', 0],
  ['net-silent', 0],
  ['net-delay', 0],
  ['origin-killed', 0],
  ['origin-stopped', 300_000],
  ['origin-drained', 60_000],
];

/** The kind of fault that explains why an origin stopped in the middle of a stream; null = nothing does. */
export function streamFault(world: World, origin: string, from: number): string | null {
  // A clock that jumps ahead makes a short silence a long one.
  for (const kind of ['isolate-dropped', 'clock-skewed'] as const)
    if (world.faults.lastAt(kind) >= from) return kind;
  const found = OF_STREAMS.find(([kind, before]) => world.faults.lastAt(kind, origin) >= from - before);
  return found?.[0] ?? null;
}
