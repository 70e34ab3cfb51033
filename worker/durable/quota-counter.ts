import { z } from 'zod';
import { logLine } from '../observe/log-line.ts';
import { admit, emptyQuota, QuotaState, renew, settle } from '../quota/quota-state.ts';
import { KeyLimits } from '../stores/types-metering.ts';

/** The part of a Durable Object's storage that counters use. */
export interface CounterStorage {
  get(key: string): Promise<unknown>;
  put(key: string, value: unknown, options?: { allowUnconfirmed?: boolean }): Promise<void>;
}

const lease = z.string();
const at = z.number();
export const QuotaCall = z.discriminatedUnion('call', [
  z.strictObject({ call: z.literal('admit'), limits: KeyLimits, lease, at }),
  z.strictObject({ call: z.literal('renew'), lease, at }),
  z.strictObject({ call: z.literal('settle'), lease, tokens: z.number().min(0), at }),
]);
export type QuotaCall = z.infer<typeof QuotaCall>;

/**
 * One per key that has a limit: a Durable Object runs in one place and one request at a time, so that it counts exactly.
 * Its state is in memory and, after every change, on disk; the answer does not wait for the disk, so that a machine that
 * fails may forget the last milliseconds.
 */
export class QuotaCounter {
  readonly #storage: CounterStorage;
  #state: Promise<QuotaState> | null = null;

  constructor(context: { storage: CounterStorage }) {
    this.#storage = context.storage;
  }

  async fetch(request: Request): Promise<Response> {
    const call = QuotaCall.parse(await request.json());
    const state = await this.#load();
    // From here on nothing waits: no other request comes in between.
    const answer = this.#apply(state, call);
    this.#storage.put('quota', state, { allowUnconfirmed: true }).catch((error: unknown) => {
      logLine('quota_not_stored', { reason: String(error) });
    });
    return Response.json(answer);
  }

  #apply(state: QuotaState, call: QuotaCall): unknown {
    switch (call.call) {
      case 'admit':
        return admit(state, call);
      case 'renew':
        renew(state, call);
        return null;
      case 'settle':
        settle(state, call);
        return null;
    }
  }

  async #load(): Promise<QuotaState> {
    this.#state ??= this.#storage.get('quota').then((stored) => {
      const parsed = QuotaState.safeParse(stored);
      return parsed.success ? parsed.data : emptyQuota();
    });
    try {
      return await this.#state;
    } catch (error) {
      this.#state = null;
      throw error;
    }
  }
}
