/** `vi.waitFor` and `vi.waitUntil` give up after a second unless told otherwise; here after `WAIT_MS`. */
import { vi } from 'vitest';
import { WAIT_MS } from './slow.ts';

const PATIENT = Symbol.for('graft.test.patient');
if (!(PATIENT in globalThis)) {
  Object.assign(globalThis, { [PATIENT]: true });
  for (const name of ['waitFor', 'waitUntil'] as const) {
    const wait = vi[name] as (callback: () => unknown, options?: object | number) => Promise<unknown>;
    Object.assign(vi, {
      [name]: (callback: () => unknown, options: object = {}) =>
        wait(callback, { timeout: WAIT_MS, ...options }),
    });
  }
}
