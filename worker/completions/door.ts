/** Who may ask for a completion now, and send how much: what a tenant's refused requests may cost the others. */
import {
  err,
  MAX_BODY_BYTES,
  ok,
  type ApiError,
  type Result,
  STRICT_FIELDS_HEADER,
} from '../../protocol/index.ts';
import { LARGE_BODY_BYTES } from '../access/limits.ts';
import { authenticate } from '../access/authenticate.ts';
import { enterGate, type Gates } from '../access/gates.ts';
import { readJson } from '../http/read-body.ts';
import { refusalCost } from '../access/request-gate.ts';
import type { Caller, KeyRecord } from '../access/ports.ts';
import type { Index } from '../platform/ports.ts';

export interface DoorDeps {
  keys: Index<KeyRecord>;
  gates: Pick<Gates, 'largeBodies' | 'composing' | 'refusals'>;
  /** Unix ms. */
  now: () => number;
}

/** One request at the door. */
export interface Visit {
  /** Who asks, unless its tenant has had too many requests refused. Never rejects. */
  asking: Promise<Result<Caller, ApiError>>;
  /** The body, read while the key is looked up; a large one only when its sender is known. */
  read: () => Promise<Result<unknown, ApiError>>;
  /** It was refused. @param names that it asked for; 0 where it could not be read. */
  refused: (by: { tenant: string; status: number; names: number }) => void;
}

export function comeIn({ keys, gates, now }: DoorDeps, request: Request): Visit {
  const asking = admit();
  /** Of a large body. */
  let bytes = 0;

  async function admit(): Promise<Result<Caller, ApiError>> {
    const caller = await authenticate(request, keys, now);
    if (!caller.ok) return caller;
    const retryAfterMs = gates.refusals.waitMs(caller.value.tenant);
    if (retryAfterMs === null) return caller;
    const message = `Too many requests of this tenant were refused. Please try again in ${retryAfterMs}ms.`;
    return err({ code: 'rate_limit_exceeded', message, retryAfterMs });
  }

  async function enter(): Promise<Result<(bytes: number) => void, ApiError>> {
    const caller = await asking;
    if (!caller.ok) return caller;
    const entered = enterGate(gates.largeBodies, caller.value.tenant);
    if (!entered.ok) return entered;
    return ok((size) => {
      bytes = size;
      entered.value();
    });
  }

  /** Settles only when the key is refused: a stranger's body is not waited for. */
  async function refusal(): Promise<Result<never, ApiError>> {
    const caller = await asking;
    return caller.ok ? new Promise(() => undefined) : caller;
  }

  return {
    asking,
    read: () =>
      Promise.race([
        readJson(request, MAX_BODY_BYTES, { large: { from: LARGE_BODY_BYTES, enter } }),
        refusal(),
      ]),
    refused: ({ tenant, status, names }) =>
      gates.refusals.spend(tenant, refusalCost({ status, names, bytes })),
  };
}

/**
 * Whether fields that nobody knows are refused: as the request's header says, else as its key does.
 * @param caller null where the key is not known yet.
 */
export function refusesUnknownFields(request: Request, caller: Pick<Caller, 'strictFields'> | null): boolean {
  const asked = request.headers.get(STRICT_FIELDS_HEADER);
  return asked === 'true' || (asked !== 'false' && caller?.strictFields === true);
}
