/** Files of adapters: sent in parts, and closed; also while they are erased. */
import type { TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { type Actor, type Outcome, sha256, type Simulation } from '../simulation.ts';
import { admin } from './operation.ts';

/** A part of a file; small, so that files have several. */
const PART_BYTES = 160;

/** Sends a file in parts, and closes it. */
export async function upload(
  sim: Simulation,
  actor: Actor,
  { bytes, digest }: TinyAdapter,
  by: { key?: string },
): Promise<Outcome> {
  try {
    return await sendParts(sim, actor, { bytes, digest }, by);
  } finally {
    sim.sentAt.set(digest, sim.world.time.now);
  }
}

async function sendParts(
  sim: Simulation,
  actor: Actor,
  { bytes, digest }: TinyAdapter,
  by: { key?: string },
): Promise<Outcome> {
  const parts: { bytes: number; sha256: string }[] = [];
  // Another version of the command may cut a file into other parts.
  const partBytes = actor.random.pick([PART_BYTES, PART_BYTES, 2 * PART_BYTES]);
  for (let at = 0; at < bytes.length; at += partBytes) {
    const part = Uint8Array.from(bytes.subarray(at, at + partBytes));
    const sent = await admin(sim, actor, {
      ...by,
      method: 'PUT',
      path: `/admin/blobs/${digest}/parts/${parts.length}`,
      body: part,
    });
    if (sent.outcome !== 'done') return sent.outcome;
    parts.push({ bytes: part.length, sha256: sha256(part) });
  }
  return close(sim, actor, { digest, bytes: bytes.length, parts }, by);
}

async function close(
  sim: Simulation,
  actor: Actor,
  { digest, ...body }: { digest: string; bytes: number; parts: { bytes: number; sha256: string }[] },
  by: { key?: string } = {},
): Promise<Outcome> {
  const { outcome } = await admin(sim, actor, { ...by, path: `/admin/blobs/${digest}`, body }, [
    'invalid_request',
    'adapter_invalid',
  ]);
  return outcome;
}

/** Says again and again that a file is whole, which may be erased meanwhile. @param isOver whether it has been. */
export async function closeUntil(
  sim: Simulation,
  actor: Actor,
  { bytes, digest }: TinyAdapter,
  isOver: () => boolean,
): Promise<void> {
  while (!isOver()) {
    const closed = await upload(sim, actor, { bytes, digest }, {});
    sim.sentAt.set(digest, sim.world.time.now);
    if (closed === 'lost') return;
    await sim.world.time.sleep(actor.life, actor.random.below(100));
  }
}
