import { z } from 'zod';
import { askObject, type DurableNamespace } from '../platform/ask-object.ts';
import type { KeyLimits, QuotaDecision, Quotas } from './ports.ts';

const Meter = z.object({ limit: z.number(), remaining: z.number(), resetMs: z.number() }).nullable();
const Decision: z.ZodType<QuotaDecision> = z.object({
  refused: z
    .object({
      reason: z.enum(['requests', 'tokens', 'concurrent', 'day', 'month', 'damaged']),
      limit: z.number(),
      retryAfterMs: z.number(),
    })
    .nullable(),
  requests: Meter,
  tokens: Meter,
});

type Call =
  | { call: 'admit'; limits: KeyLimits; lease: string; at: number }
  | { call: 'undo'; lease: string; at: number }
  | { call: 'renew'; lease: string; at: number }
  | { call: 'settle'; lease: string; tokens: number; at: number }
  | { call: 'reset' };

/** Quotas in Durable Objects (`QuotaCounter`), one a counter. */
export function createDoQuotas(params: { namespace: DurableNamespace; timeoutMs: number }): Quotas {
  const { namespace, timeoutMs } = params;

  const ask = <T>(counter: string, call: Call, parse: (answer: unknown) => T): Promise<T> =>
    askObject({ namespace, name: counter, what: 'counter', call, parse, timeoutMs });
  const nothing = (): void => undefined;

  return {
    admit: (counter, { limits, lease, at }) =>
      ask(counter, { call: 'admit', limits, lease, at }, (answer) => {
        const parsed = Decision.safeParse(answer);
        if (parsed.success) return parsed.data;
        throw new Error('the counter answered something odd');
      }),
    undo: (counter, { lease, at }) => ask(counter, { call: 'undo', lease, at }, nothing),
    renew: (counter, { lease, at }) => ask(counter, { call: 'renew', lease, at }, nothing),
    settle: (counter, { lease, tokens, at }) => ask(counter, { call: 'settle', lease, tokens, at }, nothing),
    reset: (counter) => ask(counter, { call: 'reset' }, nothing),
  };
}
