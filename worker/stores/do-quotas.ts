import { z } from 'zod';
import type { KeyLimits, QuotaDecision, Quotas } from './types-metering.ts';
import { StoreUnavailable } from './types.ts';
import { withTimeout } from './with-timeout.ts';

/** The part of a Durable Object's namespace that graft uses; `DurableObjectNamespace` fits it. */
export interface DurableNamespace {
  idFromName(name: string): unknown;
  get(id: unknown): { fetch(url: string, init?: RequestInit): Promise<Response> };
}

const Meter = z.object({ limit: z.number(), remaining: z.number(), resetMs: z.number() }).nullable();
const Decision: z.ZodType<QuotaDecision> = z.object({
  refused: z
    .object({
      reason: z.enum(['requests', 'tokens', 'concurrent', 'day', 'month']),
      limit: z.number(),
      retryAfterMs: z.number(),
    })
    .nullable(),
  requests: Meter,
  tokens: Meter,
});

type Call =
  | { call: 'admit'; limits: KeyLimits; lease: string; at: number }
  | { call: 'renew'; lease: string; at: number }
  | { call: 'settle'; lease: string; tokens: number; at: number };

/** Quotas in Durable Objects (`QuotaCounter`), one a counter. */
export function createDoQuotas(params: { namespace: DurableNamespace; timeoutMs: number }): Quotas {
  const { namespace, timeoutMs } = params;

  async function ask(counter: string, call: Call): Promise<unknown> {
    const send = async (): Promise<unknown> => {
      const object = namespace.get(namespace.idFromName(counter));
      // The address is for nobody: it never leaves the platform.
      const response = await object.fetch('https://quota.invalid/', {
        method: 'POST',
        body: JSON.stringify(call),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`the counter answered ${response.status}`);
      return JSON.parse(text) as unknown;
    };
    try {
      return await withTimeout(send(), timeoutMs);
    } catch (error) {
      throw new StoreUnavailable('DO', error);
    }
  }

  return {
    async admit(counter, { limits, lease, at }) {
      const parsed = Decision.safeParse(await ask(counter, { call: 'admit', limits, lease, at }));
      if (parsed.success) return parsed.data;
      throw new StoreUnavailable('DO', new Error('the counter answered something odd'));
    },
    async renew(counter, { lease, at }) {
      await ask(counter, { call: 'renew', lease, at });
    },
    async settle(counter, { lease, tokens, at }) {
      await ask(counter, { call: 'settle', lease, tokens, at });
    },
  };
}
