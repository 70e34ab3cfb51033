/**
 * What a client gets with an answer that belongs to an experiment, and gives back with its feedback:
 * `v1.<payload>.<mac>`, both base64url; the payload is JSON, the MAC HMAC-SHA-256 over `v1.<payload>` with a key that is
 * derived for this alone. So no table of answers is kept. Whose answer it was is in it as a keyed hash only.
 */
import { z } from 'zod';
import { err, ok, type Result } from '../../protocol/index.ts';
import { base64url, derivedKey, fromBase64url, type HmacKey } from './derived-keys.ts';
import { EXPOSURE_LIFE_MS, EXPOSURE_SKEW_MS, MAX_EXPOSURE_CHARACTERS } from './limits.ts';

export interface Exposure {
  /** 16 characters; another one for each answer. With a metric's key it says what has been used. */
  id: string;
  tenant: string;
  /** The experiment's name, and the version of its document. */
  experiment: string;
  version: number;
  variant: string;
  /** See `createUnitHasher`; another one under another seed. */
  unit: string;
  /** Unix ms. */
  at: number;
}

export type ExposureProblem =
  | { kind: 'malformed' }
  /** Not made with this secret, or changed since. */
  | { kind: 'forged' }
  | { kind: 'other_tenant' }
  | { kind: 'expired'; expiredAt: number };

export interface ExposureTokens {
  /** @returns one for an answer that is to come. */
  newId(): string;
  /** @param exposure its id is made here unless given. */
  issue(exposure: Omit<Exposure, 'id'> & { id?: string }): Promise<string>;
  /** @param tenant whose key the request has. @param now unix ms. */
  open(token: string, asked: { tenant: string; now: number }): Promise<Result<Exposure, ExposureProblem>>;
}

const Payload = z
  .tuple([
    z.string().length(16),
    z.string().min(1),
    z.string().min(1),
    z.int().positive(),
    z.string().min(1),
    z.string().min(1),
    z.int().nonnegative(),
  ])
  .transform(([id, tenant, experiment, version, variant, unit, at]): Exposure => ({
    id,
    tenant,
    experiment,
    version,
    variant,
    unit,
    at,
  }));

const ID_BYTES = 12;

/**
 * @param secret at least 32 random bytes; makes tokens and opens them.
 * @param accepted secrets that open as well, while they are rotated.
 * @param randomId given only by tests.
 */
export function createExposureTokens(
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
  randomId: () => Uint8Array = () => crypto.getRandomValues(new Uint8Array(ID_BYTES)),
): ExposureTokens {
  const key = derivedKey(secret, 'graft-exposure-v1');
  const openers = [key, ...accepted.map((other) => derivedKey(other, 'graft-exposure-v1'))];
  const encoder = new TextEncoder();
  const newId = (): string => base64url(randomId());
  return {
    newId,
    async issue({ id = newId(), tenant, experiment, version, variant, unit, at }) {
      const payload = [id, tenant, experiment, version, variant, unit, at];
      const head = `v1.${base64url(encoder.encode(JSON.stringify(payload)))}`;
      const mac = await crypto.subtle.sign('HMAC', await key(), encoder.encode(head));
      return `${head}.${base64url(new Uint8Array(mac))}`;
    },

    async open(token, { tenant, now }) {
      if (token.length > MAX_EXPOSURE_CHARACTERS) return err({ kind: 'malformed' });
      const [version, payload, macText, ...rest] = token.split('.');
      if (version !== 'v1' || payload === undefined || macText === undefined || rest.length > 0)
        return err({ kind: 'malformed' });
      const [bytes, mac] = [fromBase64url(payload), fromBase64url(macText)];
      if (bytes === null || mac === null) return err({ kind: 'malformed' });
      const signed = encoder.encode(`v1.${payload}`);
      if (!(await isGenuine(openers, mac, signed))) return err({ kind: 'forged' });
      const parsed = Payload.safeParse(JSON.parse(new TextDecoder().decode(bytes)));
      if (!parsed.success) return err({ kind: 'malformed' });
      const exposure = parsed.data;
      if (exposure.tenant !== tenant) return err({ kind: 'other_tenant' });
      if (exposure.at > now + EXPOSURE_SKEW_MS) return err({ kind: 'forged' });
      const expiredAt = exposure.at + EXPOSURE_LIFE_MS;
      return now >= expiredAt ? err({ kind: 'expired', expiredAt }) : ok(exposure);
    },
  };
}

async function isGenuine(
  openers: readonly (() => Promise<HmacKey>)[],
  mac: Uint8Array<ArrayBuffer>,
  signed: Uint8Array,
): Promise<boolean> {
  // subtle.verify compares in constant time.
  for (const opener of openers)
    if (await crypto.subtle.verify('HMAC', await opener(), mac, signed)) return true;
  return false;
}
