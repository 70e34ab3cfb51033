import { STRICT_FIELDS_HEADER } from '../../protocol/index.ts';
import type { Caller } from '../access/ports.ts';

/**
 * Whether fields that nobody knows are refused: as the request's header says, else as its key does.
 * @param caller null where the key is not known yet.
 */
export function refusesUnknownFields(request: Request, caller: Pick<Caller, 'strictFields'> | null): boolean {
  const asked = request.headers.get(STRICT_FIELDS_HEADER);
  return asked === 'true' || (asked !== 'false' && caller?.strictFields === true);
}
