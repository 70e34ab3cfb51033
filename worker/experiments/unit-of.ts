import type { Experiment } from '../../protocol/index.ts';

/** What a request says about who makes it. */
export interface UnitSource {
  tenant: string;
  /** What stays the same when a key is rotated: its `counter`, else its id. */
  keyId: string;
  /** `safety_identifier` of the body, else its `user`, else the header `x-graft-user`. */
  user: string | null;
}

/** The header that names the end user when the body does not. */
export const USER_HEADER = 'x-graft-user';

/** An empty text names nobody. @returns the end user that the request names, or null. */
export function endUser(named: {
  safetyIdentifier: string | null | undefined;
  user: string | null | undefined;
  header: string | null | undefined;
}): string | null {
  return named.safetyIdentifier || named.user || named.header || null;
}

/**
 * Who stays on one side: `<tenant>/user/<user>` or `<tenant>/key/<key>`. Two tenants' users of the same name are two
 * units, and a user who is called like a key is not that key.
 */
export function unitOf(unit: Experiment['unit'], { tenant, keyId, user }: UnitSource): string {
  return unit === 'user' && user !== null ? `${tenant}/user/${user}` : `${tenant}/key/${keyId}`;
}
