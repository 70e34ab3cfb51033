/** The gates of one isolate: what is not limited by a key's or a tenant's own limits goes through one of them. */
import { err, type ApiError, type Result } from '../../protocol/index.ts';
import {
  GATE_PLACE_MS,
  GATE_AT_ONCE_RETRY_MS,
  GATE_ENTRIES,
  ADMIN_READS,
  ADMIN_CHANGES,
  OPERATOR_REQUESTS,
  UNKNOWN_ADMIN_KEYS,
  MODEL_READS,
  DOWNLOADS,
  FEEDBACK_REQUESTS,
  COMPOSED_REQUESTS,
  LARGE_BODIES,
  REFUSED_COMPLETIONS,
} from './limits.ts';
import {
  createRefusalBudget,
  type RefusalBudget,
  createGate,
  type Gate,
  type GateLimits,
  type GateRefusal,
} from './request-gate.ts';

/** Of one kind of caller of the admin API. */
export interface AdminGates {
  reads: Gate;
  changes: Gate;
}

export interface Gates {
  /** By tenant, and by key until its tenant is known. */
  tenants: AdminGates;
  /** The bootstrap key. */
  operator: AdminGates;
  /** Admin keys that this isolate has not seen to be good, all together. */
  strangers: Gate;
  /** `/v1/models`, by tenant. */
  models: Gate;
  /** Chains for browsers, by tenant. */
  downloads: Gate;
  /** `/v1/feedback`, by tenant. */
  feedback: Gate;
  /** Large bodies of completions while they are read, by tenant. */
  largeBodies: Gate;
  /** Completions that add adapters, while these are looked up, by tenant. */
  composing: Gate;
  /** Completions that were refused, by tenant. */
  refusals: RefusalBudget;
}

/** @param now unix ms. */
export function createGates(now: () => number): Gates {
  const gate = (of: GateLimits) =>
    createGate({
      limits: of,
      placeMs: GATE_PLACE_MS,
      atOnceRetryMs: GATE_AT_ONCE_RETRY_MS,
      maxEntries: GATE_ENTRIES,
      now,
    });
  return {
    tenants: { reads: gate(ADMIN_READS), changes: gate(ADMIN_CHANGES) },
    operator: { reads: gate(OPERATOR_REQUESTS), changes: gate(OPERATOR_REQUESTS) },
    strangers: gate(UNKNOWN_ADMIN_KEYS),
    models: gate(MODEL_READS),
    downloads: gate(DOWNLOADS),
    feedback: gate(FEEDBACK_REQUESTS),
    largeBodies: gate(LARGE_BODIES),
    composing: gate(COMPOSED_REQUESTS),
    refusals: createRefusalBudget({ ...REFUSED_COMPLETIONS, maxEntries: GATE_ENTRIES, now }),
  };
}

/**
 * @param whose in the refusal, such as `This tenant`, which it is unless given.
 * @returns what says that the request has ended.
 */
export function enterGate(gate: Gate, who: string, whose = 'This tenant'): Result<() => void, ApiError> {
  const entered = gate.enter(who);
  return entered.ok ? entered : err(gateError(whose, entered.error));
}

function gateError(whose: string, { why, limits: of, retryAfterMs }: GateRefusal): ApiError {
  const message =
    why === 'at_once'
      ? `${whose} has ${of.atOnce} requests of this kind under way, the most at the same time. Please wait for one to end.`
      : `${whose} may send ${of.perSecond} requests of this kind a second. Please try again in ${Math.ceil(retryAfterMs)}ms.`;
  return { code: 'rate_limit_exceeded', message, retryAfterMs };
}
