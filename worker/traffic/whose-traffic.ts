import { err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import type { AdminCaller } from '../access/ports.ts';

/** @param asked a tenant. @returns whose traffic a caller sees; null = that of all. */
export function whoseTraffic(
  caller: AdminCaller,
  asked: string | undefined,
): Result<string | null, ApiError> {
  if (caller.root) return ok(asked ?? null);
  if (asked === undefined || asked === caller.tenant) return ok(caller.tenant);
  return err({ code: 'insufficient_scope', message: 'This key sees the traffic of its own tenant only.' });
}
