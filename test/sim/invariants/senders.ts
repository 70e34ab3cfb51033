/** A sender that has fallen silent does not keep others from sending a file. */
import type { Fail } from './fail.ts';
import type { Exchange } from '../world/network.ts';

/** An origin takes a part from the next sender after 5 s of silence (adapter-store.ts), ms. */
const SILENT_MS = 10_000;
const ACCEPTED = 202;

export const watchSenders =
  (fail: Fail) =>
  ({ to, what, status, silentMs }: Exchange): void => {
    if (
      status === ACCEPTED &&
      /PUT \S+\/parts\/\d+$/.test(what) &&
      Number.isFinite(silentMs) &&
      silentMs > SILENT_MS
    )
      fail(
        '7 everybody who waits is served',
        `${to.name} still waits for another sender of ${what}, silent for ${silentMs} ms`,
      );
  };
