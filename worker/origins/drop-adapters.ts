import { DropAnswer, type DropRequest } from '../../protocol/index.ts';
import type { OriginDrops } from '../erasure/ports.ts';
import type { Origin } from './choose-origin.ts';
import { DROP_TIMEOUT_MS } from './limits.ts';
import { readOriginText } from './read-text.ts';
import type { OriginFetch } from './signed-fetch.ts';

/** Has origins let go of adapters for good. */
export function createOriginDrops(params: { origins: readonly Origin[]; send: OriginFetch }): OriginDrops {
  const { origins, send } = params;
  return {
    ids: origins.map(({ id }) => id),
    async drop(id, digests) {
      const origin = origins.find((one) => one.id === id);
      if (origin === undefined) return 'is not in ORIGINS any more';
      const body: DropRequest = { digests: [...digests] };
      const sent = await send(origin, {
        method: 'POST',
        path: '/adapters/drop',
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(DROP_TIMEOUT_MS),
      });
      if (!sent.ok) return `did not answer: ${sent.error.reason}`;
      try {
        const text = await readOriginText(sent.value);
        // One of before has no such path.
        if (sent.value.status === 404) return 'is of an older version, which cannot drop adapters';
        if (!sent.value.ok) return `answered ${sent.value.status}`;
        DropAnswer.parse(JSON.parse(text ?? ''));
        return null;
      } catch {
        return 'answered something odd';
      }
    },
  };
}
