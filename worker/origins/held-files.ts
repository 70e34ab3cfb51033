import { sha256Hex } from '../../protocol/index.ts';
import { ORIGIN_FILE_MS } from './limits.ts';
import { logLine } from '../log.ts';
import type { Origin } from './choose-origin.ts';
import type { HeldFiles } from './ports.ts';
import type { OriginFetch } from './signed-fetch.ts';

/** Asks one origin after the other for bytes that the store has lost. */
export function createHeldFiles(params: { origins: readonly Origin[]; send: OriginFetch }): HeldFiles {
  const { origins, send } = params;

  async function ask(origin: Origin, path: string, bytes: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const sent = await send(origin, { method: 'GET', path, signal: AbortSignal.timeout(ORIGIN_FILE_MS) });
    if (!sent.ok) return null;
    if (sent.value.ok && sent.value.body !== null) return readExactly(sent.value.body, bytes);
    await sent.value.body?.cancel();
    return null;
  }

  return {
    async part(digest, { begin, bytes, sha256 }) {
      const path = `/adapters/${digest}/file?begin=${begin}&end=${begin + bytes}`;
      for (const origin of origins) {
        // A connection that breaks, or an answer that comes too slowly, is an origin that has it not.
        const found = await ask(origin, path, bytes).catch(() => null);
        if (found === null) continue;
        if ((await sha256Hex(found)) === sha256) return found;
        logLine('odd_origin_answer', { origin: origin.id, path, reason: 'other bytes than asked for' });
      }
      return null;
    },
  };
}

/** @returns null when there are fewer or more; what is beyond is not read. */
async function readExactly(
  body: ReadableStream<Uint8Array>,
  bytes: number,
): Promise<Uint8Array<ArrayBuffer> | null> {
  const whole = new Uint8Array(bytes);
  let at = 0;
  for await (const chunk of body) {
    if (at + chunk.length > bytes) return null;
    whole.set(chunk, at);
    at += chunk.length;
  }
  return at === bytes ? whole : null;
}
