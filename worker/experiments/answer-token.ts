/**
 * What a client gets in the `id` of an answer that belongs to an experiment, and gives back with its feedback, so that no
 * table of answers is kept. Whose answer it was is in it as a keyed hash only.
 */
import { ExperimentId } from '../../protocol/admin-api/experiments.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { fnv1a } from '../../protocol/identity.ts';
import { base64url } from '../../protocol/identity.ts';
import { derivedKey, fromBase64url, type DerivedKey } from '../platform/derived-keys.ts';
import { EXPOSURE_LIFE_MS, EXPOSURE_SKEW_MS } from './limits.ts';

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

const ID_BYTES = 12;

/** @returns one for an answer that is to come. */
export const newExposureId = (): string => base64url(crypto.getRandomValues(new Uint8Array(ID_BYTES)));

/**
 * The exposure as an `id` carries it: 102 characters of base64url, and with `chatcmpl-` before them 111. 76 bytes, numbers with their highest byte first:
 *
 *     0  version, 1                      40  tag of the tenant, 8
 *     1  id of the exposure, 12          48  FNV-1a of the variant's key, 4
 *    13  experiment, 11                  52  version of its document, 4
 *    24  hash of the unit, 16            56  unix s, 4
 *    60  HMAC-SHA-256 over all before it, its first 16 bytes
 */
interface AnswerExposure extends Omit<Exposure, 'tenant' | 'variant'> {
  /** See {@link variantTag}. */
  variantTag: number;
}

export interface AnswerTokens {
  /** @returns null when the experiment's id, or that of the exposure, is none of ours. */
  issue(exposure: Exposure): Promise<string | null>;
  /** @param tenant whose key the request has. @param now unix ms. */
  open(
    token: string,
    asked: { tenant: string; now: number },
  ): Promise<Result<AnswerExposure, ExposureProblem>>;
}

const VERSION = 1;
const EXPERIMENT_BYTES = 11;
const UNIT_BYTES = 16;
const TAG_BYTES = 8;
const MAC_BYTES = 16;
const AT = { experiment: 13, unit: 24, tenant: 40, variant: 48, version: 52, seconds: 56, mac: 60 } as const;
const BYTES = 76;

const EXPERIMENT_PREFIX = 'exp_';
const EXPERIMENT_LETTERS = 16;

/** A variant's key in 32 bits: its name would not fit, and a document has few of them. */
export const variantTag = fnv1a;

/**
 * @param secret at least 32 random bytes; creates and verifies tokens.
 * @param accepted further secrets that open, during a rotation.
 */
export function createAnswerTokens(
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): AnswerTokens {
  const key = derivedKey(secret, 'graft-answer-v1');
  const openers = [key, ...accepted.map((other) => derivedKey(other, 'graft-answer-v1'))];
  return {
    async issue({ id, tenant, experiment, version, variant, unit, at }) {
      const [ownId, ownUnit] = [fromBase64url(id), fromBase64url(unit)];
      const isOurs = ExperimentId.safeParse(experiment).success;
      if (!isOurs || ownId?.length !== ID_BYTES || ownUnit?.length !== UNIT_BYTES) return null;
      const bytes = new Uint8Array(BYTES);
      const view = new DataView(bytes.buffer);
      bytes[0] = VERSION;
      bytes.set(ownId, 1);
      bytes.set(experimentBytes(experiment), AT.experiment);
      bytes.set(ownUnit, AT.unit);
      bytes.set(await tenantTag(await key(), tenant), AT.tenant);
      view.setUint32(AT.variant, variantTag(variant));
      view.setUint32(AT.version, version);
      view.setUint32(AT.seconds, Math.floor(at / 1_000));
      bytes.set(await mac(await key(), bytes.subarray(0, AT.mac), MAC_BYTES), AT.mac);
      return base64url(bytes);
    },

    async open(token, { tenant, now }) {
      const bytes = fromBase64url(token);
      if (bytes?.length !== BYTES || bytes[0] !== VERSION) return err({ kind: 'malformed' });
      const opener = await openerOf(openers, bytes);
      if (opener === null) return err({ kind: 'forged' });
      const view = new DataView(bytes.buffer);
      const at = view.getUint32(AT.seconds) * 1_000;
      const own = bytes.subarray(AT.tenant, AT.tenant + TAG_BYTES);
      if (!isSame(own, await tenantTag(opener, tenant))) return err({ kind: 'other_tenant' });
      if (at > now + EXPOSURE_SKEW_MS) return err({ kind: 'forged' });
      const expiredAt = at + EXPOSURE_LIFE_MS;
      if (now >= expiredAt) return err({ kind: 'expired', expiredAt });
      return ok({
        id: base64url(bytes.subarray(1, AT.experiment)),
        experiment: experimentOf(bytes.subarray(AT.experiment, AT.unit)),
        version: view.getUint32(AT.version),
        variantTag: view.getUint32(AT.variant),
        unit: base64url(bytes.subarray(AT.unit, AT.tenant)),
        at,
      });
    },
  };
}

async function mac(
  key: DerivedKey,
  data: Parameters<typeof crypto.subtle.sign>[2],
  bytes: number,
): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.sign('HMAC', key, data), 0, bytes);
}

/** Keyed: no tenant can look for a name that has another one's. No token begins with a `t`. */
const tenantTag = (key: DerivedKey, tenant: string): Promise<Uint8Array> =>
  mac(key, new TextEncoder().encode(`tenant ${tenant}`), TAG_BYTES);

async function openerOf(
  openers: readonly (() => Promise<DerivedKey>)[],
  bytes: Uint8Array<ArrayBuffer>,
): Promise<DerivedKey | null> {
  for (const opener of openers) {
    const key = await opener();
    if (isSame(bytes.subarray(AT.mac), await mac(key, bytes.subarray(0, AT.mac), MAC_BYTES))) return key;
  }
  return null;
}

/** In a time that does not tell where they differ. */
function isSame(a: Uint8Array, b: Uint8Array): boolean {
  let different = a.length ^ b.length;
  for (let i = 0; i < a.length; i += 1) different |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return different === 0;
}

/** 16 letters of a-z and 0-9 are a number below 2^83. */
function experimentBytes(experiment: string): Uint8Array {
  let number = 0n;
  for (const letter of experiment.slice(EXPERIMENT_PREFIX.length))
    number = number * 36n + BigInt(Number.parseInt(letter, 36));
  const bytes = new Uint8Array(EXPERIMENT_BYTES);
  for (let i = EXPERIMENT_BYTES - 1; i >= 0; i -= 1, number >>= 8n) bytes[i] = Number(number & 0xffn);
  return bytes;
}

function experimentOf(bytes: Uint8Array): string {
  const number = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  return EXPERIMENT_PREFIX + number.toString(36).padStart(EXPERIMENT_LETTERS, '0');
}
