/** Whether the edge answers: what every request of the page found last. */
import { createStore } from '../model/store.ts';

/** Unix ms of the first request that got no answer; null = the last one did. */
export const unreachedSince = createStore<number | null>(null);

let answeredOnce = false;
/** Whether the edge has answered anything since this page was loaded. */
export const hasAnswered = (): boolean => answeredOnce;

export function reported(answered: boolean, now = Date.now()): void {
  answeredOnce ||= answered;
  const since = unreachedSince.get();
  if (answered !== (since === null)) unreachedSince.set(answered ? null : now);
}
