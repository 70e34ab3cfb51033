import { StoreUnavailable, type Index, type Lookup } from './ports.ts';
import { logLine } from '../log.ts';

const SECOND_MS = 1_000;

/**
 * Asks the system of record when an index has nothing: KV remembers for a while that there was nothing, and may wrongly
 * say so, and nobody is to be denied for that. When the system of record does not answer, or has been asked too often,
 * the index's word stands.
 * @param params.ask throws StoreUnavailable.
 * @param params.perSecond questions: whoever makes keys up must not be able to keep the system of record busy.
 */
export function withSecondOpinion<T>(
  index: Index<T>,
  params: { ask: (key: string) => Promise<Lookup<T>>; perSecond: number; now: () => number },
): Index<T> {
  const { ask, perSecond, now } = params;
  let since = -Infinity;
  let asked = 0;

  const mayAsk = (): boolean => {
    if (now() - since >= SECOND_MS) {
      since = now();
      asked = 0;
    }
    asked += 1;
    return asked <= perSecond;
  };

  return {
    async get(key) {
      const lookup = await index.get(key);
      if (lookup.state !== 'absent' || !mayAsk()) return lookup;
      try {
        return await ask(key);
      } catch (error) {
        if (!(error instanceof StoreUnavailable)) throw error;
        logLine('absence_unconfirmed', { reason: error.message });
        return lookup;
      }
    },
  };
}
