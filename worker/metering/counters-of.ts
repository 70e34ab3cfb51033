import type { KeyLimits, LimitedCaller, LimitOf } from './ports.ts';

/** A counter that a request is counted by. */
export interface Counted {
  of: LimitOf;
  /** Name of the counter; ids of keys begin otherwise than those of tenants. */
  counter: string;
  limits: KeyLimits;
}

/** @param tenant whose. @returns the name of the counter of all of its keys together. */
export const tenantCounter = (tenant: string): string => `tenant:${tenant}`;

/** @returns none for a caller without limits. */
export function countersOf({ keyId, tenant, limits, counter, tenantLimits }: LimitedCaller): Counted[] {
  return [
    ...(limits === undefined ? [] : [{ of: 'key' as const, counter: counter ?? keyId, limits }]),
    ...(tenantLimits === undefined
      ? []
      : [{ of: 'tenant' as const, counter: tenantCounter(tenant), limits: tenantLimits }]),
  ];
}
